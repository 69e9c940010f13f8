"""docs/glossary.md explains only words that are used, each of them once."""

from __future__ import annotations

import re

import pytest

from tests.docs.citations import KERNEL_PAGES
from tests.tidy.sources import ROOT, SHIPPED, modules

PAGE = ROOT / "docs" / "glossary.md"
ROWS = [
    tuple(cell.strip() for cell in row.split("|")[1:-1])
    for table in PAGE.read_text(encoding="utf-8").partition("## Marks")[0].split("\n## ")[1:]
    for row in table.splitlines()
    if row.startswith("| ") and not row.startswith("| here")
]
WORDS = [word.strip() for row in ROWS for word in row[0].split(",")]


def used() -> str:
    """All text of the repository except the glossary: code, messages, pages."""
    pages = [path for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if path != PAGE]
    texts = [page.read_text("utf-8") for page in pages if page.parent != KERNEL_PAGES]
    return "\n".join([*texts, *(module.text for module in modules(*SHIPPED, "benchmarks"))])


TEXT = re.sub(r"\s+", " ", used())


def test_there_are_words() -> None:
    assert len(WORDS) > 30
    assert all(len(row) == 3 and all(row) for row in ROWS)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_the_glossary_is_used(word: str) -> None:
    """A word that is not used any more has to be removed from the glossary."""
    assert len(re.findall(rf"\b{re.escape(word)}s?\b", TEXT, re.IGNORECASE)) >= 3


def test_no_word_is_explained_twice() -> None:
    assert len(set(WORDS)) == len(WORDS)


def test_the_readme_links_the_glossary() -> None:
    assert "(docs/glossary.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
