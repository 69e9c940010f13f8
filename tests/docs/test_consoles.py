"""The consoles of the pages show exactly the output of the commands, except seconds and rates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.consoles import (
    Block,
    blocks_of,
    first_difference,
    pages,
    read_blocks,
    rewritten,
    run_page,
    with_names,
)
from tests.tidy.sources import ROOT

PAGES = pages()


def name_of(page: Path) -> str:
    """The name of a page in the names of tests."""
    return page.name


def with_blocks(*, slow: bool) -> list[Path]:
    """The pages with at least one slow block, or with at least one other block."""
    return [page for page in PAGES if any(block.is_run and block.is_slow == slow for block in blocks_of(page))]


def check_page(page: Path, *, slow: bool) -> None:
    """Run the blocks of a page in their order, and compare the output of each with the page."""
    wrong = []
    for block, _, outputs in run_page(page, slow=slow):
        for shown, actual in zip(block.shown, outputs, strict=True):
            difference = first_difference(shown.lines, actual) if shown.lines else ""
            if difference:
                wrong.append(f"{page.name}:{block.line}: $ {shown.command}\n{difference}")

    assert not wrong, "\n\n".join([*wrong, "`make docs` writes what the commands print now"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.is_run and not b.is_slow for b in blocks_of(p))], ids=name_of
)
def test_what_a_page_shows_is_what_is_printed(page: Path) -> None:
    check_page(page, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", with_blocks(slow=True), ids=name_of)
def test_what_a_page_shows_of_long_searches_is_what_is_printed(page: Path) -> None:
    check_page(page, slow=True)


def test_a_block_that_is_one_output_leaves_nothing_out() -> None:
    """A diagram with an elision would be invalid."""
    shown = [one for page in PAGES for block in blocks_of(page) if block.is_output for one in block.shown]

    assert shown
    assert not [one.command for one in shown if any("..." in line for line in one.lines)]


def test_no_page_with_output_is_passed_over() -> None:
    """Every console of every page is read, and only those without output are not run."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        consoles = page.read_text(encoding="utf-8").count("\n```console\n")
        found = [block for block in read_blocks(page.read_text(encoding="utf-8")) if not block.file]

        assert sum(not block.is_output for block in found) == consoles, page
        assert (page in PAGES) == any(block.is_run for block in found), page
    assert ROOT / "README.md" in PAGES


# -- reading ----------------------------------------------------------------------------------------------------------

PAGE = """# A page

<!-- console
slow
LOG=runs/one.log
$ slabrace run canary --log runs/one.log
-->
```console
$ slabrace shrink LOG
1 run
$ slabrace explain LOG.short.log
...
end
```

<!-- another comment -->

```console
$ slabrace list
```

<!-- console
file a.py
-->
```python
x = 1
```

```python
y = 1
```

<!-- console
slow
output slabrace explain LOG --format mermaid
-->
```mermaid
sequenceDiagram
...
```
"""


def test_a_page_is_read() -> None:
    first, second, third, fourth = read_blocks(PAGE)

    assert [(shown.command, shown.lines) for shown in first.shown] == [
        ("slabrace shrink LOG", ["1 run"]),
        ("slabrace explain LOG.short.log", ["...", "end"]),
    ]
    assert (first.is_slow, first.is_run, first.line) == (True, True, 9)
    assert first.names == {"LOG": "runs/one.log"}
    assert first.before == ["slabrace run canary --log runs/one.log"]
    assert str(first) == PAGE[first.begin : first.end]
    assert (second.is_slow, second.is_run) == (False, False)
    assert (third.file, third.text) == ("a.py", "x = 1\n")
    assert [(one.command, one.lines) for one in fourth.shown] == [
        ("slabrace explain LOG --format mermaid", ["sequenceDiagram", "..."])
    ]
    assert (fourth.is_slow, fourth.is_run, str(fourth)) == (True, True, "sequenceDiagram\n...\n")


@pytest.mark.parametrize("text", ["<!-- console\nfast\n-->\n```console\n$ a\n```\n", "```console\noutput\n```\n"])
def test_what_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line"):
        list(read_blocks(text))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("slabrace shrink LOG", "slabrace shrink runs/a.log"),
        ("slabrace explain LOG.short.log", "slabrace explain runs/a.short.log"),
        ("slabrace run x --log runs/LOG", "slabrace run x --log runs/LOG"),
    ],
)
def test_names_stand_for_files(command: str, expected: str) -> None:
    assert with_names(command, {"LOG": "runs/a.log"}) == expected


# -- comparing --------------------------------------------------------------------------------------------------------

OUTPUT = ["one", "two", "2 steps in 0.10 s; digest ab12", "3 of 40 seen, 12/s", "five"]


@pytest.mark.parametrize(
    "shown",
    [
        OUTPUT,
        ["..."],
        ["one", "..."],
        ["...", "five"],
        ["one", "...", "five"],
        ["...", "two", "2 steps in 9.73 s; digest ab12", "..."],
        ["one", "...", "3 of ... seen, 900/s", "five"],
        ["one", "...", "2 steps ...", "...", "five"],
        ["...", "one", "two", "2 steps in 0.10 s; digest ab12", "3 of 40 seen, 12/s", "five", "..."],
    ],
    ids=str,
)
def test_a_page_may_leave_out_and_have_other_seconds(shown: list[str]) -> None:
    assert first_difference(shown, OUTPUT) == ""
    assert rewritten(shown, OUTPUT) == shown


@pytest.mark.parametrize(
    ("shown", "named"),
    [
        (OUTPUT[:-1], "five"),
        (OUTPUT[1:], "two"),
        (["one", "...", "2 steps in 0.10 s; digest ab13", "..."], "ab13"),
        (["one", "...", "4 of 40 seen, 12/s", "five"], "4 of 40"),
        (["...", "five", "two"], "five"),
        (["one", "two", "five"], "five"),
        ([*OUTPUT, "six"], "six"),
        (["one", "...", "two", "3 of 40 seen, 12/s", "..."], "3 of 40"),
    ],
    ids=str,
)
def test_what_is_not_printed_is_named(shown: list[str], named: str) -> None:
    assert named in first_difference(shown, OUTPUT)


# -- updating ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (["one", "...", "7 steps in 1.00 s; digest ff00", "..."], ["one", "...", OUTPUT[2], "..."]),
        (["one", "two", "three"], OUTPUT),
        (["...", "5 of 50 seen, 7/s", "five"], ["...", OUTPUT[3], "five"]),
        (["one", "gone for ever", "two", "..."], ["one", "two", "..."]),
        (["one", "...", "9 of 50 ...", "five"], ["one", "...", "3 of 40 ...", "five"]),
        (["...", "8 steps in ... digest 1234567890ab", "..."], ["...", "2 steps in ... digest ab12", "..."]),
        (["one", "2 steps in 0.10 s; digest ab12", "..."], ["one", "two", OUTPUT[2], "..."]),
        (["one", "five"], OUTPUT),
        (["...", "7 runs in 1.00 ...", "..."], ["...", "2 steps in 0.10 s; ...", "..."]),
    ],
    ids=str,
)
def test_what_is_shown_is_written_anew(shown: list[str], expected: list[str]) -> None:
    found = rewritten(shown, OUTPUT)

    assert found == expected
    assert first_difference(found, OUTPUT) == ""


def test_the_row_of_a_table_is_that_of_the_same_name() -> None:
    rows = [
        f"{name:8} {number}  {number + 1}" for number, name in enumerate(["ant", "bee", "cat", "dog", "elk", "fox"])
    ]

    assert rewritten(["...", "ant      9  9", "fox      8  8"], rows) == [rows[0], "...", rows[5]]


def test_a_block_that_changes_changes_nothing_else() -> None:
    (block,) = (block for block in read_blocks("a\n```console\n$ x\n1\n```\nb\n"))
    block.shown[0].lines = ["2"]

    assert isinstance(block, Block)
    assert str(block) == "$ x\n2\n"
