"""Every citation of a kernel page or of docs/search.md can be followed, and every mark is explained."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.citations import (
    KERNEL_PAGES,
    PACKAGES,
    Citation,
    all_citations,
    anchors_of,
    cited_pages,
    docstrings,
    in_module,
    in_page,
    meanings,
    sections_in,
)
from tests.tidy.sources import ROOT, Module, modules

PAGE = KERNEL_PAGES / "5.2-to-5.4.md"

MARK = re.compile(r"(?<![\w.)\]])\[([^\]`]{1,60})\](?!\()|\((inf|base|\\\*)\)")
"""A mark: text in brackets that does not follow a word, unlike an index such as `entries[id]`."""

KERNEL_MARK = re.compile(r"(?<![\w.)\]])\[(O|M|\d\d|v\d+)\]")
"""A mark in a docstring."""

EXPLAINED = re.compile(r"\[ ?([^\]]+?) ?\](?!\()|\((\S+)\)")

FILE_NAME = re.compile(r"(?<![\w/.*-])((?:[\w.-]+/)*[\w.-]+\.md)\b")


def module(text: str, place: str = "actors/linux/mm/slab_common.py") -> Module:
    return Module(ROOT / place, text, ast.parse(text))


# -- citations --------------------------------------------------------------------------------------------------------


def test_every_citation_can_be_followed() -> None:
    assert "\n".join(filter(None, (citation.wrong() for citation in all_citations()))) == ""


def test_there_are_citations_of_each_kind() -> None:
    """A check that found no citations would check nothing."""
    found = all_citations()
    folders = {str(citation.file.relative_to(ROOT)).partition("/")[0] for citation in found}

    assert len(found) > 500
    assert {"actors", "scenarios", "explorer", "protocol", "benchmarks", "tests", "docs"} <= folders
    assert {citation.page for citation in found} >= set(cited_pages()) - {"BUGS-today.md"}


def test_every_page_of_the_table_is_there_and_has_sections() -> None:
    for name, page in cited_pages().items():
        assert page.is_file(), name
        assert len(anchors_of(page)) > 10, name
    assert {page for page in cited_pages().values() if page.parent == KERNEL_PAGES} == {
        page for page in KERNEL_PAGES.glob("*.md") if page.name != "README.md"
    }


@pytest.mark.parametrize(
    ("text", "page", "sections"),
    [
        ('"""Caches. KERNEL.md 5 to 8, KERNEL-v1-v3.md."""', "KERNEL.md", ("5", "8")),
        ('"""(KERNEL.md 7.1.3 and 4, 7.2.6)."""', "KERNEL.md", ("7.1.3", "4", "7.2.6")),
        ('"""It is so (KERNEL.md\n    11.2)."""', "KERNEL.md", ("11.2",)),
        ('"""KERNEL-v1-v3 2.9."""', "KERNEL-v1-v3.md", ("2.9",)),
        ('def f():\n    """7.2.6 and 9: run what comes next."""', "KERNEL.md", ("7.2.6", "9")),
        ('def f():\n    """[v6] to [M]: 5.3b to e, with the lock."""', "KERNEL.md", ("5.3b", "e")),
        ('def f():\n    """4.1.M steps 1 to 3, under RCU."""', "KERNEL.md", ("4.1.M",)),
        ('def f():\n    """The parent has it by then (I13)."""', "KERNEL.md", ("I13",)),
        ("# why: the stock keeps it (9.3)\n", "KERNEL.md", ("9.3",)),
        ('X = 1\n"""Free slabs (11.4 to 11.6)."""', "KERNEL.md", ("11.4", "11.6")),
    ],
)
def test_a_citation_is_read(text: str, page: str, sections: tuple[str, ...]) -> None:
    found = [(citation.page, citation.sections) for citation in in_module(module(text))]

    assert found[0] == (page, sections)


@pytest.mark.parametrize(
    "text",
    [
        'def f():\n    """It takes 3 steps, (1) and (2)."""',
        'KERNEL = "5.3"',
        '"""Two of them (see tests/data/README.md)."""',
        'TEXT = "(5.11)"',
        'def f():\n    """3 of 4 are left."""',
    ],
)
def test_what_is_no_citation_is_not_read_as_one(text: str) -> None:
    assert list(in_module(module(text))) == []


def test_brackets_in_the_explorer_are_sections_of_the_search_page() -> None:
    (found,) = in_module(module('"""Steps are accesses (4.0)."""', "explorer/search/strategies/sampling.py"))

    assert found.page == "SEARCH.md"
    assert not found.wrong()


def test_the_short_names_of_the_kernel_pages_are_followed() -> None:
    text = "as K 9.1; see D 7.2 and KT T10"
    found = [(one.page, one.sections) for one in in_page(KERNEL_PAGES / "7.2.md", text)]

    assert found == [
        ("KERNEL.md", ("9.1",)),
        ("KERNEL-today.md", ("7.2",)),
        ("KERNEL-today.md", ("T10",)),
    ]


@pytest.mark.parametrize(
    ("section", "near"), [("7.2.99", "7.2"), ("99.1", "9.1"), ("I99", "I9"), ("4.1.Q", "4.1"), ("7.2.6z", "7.2")]
)
def test_a_section_that_is_not_there_is_reported_with_its_place_and_the_nearest(section: str, near: str) -> None:
    text = f'"""One."""\n\n\ndef f():\n    """Do it (KERNEL.md {section})."""\n'
    (found, *_) = in_module(module(text))

    assert found.wrong().startswith(
        f"actors/linux/mm/slab_common.py:5: KERNEL.md has no section {section}; the nearest is"
    )
    assert found.wrong().endswith(near)


def test_a_page_that_is_in_no_row_is_reported() -> None:
    assert "is in no row" in Citation(ROOT / "README.md", 1, "KERNEL-9.md").wrong()


@pytest.mark.parametrize(
    ("text", "anchors"),
    [
        ("7.1.3 and 4", ["7.1.3", "7.1.4"]),
        ("5.3b to e", ["5.3b", "5.3e"]),
        ("4.3, F3", ["4.3", "4.3.F3"]),
        ("8.2, appendix A6", ["8.2", "A6"]),
        ("9 and 13", ["9", "13"]),
    ],
)
def test_what_a_list_means(text: str, anchors: list[str]) -> None:
    there, found = anchors_of(PAGE), list[str]()
    for section in sections_in(text):
        found.append(next(one for one in meanings(section, found) if one in there))

    assert found == anchors


def test_no_section_is_there_twice() -> None:
    for page in cited_pages().values():
        ids = re.findall(r'<a id="([^"]+)">', page.read_text(encoding="utf-8"))
        assert sorted(set(ids)) == sorted(ids), page


# -- files ------------------------------------------------------------------------------------------------------------


def test_every_page_that_is_named_is_there() -> None:
    """The readers of a docstring have this repository and no other documents."""
    wrong = []
    texts = [(module.path, text) for module in modules(*PACKAGES) for _, text in docstrings(module.tree)]
    texts += [(page, page.read_text("utf-8")) for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]]
    for path, text in texts:
        for match in FILE_NAME.finditer(text):
            folders = (ROOT, ROOT / "docs", path.parent)
            if match[1] not in cited_pages() and not any((folder / match[1]).is_file() for folder in folders):
                wrong.append(f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {match[1]}")

    assert wrong == []


# -- marks ------------------------------------------------------------------------------------------------------------


def explained(page: Path) -> set[str]:
    """The marks in the first column of the tables at the head of a page, and in its glossary rows."""
    rows = re.findall(r"^\| (.*?) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    marks = {match[1] or match[2] for row in rows for match in EXPLAINED.finditer(row)}
    return marks | {f"v{n}" for n in range(1, 8) if "v1" in marks}


def first_of(mark: str) -> str:
    """The part of a mark that needs an explanation: `v4` of `v4 6/7, v7 10/10`, `s` of `s percpu_ref_init`."""
    return re.split(r"[ ,:/;+]|\.\.", mark, maxsplit=1)[0]


@pytest.mark.parametrize("page", sorted(set(cited_pages().values())), ids=lambda page: page.name)
def test_every_mark_of_a_kernel_page_is_explained_at_its_head(page: Path) -> None:
    text = re.sub(r"\s+", " ", re.sub(r'<a id="[^"]*"></a>|`[^`\n]*`', "", page.read_text(encoding="utf-8")))
    known = explained(page)
    used = {(match[1] or match[2]).strip() for match in MARK.finditer(text)}
    unexplained = {
        mark
        for mark in used
        if mark not in known
        and first_of(mark) not in known
        and not re.search(r"\.[ch]\b|_|header|PATCH", mark)  # files and functions that were read, subjects of mails
    }

    assert unexplained == set()


def test_every_mark_of_a_docstring_is_explained_on_the_kernel_page_and_in_the_glossary() -> None:
    used = {
        mark
        for module in modules(*PACKAGES)
        for _, text in docstrings(module.tree)
        for mark in KERNEL_MARK.findall(text)
    }

    assert used >= {"O", "M", "54", "v1", "v7"}
    assert used <= explained(KERNEL_PAGES / "README.md")
    assert used <= explained(ROOT / "docs" / "glossary.md")
