"""mkdocs.yml: every page is in the site, and the site loads nothing from other hosts."""

from __future__ import annotations

import re

from tests.tidy.sources import ROOT

DOCS = ROOT / "docs"
CONFIGURATION = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation_once() -> None:
    navigation = CONFIGURATION.partition("\nnav:\n")[2].partition("\nplugins:\n")[0]
    listed = re.findall(r"^ +- (\S+\.md)$", navigation, re.MULTILINE)

    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_every_broken_link_ends_the_build() -> None:
    validation = CONFIGURATION.partition("\nvalidation:\n")[2]

    for what in ("omitted_files", "absolute_links", "unrecognized_links", "anchors"):
        assert re.search(rf"^ +{what}: warn$", validation, re.MULTILINE), what
    assert "mkdocs build --strict\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_site_fetches_nothing() -> None:
    """Syntax highlighting and the fonts of most themes would be loaded from a CDN."""
    assert "highlightjs: false" in CONFIGURATION
    assert "://" not in CONFIGURATION
