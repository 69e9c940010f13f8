"""Every command in the documentation is valid, and every target of a link exists."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from actors.versions.user_code import parse_reference
from explorer.cli.usage import make_parser
from scenarios import find_scenario
from tests.tidy.sources import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(slabrace [^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
NAMED_PLACE = re.compile(r'<a id="([^"]+)">')

ANY_SCENARIO = {"SCENARIO", "NAME"}

EXAMPLE_FILES = {"./mine.py", "mine.py"}
"""Files that pages name without showing them."""
"""The placeholders of a scenario in descriptions of commands."""


@attrs.frozen
class Shown:
    """A command in the documentation."""

    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.name}: {' '.join(self.words)}"


def commands(page: Path) -> Iterator[Shown]:
    """The slabrace commands of a page, in consoles, in shell blocks and inside lines of text."""
    text = page.read_text(encoding="utf-8")
    lines = []
    for language, block in BLOCK.findall(text):
        if language == "console":
            lines += [line[2:] for line in block.splitlines() if line.startswith("$ ")]
        elif language == "sh":
            lines += block.splitlines()
    lines += INLINE.findall(BLOCK.sub("", text))
    for line in lines:
        words = shlex.split(line.partition(" | ")[0], comments=True)
        if words and words[0] == "slabrace":
            yield Shown(page, tuple(words[1:]))


def as_typed(words: tuple[str, ...]) -> list[str]:
    """A command as a user would type it: the placeholders of a description are replaced."""
    typed = [word for word in words if not word.startswith("[")]
    fill_in = {"N": "1", "STEP": "1", "K": "5.3", "SCHEDULES": "1", "SHELL": "bash"}
    return [fill_in.get(word, word) for word in typed]


SHOWN = [command for page in PAGES for command in commands(page)]


def test_there_are_commands_and_pages() -> None:
    assert len(SHOWN) > 40
    assert {"README.md", "tour.md", "patches.md", "kernel-files.md", "pytest.md", "match.md", "log-format.md"} <= {
        command.page.name for command in SHOWN
    }


@pytest.mark.parametrize("shown", dict.fromkeys(SHOWN), ids=str)
def test_a_command_that_is_shown_is_one(shown: Shown) -> None:
    if len(shown.words) == 1:
        assert shown.words[0] in command_names(), "a text speaks of it"
        return
    options = make_parser().parse_args(as_typed(shown.words))
    scenario = getattr(options, "scenario", None)

    for name in [scenario] if isinstance(scenario, str) else scenario or []:
        file = parse_reference(name, ()).file
        is_file = file in EXAMPLE_FILES or f"# {file}\n" in shown.page.read_text(encoding="utf-8")
        assert name in ANY_SCENARIO or (is_file if file else find_scenario(name))


def command_names() -> list[str]:
    (action,) = [one for one in make_parser()._actions if isinstance(one, argparse._SubParsersAction)]
    return sorted(action.choices)


def test_every_command_has_its_row_on_the_page_of_commands() -> None:
    page = ROOT / "docs" / "commands.md"
    rows = re.findall(r"^\| `slabrace (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(rows) == command_names()


# -- links ------------------------------------------------------------------------------------------------------------


def links(page: Path) -> list[str]:
    """The targets of a page's links within the repository."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [target for target in LINK.findall(text) if "://" not in target]


def anchor(heading: str) -> str:
    """The anchor of a heading, as forges make it."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"<[^>]*>", "", heading).lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """The anchors of a page: its headings, and its explicit anchors."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return {anchor(heading) for heading in HEADING.findall(text)} | set(NAMED_PLACE.findall(text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for target in links(page):
        name, _, place = target.partition("#")
        file = page.parent / name if name else page

        assert file.is_file(), target
        if place:
            assert place in anchors(file), target


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, new = set[Path](), {ROOT / "README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        names = [target.partition("#")[0] for target in links(page)]
        new |= {(page.parent / name).resolve() for name in names if name.endswith(".md")} - reached

    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= reached


# -- files and places -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_of_the_repository_that_a_page_names_exists(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    named = re.findall(r"`((?:protocol|actors|scenarios|explorer|tests|docs)/[\w./-]+\.\w+)`", text)

    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_no_place_of_the_machine_it_was_written_on(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert not re.findall(r"(?<![\w/.])/(?:tmp|work|home|root|Users)/\S*", text)
