"""The captures of Linux 6.12 match on 6.12 and on no other kernel; those of 2019 do not match on 6.12."""

from __future__ import annotations

import attrs
import pytest

from actors.versions.kernel_fn import FunctionTable
from actors.versions.profiles import WITHOUT_CHILD_CACHES
from explorer.match.scope import CAPTURED_TODAY, OUT_OF_SCOPE, names_of
from explorer.match.search import SearchResult, search
from protocol.formats.ftrace import parse_ftrace
from tests.match.traces import DATA, REMOVALS, STORIES, Capture, cut, entry_lines, match, subject

KERNEL = "6.12"
OTHERS = ("original", "5.3", "5.4-fixed", "7.2")


@attrs.frozen
class TodaysCapture:
    """One capture of 6.12, with the scenario and the functions that are ignored."""

    story: str
    scenario: str
    ignored: tuple[str, ...] = ()

    def text(self) -> str:
        return (DATA / f"ftrace-linux-6.12-{self.story}.txt").read_text(encoding="utf-8")

    def match(self, text: str, kernel: str = KERNEL, *, budget: int = 1) -> SearchResult:
        return search([subject(text, kernel, self.scenario, ignored=self.ignored)], budget=budget)

    def __str__(self) -> str:
        return self.story


CAPTURES = (
    TodaysCapture("create", "traced-create", ("__d_free", "i_callback")),
    TodaysCapture("rmdir-idle", "traced-rmdir-idle"),
    TodaysCapture("rmdir-held", "traced-rmdir-held"),
    TodaysCapture("rmdir-page", "traced-rmdir-page"),
    TodaysCapture("rmdir-idle-charges", "traced-rmdir-idle"),
    TodaysCapture("rmdir-late", "traced-rmdir-late", ("i_callback",)),
    TodaysCapture("cache-destroy", "traced-cache-destroy", ("__d_free",)),
)

LAZY = ("rmdir-late", "rmdir-page")
"""The captures that need the lazy run."""

each_capture = pytest.mark.parametrize("capture", CAPTURES, ids=str)


@each_capture
def test_a_capture_of_6_12_matches_without_a_deviation(capture: TodaysCapture) -> None:
    """The second run is the lazy one."""
    found = capture.match(capture.text(), budget=2 if capture.story in LAZY else 1)

    assert found.is_match, found.best.divergence


@each_capture
@pytest.mark.parametrize("kernel", OTHERS)
def test_a_capture_of_6_12_matches_on_no_other_kernel(capture: TodaysCapture, kernel: str) -> None:
    """Where the capture's own scenario is for today's kernels only, one of 2019's scenarios stands in."""
    is_its_own = capture.scenario in STORIES.values() or kernel in WITHOUT_CHILD_CACHES
    there = capture.scenario if is_its_own else "traced-rmdir-held"
    found = attrs.evolve(capture, scenario=there).match(capture.text(), kernel, budget=3)

    assert not found.is_match
    assert found.best.divergence is not None


@pytest.mark.parametrize("capture", REMOVALS, ids=str)
def test_a_capture_of_2019_does_not_match_on_6_12(capture: Capture) -> None:
    assert not match(capture.text(), KERNEL, STORIES[capture.story], budget=3).is_match


@each_capture
def test_a_line_that_is_cut_out_is_missed(capture: TodaysCapture) -> None:
    """Each seventh of the lines that are compared; the slow test cuts out all of them."""
    for index in compared_lines(capture)[::7]:
        assert not capture.match(cut(capture.text(), index)).is_match, capture.text().splitlines()[index]


@pytest.mark.slow
@each_capture
def test_every_line_that_is_cut_out_is_missed(capture: TodaysCapture) -> None:
    for index in compared_lines(capture):
        found = capture.match(cut(capture.text(), index), budget=5)

        assert not found.is_match, capture.text().splitlines()[index]


def compared_lines(capture: TodaysCapture) -> list[int]:
    """The indices of the lines that a run must match."""
    lines = {event.line for event in subject(capture.text(), KERNEL, capture.scenario, ignored=capture.ignored).events}
    return [index for index in entry_lines(capture.text()) if index + 1 in lines]


def test_the_filters_are_what_the_captures_show() -> None:
    """The functions of all captures that the model has; -charges was taken with more."""
    here = names_of(FunctionTable(KERNEL, "slub"))
    skipped = {name for group in OUT_OF_SCOPE for name in group.functions}

    def shown(*paths: str) -> set[str]:
        lines = (line for path in paths for line in parse_ftrace((DATA / path).read_bytes(), source=path).lines)
        return {here[line.function].name for line in lines if line.function in here.keys() - skipped}

    charges = "ftrace-linux-6.12-rmdir-idle-charges.txt"
    others = [path.name for path in DATA.glob("ftrace-linux-6.12-*.txt") if path.name != charges]

    assert shown(*others) == CAPTURED_TODAY["lifecycle"]
    assert shown(charges) - shown(*others) == CAPTURED_TODAY["charges"]
