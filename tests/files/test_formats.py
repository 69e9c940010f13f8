"""Every format: rendered rows are parsed unchanged, columns are where the kernel puts them, other text is refused."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.errors import UsageError
from protocol.formats.cgroup_files import (
    CgroupsRow,
    parse_cgroups,
    parse_flat_keyed,
    parse_u64,
    render_cgroups,
    render_flat_keyed,
    render_u64,
)
from protocol.formats.columns import escape, unescape
from protocol.formats.kpagecgroup import pack_kpagecgroup, unpack_kpagecgroup
from protocol.formats.memcg_slabinfo import MemcgSlabinfoRow, parse_memcg_slabinfo, render_memcg_slabinfo
from protocol.formats.slab_directory import DirectoryEntry, parse_directory, render_directory, unique_id
from protocol.formats.slabinfo import SlabinfoRow, parse_kmem_slabinfo, render_row, render_slabinfo
from protocol.formats.slabinfo_full import CacheState, FullRow, parse_slabinfo_full, render_slabinfo_full

names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40)
cgroup_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
counts = st.integers(0, 2**64 - 1)
serials = st.integers(1, 10**6)


def owners(name: str, serial: int) -> str:
    return f"{serial}:{name}"


slabinfo_rows = st.builds(
    SlabinfoRow, names, counts, counts, st.just(192), st.just(21), st.just(1), *[counts for _ in range(6)]
)
memcg_rows = st.one_of(
    st.builds(MemcgSlabinfoRow, names, st.none(), st.just(""), counts, counts, counts, counts),
    st.builds(MemcgSlabinfoRow, names, serials, st.sampled_from(["", "dead", "deact"]), counts, counts, counts, counts),
)
memcgs = st.none() | st.builds(owners, cgroup_names, serials)
full_rows = st.builds(
    FullRow, names, memcgs, memcgs, st.sampled_from(CacheState), counts, counts, counts, counts, counts
)
entries = st.builds(DirectoryEntry, cgroup_names, st.none() | cgroup_names)


# -- what is rendered is parsed ---------------------------------------------------------------------------------------


@given(st.lists(slabinfo_rows, max_size=5))
def test_kmem_slabinfo(rows: list[SlabinfoRow]) -> None:
    """Rows may repeat: a parent has zombie caches of several children, all under the root cache's name."""
    assert parse_kmem_slabinfo(render_slabinfo(rows + rows), source="x") == tuple(rows + rows)


def test_kmem_slabinfo_of_a_memcg_without_caches_is_empty() -> None:
    assert parse_kmem_slabinfo("", source="x") == ()


@given(st.lists(memcg_rows, max_size=5))
def test_memcg_slabinfo(rows: list[MemcgSlabinfoRow]) -> None:
    assert parse_memcg_slabinfo(render_memcg_slabinfo(rows), source="x") == tuple(rows)


@given(st.lists(full_rows, max_size=5))
def test_slabinfo_full(rows: list[FullRow]) -> None:
    assert parse_slabinfo_full(render_slabinfo_full(rows), source="x") == tuple(rows)


@given(st.dictionaries(names, counts, max_size=5))
def test_flat_keyed(values: dict[str, int]) -> None:
    assert parse_flat_keyed(render_flat_keyed(values), source="x") == values


@given(counts)
def test_u64(value: int) -> None:
    assert parse_u64(render_u64(value), source="x") == value


@given(st.lists(st.builds(CgroupsRow, names, counts, counts, counts), max_size=3))
def test_cgroups(rows: list[CgroupsRow]) -> None:
    assert parse_cgroups(render_cgroups(rows), source="x") == tuple(rows)


@given(st.lists(counts, max_size=50))
def test_kpagecgroup(inodes: list[int]) -> None:
    assert unpack_kpagecgroup(pack_kpagecgroup(inodes), source="x") == tuple(inodes)


@given(st.lists(entries, max_size=8))
@example([DirectoryEntry("->", "->"), DirectoryEntry("a->b"), DirectoryEntry("#")])
def test_slab_directory(listed: list[DirectoryEntry]) -> None:
    """The entries are in the order of a directory, independent of the given order."""
    parsed = parse_directory(render_directory(listed), source="x")

    assert sorted(map(repr, parsed)) == sorted(map(repr, listed))


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("# a comment")
@example("a -> b")
def test_any_name_is_one_printable_column_and_comes_back(name: str) -> None:
    column = escape(name)

    assert unescape(column) == name
    assert column.isprintable()
    assert " " not in column
    assert len(column.split()) == bool(name)


# -- layouts, field by field (KERNEL.md 10) ---------------------------------------------------------------------------


def test_a_row_of_slabinfo() -> None:
    """cache_show(): "%-17s %6lu %6lu %6u %4u %4d", then tunables and slabdata."""
    row = SlabinfoRow("dentry", 1, 21, 192, 21, 1, active_slabs=1, num_slabs=1)

    assert render_row(row) == (
        "dentry                 1     21    192   21    1 : tunables    0    0    0 : slabdata      1      1      0\n"
    )


def test_rows_of_memcg_slabinfo() -> None:
    """memcg_slabinfo_show(): "%-17s root       %6lu ..." and "%-17s %4d%-6s %6lu ..."."""
    rows = [
        MemcgSlabinfoRow("xfs_inode", None, "", 770, 816, 24, 24),
        MemcgSlabinfoRow("xfs_inode", 92, "", 22, 34, 1, 1),
        MemcgSlabinfoRow("xfs_inode", 88, "dead", 1, 34, 1, 1),
        MemcgSlabinfoRow("xfs_inode", 10234, "deact", 23, 34, 1, 1),
        MemcgSlabinfoRow("a_name_of_more_than_17", 1, "", 0, 0, 0, 0),
    ]

    assert render_memcg_slabinfo(rows).splitlines() == [
        "# <name> <css_id[:dead|deact]> <active_objs> <num_objs> <active_slabs> <num_slabs>",
        "xfs_inode         root          770    816     24     24",
        "xfs_inode           92           22     34      1      1",
        "xfs_inode           88:dead       1     34      1      1",
        "xfs_inode         10234:deact     23     34      1      1",
        "a_name_of_more_than_17    1            0      0      0      0",
    ]


def test_a_row_of_slabinfo_full() -> None:
    rows = [
        FullRow("dentry", None, None, CacheState.ACTIVE, 1, 21, 1, 1, 5),
        FullRow("dentry", "3:a job", "1:/", CacheState.DRAINING, 1, 21, 1, 1, 1_000_000_000),
    ]

    assert render_slabinfo_full(rows).splitlines() == [
        "slabinfo_full - version: 1.0",
        "# name            <owner> <memcg> <state> <active_objs> <num_objs> <active_slabs> <num_slabs> <age_ns>",
        "dentry            -              -              active           1     21      1      1            5",
        r"dentry            3:a\040job     1:/            draining         1     21      1      1   1000000000",
    ]


def test_a_counter_below_zero_is_printed_as_an_unsigned_one() -> None:
    assert render_u64(-4096) == "18446744073709547520\n"


@pytest.mark.parametrize(
    ("size", "is_reclaimable", "is_accounted", "name"),
    [
        (192, False, False, ":0000192"),
        (192, False, True, ":A-0000192"),
        (104, True, False, ":a-0000104"),
        (32, True, True, ":aA-0000032"),
        (12_345_678, False, False, ":12345678"),
    ],
)
def test_the_name_of_a_mergeable_cache(size: int, name: str, *, is_reclaimable: bool, is_accounted: bool) -> None:
    """create_unique_id()."""
    assert unique_id(size, is_reclaimable=is_reclaimable, is_accounted=is_accounted) == name


def test_a_directory_is_listed_by_path() -> None:
    listed = [DirectoryEntry("b"), DirectoryEntry("a-b"), DirectoryEntry("a/cgroup/c"), DirectoryEntry("a", "b")]

    assert render_directory(listed).splitlines() == ["a -> b", "a/cgroup/c", "a-b", "b"]


# -- what is refused --------------------------------------------------------------------------------------------------

SLABINFO_FULL = render_slabinfo_full([FullRow("x", None, None, CacheState.ACTIVE, 1, 1, 1, 1, 1)])
MEMCG_SLABINFO = render_memcg_slabinfo([MemcgSlabinfoRow("x", 3, "dead", 1, 1, 1, 1)])
CGROUPS = render_cgroups([CgroupsRow("memory", 0, 1, 1)])


@pytest.mark.parametrize(
    ("parse", "text", "line"),
    [
        pytest.param(parse_memcg_slabinfo, "", 1, id="memcg_slabinfo: nothing"),
        pytest.param(parse_memcg_slabinfo, SLABINFO_FULL, 1, id="memcg_slabinfo: another file"),
        pytest.param(
            parse_memcg_slabinfo, MEMCG_SLABINFO.replace("3:dead", "3:sick"), 2, id="memcg_slabinfo: a status"
        ),
        pytest.param(parse_memcg_slabinfo, MEMCG_SLABINFO.replace("3:", "x:"), 2, id="memcg_slabinfo: an id"),
        pytest.param(parse_memcg_slabinfo, MEMCG_SLABINFO.rstrip() + " 7\n", 2, id="memcg_slabinfo: a number too many"),
        pytest.param(parse_memcg_slabinfo, MEMCG_SLABINFO[:-4], 2, id="memcg_slabinfo: a number too few"),
        pytest.param(parse_slabinfo_full, MEMCG_SLABINFO, 1, id="slabinfo_full: another file"),
        pytest.param(parse_slabinfo_full, SLABINFO_FULL.replace("active ", "asleep "), 3, id="slabinfo_full: a state"),
        pytest.param(parse_slabinfo_full, SLABINFO_FULL[:-3], 3, id="slabinfo_full: torn"),
        pytest.param(parse_slabinfo_full, SLABINFO_FULL + "x\n", 4, id="slabinfo_full: only a name"),
        pytest.param(parse_flat_keyed, "a 1\na 2\n", 2, id="flat keyed: twice"),
        pytest.param(parse_flat_keyed, "a 1\nb\n", 2, id="flat keyed: no value"),
        pytest.param(parse_flat_keyed, "a -1\n", 1, id="flat keyed: below zero"),
        pytest.param(parse_u64, "", 1, id="u64: nothing"),
        pytest.param(parse_u64, f"{2**64}\n", 1, id="u64: too large"),
        pytest.param(parse_u64, "9" * 5000, 1, id="u64: much too large"),
        pytest.param(parse_u64, "1 2\n", 1, id="u64: two"),
        pytest.param(parse_u64, "1\n2\n", 2, id="u64: two lines"),
        pytest.param(parse_cgroups, "memory 0 1 1\n", 1, id="cgroups: no header"),
        pytest.param(parse_cgroups, CGROUPS + "cpu\t0\n", 3, id="cgroups: torn"),
        pytest.param(parse_kmem_slabinfo, "memory 0 1 1\n", 1, id="kmem.slabinfo: another file"),
        pytest.param(parse_directory, "a ->\n", 1, id="directory: a link to nowhere"),
        pytest.param(parse_directory, "a b\n", 1, id="directory: two words"),
        pytest.param(parse_directory, "a\na -> b c\n", 2, id="directory: two targets"),
    ],
)
def test_what_is_not_the_file_is_refused_by_its_line(parse: Callable[..., object], text: str, line: int) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text, source="some file")
    message = str(raised.value)

    assert re.match(rf"some file, line {line}: .", message), message
    assert message.isprintable()


def test_a_kpagecgroup_that_ends_inside_an_entry_is_refused() -> None:
    with pytest.raises(UsageError, match="some file: 12 bytes"):
        unpack_kpagecgroup(bytes(12), source="some file")
