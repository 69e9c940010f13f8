"""Citations of the kernel pages and of docs/search.md: their places, and the sections that they refer to.

The table of docs/kernel/README.md maps each name to its page. A citation is one of

- the name of a page, alone or with sections: `KERNEL.md 7.1, I5 and Q5`, `SEARCH.md 4.9`;
- a docstring of the kernel, of a scenario or of a test that begins with sections of KERNEL.md: `7.2.6 and 9: run ...`;
- sections alone in brackets, in a docstring or a comment: `(11.4 to 11.6)`; they are sections of SEARCH.md in the
  explorer, and of KERNEL.md elsewhere;
- invariants of 6.12 by their labels, which only KERNEL-today.md has: `T2, T3: references cover all that is booked`;
- on the kernel pages `K 9.1`, `KT 8.6`, `D 7.2`, `V 4.3`: their short names of each other.
"""

from __future__ import annotations

import ast
import difflib
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from tests.tidy.sources import ROOT, Module, modules

KERNEL_PAGES = ROOT / "docs" / "kernel"
PACKAGES = ("protocol", "actors", "scenarios", "explorer", "slabrace", "benchmarks", "tests")
SHORT_NAMES = {"K": "KERNEL.md", "KT": "KERNEL-today.md", "D": "KERNEL-today.md", "V": "KERNEL-v1-v3.md"}
BARE_PAGES = {"explorer": "SEARCH.md", "benchmarks": "SEARCH.md"}
"""The page of bare sections in the modules of a package, where it is not KERNEL.md."""

NUMBER = r"(?:\d+(?:\.\d+|\.[A-Z]\d*)+[a-z]?|\d+[a-z]?|N\d+(?:\.\d+)+)(?![\w#]|-\w)"
LABEL = r"[A-Z]\d+(?:\.\d+)?(?!\w)"
SECTION = rf"(?:[Aa]ppendix )?(?:{LABEL}|{NUMBER})"
JOIN = r"(?:,\s+(?:and\s+)?|\s+and\s+|\s+to\s+|\s*\u2013\s*|,)"
LIST = rf"{SECTION}(?:{JOIN}(?:{SECTION}|[a-e](?!\w)))*"
NAME = r"KERNEL(?:-v1-v3|-today|-7\.2)?\.md|KERNEL-(?:v1-v3|today|7\.2)(?!\.md)|BUGS(?:-today)?\.md|SEARCH\.md"

NAMED = re.compile(rf"(?<![\w/`-])({NAME})(?:\s+({LIST}))?")
BRACKETED = re.compile(rf"\(({LIST})\)")
LEADING = re.compile(rf"\A\s*({LIST})(?=[\s.:,;])")
SHORT = re.compile(rf"(?<![\w.])(K|KT|D|V) ({LIST})")
IS_SECTION = re.compile(r"[HIQTU]\d|A\d|[A-Z]?\d+(?:\.\d+|\.[OM])+")
"""The required beginning of a bare list: `(9)` and `(1)` are no sections."""

OF_TODAY = re.compile(r"[TU]\d")
"""The labels of invariants that only KERNEL-today.md has."""

ANCHOR = re.compile(r'<a id="([^"]+)">')


@attrs.frozen
class Citation:
    """A page that a text cites, and the cited sections, as written in the text."""

    file: Path
    line: int
    page: str
    sections: tuple[str, ...] = ()

    def wrong(self) -> str:
        """The first cited section that the page does not have, its place, and the nearest existing one; or empty."""
        place = f"{self.file.relative_to(ROOT)}:{self.line}"
        if self.page not in cited_pages():
            return f"{place}: {self.page} is in no row of docs/kernel/README.md"
        anchors = anchors_of(cited_pages()[self.page])
        before: list[str] = []
        for section in self.sections:
            found = next((one for one in meanings(section, before) if one in anchors), None)
            if found is None:
                return f"{place}: {self.page} has no section {section}; the nearest is {nearest(section, anchors)}"
            before.append(found)
        return ""


@functools.cache
def cited_pages() -> dict[str, Path]:
    """The pages by the names used in citations."""
    rows = re.findall(
        r"^\| `([\w.-]+\.md)` \| \[[^\]]+\]\(([^)]+)\) \|",
        (KERNEL_PAGES / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    return {name: (KERNEL_PAGES / target).resolve() for name, target in rows}


@functools.cache
def anchors_of(page: Path) -> frozenset[str]:
    """The sections that can be cited of a page."""
    return frozenset(ANCHOR.findall(page.read_text(encoding="utf-8")))


def meanings(section: str, before: list[str]) -> Iterator[str]:
    """The anchors that a section of a list may mean, after those *before* it: `7.1.3 and 4` is 7.1.3 and 7.1.4.

    A label of a step belongs to a section before it: `4.3, F3` is 4.3.F3.
    """
    name = section.removeprefix("appendix ").removeprefix("Appendix ")
    if name != section and not name[1:]:
        yield f"appendix-{name}"
    for earlier in reversed(before):
        if name.isalpha():
            yield earlier.rstrip("abcdefgh") + name
        elif name.isdigit() and "." in earlier:
            yield f"{earlier.rpartition('.')[0]}.{name}"
        elif name[0].isalpha() or name.rstrip("abcdefgh").isdigit():
            yield f"{earlier}.{name}"
    yield name


def nearest(section: str, anchors: frozenset[str]) -> str:
    """The existing section nearest to a missing one: the section that would contain it, if there is one."""
    name = section
    while name:
        if name in anchors:
            return name
        name = name.rpartition(".")[0]
    return next(iter(difflib.get_close_matches(section, sorted(anchors), n=1, cutoff=0)))


def sections_in(text: str) -> tuple[str, ...]:
    """The sections of a list."""
    return tuple(part for part in re.split(JOIN, text.strip()) if part)


# -- the places of citations ------------------------------------------------------------------------------------------


@functools.cache
def all_citations() -> list[Citation]:
    """Every citation of the repository."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "data" / "README.md"]
    found = [citation for page in sorted(pages) for citation in in_page(page, page.read_text(encoding="utf-8"))]
    return found + [citation for module in modules(*PACKAGES) for citation in in_module(module)]


def in_page(path: Path, text: str) -> Iterator[Citation]:
    """The citations of a page; on the kernel pages the short names, and sections in brackets, too."""
    yield from named(path, text, 1)
    if path.parent == KERNEL_PAGES and path.name != "README.md":
        own = next((name for name, page in cited_pages().items() if page == path), "")
        for match in SHORT.finditer(text):
            yield Citation(path, line_of(text, match, 1), SHORT_NAMES[match[1]], sections_in(match[2]))
        if own and ANCHOR.search(text):
            yield from bare(path, text, 1, own)


def in_module(module: Module) -> Iterator[Citation]:
    """The citations of a module: pages that it names anywhere, and bare sections in docstrings and comments."""
    if module.path.parent == Path(__file__).parent:
        return  # these modules have examples of citations
    yield from named(module.path, module.text, 1)
    package = module.name.partition("/")[0]
    page = BARE_PAGES.get(package, "KERNEL.md")
    for line, text in docstrings(module.tree):
        match = LEADING.match(re.sub(r"^(?:\[[^\]]+\][ ,:]*(?:to )?)+", "", text))
        if page == "KERNEL.md" and match is not None and IS_SECTION.match(match[1]):
            yield from by_labels(Citation(module.path, line, page, sections_in(match[1])))
        yield from bare(module.path, text, line, page)
    for line, text in module.comments():
        yield from bare(module.path, text, line, page)


def named(path: Path, text: str, first: int) -> Iterator[Citation]:
    """The citations that name their page."""
    for match in NAMED.finditer(text):
        name = match[1] if match[1].endswith(".md") else f"{match[1]}.md"
        yield Citation(path, line_of(text, match, first), name, sections_in(match[2] or ""))


def bare(path: Path, text: str, first: int, page: str) -> Iterator[Citation]:
    """The sections in brackets."""
    for match in BRACKETED.finditer(text):
        if IS_SECTION.match(match[1]):
            yield from by_labels(Citation(path, line_of(text, match, first), page, sections_in(match[1])))


def by_labels(citation: Citation) -> Iterator[Citation]:
    """A citation without the name of a page; `T3` and `U4` are invariants of KERNEL-today.md."""
    of_today = tuple(section for section in citation.sections if OF_TODAY.match(section))
    others = tuple(section for section in citation.sections if section not in of_today)
    if others or not of_today:
        yield attrs.evolve(citation, sections=others)
    if of_today:
        yield attrs.evolve(citation, page="KERNEL-today.md", sections=of_today)


def line_of(text: str, match: re.Match[str], first: int) -> int:
    """The line of the begin of a match in a text that begins on line *first*."""
    return first + text.count("\n", 0, match.start())


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each docstring with its line: of modules, classes and functions, and the strings below an assignment."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text
