"""/proc/slabinfo: rendered rows are parsed again, real captures are read, and other text is refused by line number."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.errors import UsageError
from protocol.formats.slabinfo import (
    COLUMNS_LINE,
    PAGE_SIZE,
    VERSION_LINE,
    SlabinfoRow,
    parse_slabinfo,
    render_slabinfo,
)
from scenarios.registry import DEFAULT_CAPTURE, SLABINFO, default_value, read_capture

GOOD_ROW = "dentry 100 210 192 21 1 : tunables 0 0 0 : slabdata 10 10 0"

names = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=40).filter(
    lambda name: not name.startswith("#")
)
counts = st.integers(0, 10**12)


@st.composite
def rows(draw: st.DrawFn) -> SlabinfoRow:
    """A row whose objects fit into its slab."""
    pages = 2 ** draw(st.integers(0, 5))
    size = draw(st.integers(1, pages * PAGE_SIZE))
    per_slab = draw(st.integers(1, pages * PAGE_SIZE // size))
    return SlabinfoRow(
        draw(names), draw(counts), draw(counts), size, per_slab, pages, *(draw(counts) for _ in range(6))
    )


# -- what is rendered is parsed ---------------------------------------------------------------------------------------


@given(st.lists(rows(), min_size=1, max_size=8, unique_by=lambda row: row.name))
def test_rows_are_parsed_as_they_were_rendered(written: list[SlabinfoRow]) -> None:
    assert parse_slabinfo(render_slabinfo(written), source="x") == tuple(written)


def test_a_row_is_laid_out_as_the_kernel_prints_it() -> None:
    """mm/slab_common.c: cache_show() and slabinfo_show_stats(), column by column."""
    row = SlabinfoRow("kmalloc-64", 5632, 5632, 64, 64, 1, 120, 60, 8, 88, 88, 0)

    assert render_slabinfo([row]).splitlines() == [
        "slabinfo - version: 2.1",
        COLUMNS_LINE,
        "kmalloc-64          5632   5632     64   64    1 : tunables  120   60    8 : slabdata     88     88      0",
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"{VERSION_LINE}\n{GOOD_ROW}\n", id="no line of columns"),
        pytest.param(f"{VERSION_LINE} (statistics)\n{COLUMNS_LINE}\n{GOOD_ROW}\n", id="with statistics"),
        pytest.param(f"{VERSION_LINE}\n{COLUMNS_LINE}\n\n{GOOD_ROW}\n\n", id="empty lines"),
        pytest.param(f"{VERSION_LINE}\r\n{COLUMNS_LINE}\r\n{GOOD_ROW}\r\n", id="line ends of another system"),
        pytest.param(f"{VERSION_LINE}\n{COLUMNS_LINE}\n{GOOD_ROW}", id="no line end at the end"),
        pytest.param(f"{VERSION_LINE}\n{COLUMNS_LINE}\n{GOOD_ROW} : globalstat 1 2 3 : cpustat 4 5 6 7\n", id="debug"),
    ],
)
def test_variants_of_a_capture_by_kernels_and_tools_are_accepted(text: str) -> None:
    (row,) = parse_slabinfo(text, source="x")

    assert row == SlabinfoRow("dentry", 100, 210, 192, 21, 1, active_slabs=10, num_slabs=10)


# -- the shipped capture ----------------------------------------------------------------------------------------------


def shipped() -> str:
    return resources.files("scenarios").joinpath("data", DEFAULT_CAPTURE).read_text(encoding="utf-8")


def test_the_shipped_capture_has_a_row_for_each_of_its_lines_with_the_numbers_that_stand_there() -> None:
    lines = shipped().splitlines()[2:]
    parsed = parse_slabinfo(shipped(), source="x")

    assert len(parsed) == len(lines) > 100
    for line, row in zip(lines, parsed, strict=True):
        assert [*map(str, attrs.astuple(row))] == [word for word in line.split() if word not in SECTION_WORDS]


SECTION_WORDS = (":", "tunables", "slabdata")


@pytest.mark.parametrize(
    ("name", "objsize", "objperslab", "pagesperslab"),
    [
        ("dentry", 192, 21, 1),
        ("kmalloc-8", 8, 512, 1),
        ("kmalloc-4k", 4096, 8, 8),
    ],
)
def test_the_shipped_capture_has_the_geometry_of_well_known_caches(
    name: str, objsize: int, objperslab: int, pagesperslab: int
) -> None:
    rows = {row.name: row for row in parse_slabinfo(shipped(), source="x")}

    assert (rows[name].objsize, rows[name].objperslab, rows[name].pagesperslab) == (objsize, objperslab, pagesperslab)


def test_the_shipped_capture_is_rendered_as_it_was_captured_but_for_spaces() -> None:
    rendered = render_slabinfo(parse_slabinfo(shipped(), source="x"))

    assert [line.split() for line in rendered.splitlines()] == [line.split() for line in shipped().splitlines()]


def test_the_shipped_capture_is_the_default() -> None:
    assert default_value(SLABINFO) == shipped()


# -- what is refused --------------------------------------------------------------------------------------------------


def refused(text: str) -> tuple[int, str]:
    """The line number and the text of the usage error."""
    with pytest.raises(UsageError) as raised:
        parse_slabinfo(text, source="some file")
    message = str(raised.value)
    found = re.fullmatch(r"some file, line (\d+): (.+)", message)

    assert found is not None, message
    return int(found[1]), found[2]


BROKEN_ROWS = {
    "a word for a number": "dentry x 210 192 21 1 : tunables 0 0 0 : slabdata 10 10 0",
    "a negative number": "dentry 100 210 192 21 1 : tunables -1 0 0 : slabdata 10 10 0",
    "a fraction": "dentry 100 210 192.5 21 1 : tunables 0 0 0 : slabdata 10 10 0",
    "digits of another script": "dentry 100 210 192 ²1 1 : tunables 0 0 0 : slabdata 10 10 0",
    "a number too few": "dentry 100 210 192 21 : tunables 0 0 0 : slabdata 10 10 0",
    "a number too many": "dentry 100 210 192 21 1 7 : tunables 0 0 0 : slabdata 10 10 0",
    "torn after the name": "dentry",
    "torn in the numbers": "dentry 100 210 192",
    "torn before the tunables": "dentry 100 210 192 21 1",
    "torn in the tunables": "dentry 100 210 192 21 1 : tunables 0",
    "torn before the slabdata": "dentry 100 210 192 21 1 : tunables 0 0 0",
    "torn in the slabdata": "dentry 100 210 192 21 1 : tunables 0 0 0 : slabdata 10 10",
    "format 1.1, without sections": "dentry 100 210 192 21 1 1",
    "sections in another order": "dentry 100 210 192 21 1 : slabdata 0 0 0 : tunables 10 10 0",
    "something behind the row": "dentry 100 210 192 21 1 : tunables 0 0 0 : slabdata 10 10 0 extra",
    "objects of no size": "dentry 100 210 0 21 1 : tunables 0 0 0 : slabdata 10 10 0",
    "no objects in a slab": "dentry 100 210 192 0 1 : tunables 0 0 0 : slabdata 10 10 0",
    "no pages in a slab": "dentry 100 210 192 21 0 : tunables 0 0 0 : slabdata 10 10 0",
    "three pages in a slab": "dentry 100 210 192 21 3 : tunables 0 0 0 : slabdata 10 10 0",
    "objects that do not fit": "dentry 100 210 192 22 1 : tunables 0 0 0 : slabdata 10 10 0",
    "pages that no allocation has": "dentry 100 210 1 100 2048 : tunables 0 0 0 : slabdata 10 10 0",
    "objects that no slab has": "dentry 100 210 1 70000 32 : tunables 0 0 0 : slabdata 10 10 0",
    "a number of five thousand digits": f"dentry {'9' * 5000} 210 192 21 1 : tunables 0 0 0 : slabdata 10 10 0",
}


@pytest.mark.parametrize("row", BROKEN_ROWS.values(), ids=BROKEN_ROWS)
@pytest.mark.parametrize("before", [0, 1, 40])
def test_a_malformed_row_is_refused_by_its_line(row: str, before: int) -> None:
    good = [f"cache-{number} 1 1 64 64 1 : tunables 0 0 0 : slabdata 1 1 0" for number in range(before)]
    text = "\n".join([VERSION_LINE, COLUMNS_LINE, *good, row, GOOD_ROW.replace("dentry", "last")])
    number, message = refused(text)

    assert number == before + 3
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("", 1, id="nothing"),
        pytest.param("\n\n", 1, id="empty lines"),
        pytest.param("hello\n", 1, id="another text"),
        pytest.param("slabinfo - version: 1.1\nkmem_cache 1 2 3\n", 1, id="an old version"),
        pytest.param("slabinfo - version: 2.10\n", 1, id="a later version"),
        pytest.param(f"{COLUMNS_LINE}\n{GOOD_ROW}\n", 1, id="no line of the version"),
        pytest.param(f"{VERSION_LINE}\n", 1, id="only the version"),
        pytest.param(f"{VERSION_LINE}\n{COLUMNS_LINE}\n", 2, id="only the first two lines"),
        pytest.param(f"{VERSION_LINE}\n{GOOD_ROW}\n{GOOD_ROW}\n", 3, id="the same cache twice"),
    ],
)
def test_a_text_that_is_no_capture_is_refused_by_its_line(text: str, line: int) -> None:
    assert refused(text)[0] == line


@given(st.text(max_size=200))
@example("\x00")
@example(f"{VERSION_LINE}\n\x00")
def test_any_text_is_parsed_or_refused_with_a_line_that_it_has(text: str) -> None:
    for candidate in (text, f"{VERSION_LINE}\n{text}", f"{VERSION_LINE}\n{GOOD_ROW}\n{text}"):
        try:
            parsed = parse_slabinfo(candidate, source="some file")
        except UsageError:
            number, message = refused(candidate)

            assert 1 <= number <= len(candidate.splitlines()) + 1
            assert message.isprintable()
        else:
            assert parsed


@given(data=st.data())
def test_a_capture_that_is_cut_off_anywhere_is_refused_or_cut_after_a_row(data: st.DataObject) -> None:
    """A cut adds no row: the parsed rows are the first rows of the whole text, the last number perhaps cut short."""
    whole = parse_slabinfo(shipped(), source="x")
    place = data.draw(st.integers(0, len(shipped())))
    try:
        parsed = parse_slabinfo(shipped()[:place], source="some file")
    except UsageError:
        assert refused(shipped()[:place])[0] <= shipped()[:place].count("\n") + 1
    else:
        assert parsed[:-1] == whole[: len(parsed) - 1]
        assert parsed[-1] == attrs.evolve(whole[len(parsed) - 1], sharedavail=parsed[-1].sharedavail)


# -- files ------------------------------------------------------------------------------------------------------------


def test_the_line_number_is_the_one_an_editor_shows(tmp_path: Path) -> None:
    """Only line feeds end a line: a form feed or a Unicode separator in a name does not."""
    path = tmp_path / "capture"
    odd = "odd\u2028name\x0c 1 1 64 64 1 : tunables 0 0 0 : slabdata 1 1 0"
    path.write_text(f"{VERSION_LINE}\n{COLUMNS_LINE}\n{odd}\n{GOOD_ROW}\nbroken\n", encoding="utf-8")

    with pytest.raises(UsageError) as raised:
        read_capture(path)
    assert re.search(r"line [35]: ", str(raised.value)), str(raised.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param(b"\x7fELF\x02\x01\x01\x00\xff\xfe\x80", 1, id="a program"),
        pytest.param(f"{VERSION_LINE}\n{COLUMNS_LINE}\n".encode() + b"dentry \xff\xfe 1\n", 3, id="bytes in a row"),
        pytest.param(f"{VERSION_LINE}\n{COLUMNS_LINE}\n{GOOD_ROW}\n".encode() + bytes(100), 4, id="a tail of zeros"),
        pytest.param(b"", 1, id="an empty file"),
    ],
)
def test_a_file_that_is_no_text_is_refused_by_its_line(tmp_path: Path, content: bytes, line: int) -> None:
    path = tmp_path / "capture"
    path.write_bytes(content)

    with pytest.raises(UsageError) as raised:
        read_capture(path)
    assert re.match(rf"{re.escape(str(path))}, line {line}: ", str(raised.value)), str(raised.value)
    assert str(raised.value).isprintable()


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="cannot read it: "):
            read_capture(path)
