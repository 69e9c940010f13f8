"""What a campaign shows while it runs: a live table on a terminal, lines elsewhere, and events for machines."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from explorer.events import make_logger
from explorer.search.report import line_marks
from explorer.streams import as_text, complain, tell
from protocol.errors import UsageError

if TYPE_CHECKING:
    from explorer.stress.campaign import Stress

REFRESH_SECONDS = 0.5
SHOWN_CELLS, SHOWN_CAUSES = 5, 8
BARS = "▁▂▃▄▅▆▇█"
LONGEST_CURVE = 40


class Observer:
    """Takes the events of a campaign: rare ones are told, all go to the file of events."""

    def __init__(self, events: str | None) -> None:
        """*events* is the path of the file, `-` for standard output, or None; UsageError if it cannot be written."""
        self._files = ExitStack()
        self._console = Console(stderr=True, highlight=False)
        self._logger = None if events is None else make_logger(self._open(events), json=True)
        self._live: Live | None = None
        self._shown = 0.0
        self._next_line = 100
        self._curve: deque[tuple[int, int]] = deque(maxlen=1 << 12)
        self.stress: Stress | None = None

    def _open(self, name: str) -> TextIO:
        if name == "-":
            return sys.stdout
        try:
            return self._files.enter_context(Path(name).open("a", encoding="utf-8", buffering=1))
        except OSError as error:
            msg = f"--events {name}: cannot write it: {error.strerror}"
            raise UsageError(msg) from None

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        """Take one event."""
        self._log(event, fields)
        line = as_line(event, fields)
        if line:
            self._console.print(as_text(line), markup=False, emoji=False, soft_wrap=True)
        if event == "epoch":
            self._curve.append((fields["schedules"], fields["classes"]))
        self.show()

    def _log(self, event: str, fields: dict[str, Any]) -> None:
        if self._logger is None or self.stress is None:
            return
        try:
            self._logger.info(event, campaign=self.stress.campaign, at=round(time.time(), 3), **fields)
        except OSError as error:
            self._logger = None
            complain(f"--events: no more are written: {error.strerror}")

    def show(self) -> None:
        """Show the progress, if an update is due."""
        stress = self.stress
        if stress is None:
            return
        if not self._console.is_terminal:
            if stress.run_here >= self._next_line:
                self._next_line = next(mark for mark in line_marks() if mark > stress.run_here)
                tell(progress_line(stress))
            return
        now = time.monotonic()
        if now - self._shown < REFRESH_SECONDS:
            return
        self._shown = now
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(progress_table(stress, self._curve), refresh=True)

    def close(self) -> None:
        """Remove the table, and close the file."""
        if self._live is not None:
            self._live.stop()
        with contextlib.suppress(OSError):  # of text that could not be written, which was told then
            self._files.close()


LINES = {
    "new cause": "{state} cause {bug}: {cause} (in {cell})",
    "worker replaced": "a worker of job {job} was replaced: {why} (try {tries})",
    "job lost": "job {job} is lost: {why}",
    "cell closed": "no more schedules of {name}: {why}",
    "two answers": "job {job} had two answers: {first} and {second}; slabrace is not deterministic there",
    "drivers disagree": "{why}",
    "drawn": "drawn: {cell}",
    "workers": "{why}; the cluster has {count}",
}
"""The events that a person is told of, each with its line."""


def as_line(event: str, fields: dict[str, Any]) -> str:
    """The line for an event; empty for the frequent ones. Of a traceback it has the last line."""
    last = {
        name: value.splitlines()[-1] if isinstance(value, str) and value else value for name, value in fields.items()
    }
    return LINES[event].format_map(last) if event in LINES else ""


def rate(stress: Stress) -> float:
    """Schedules for each second of this part."""
    return stress.run_here / max(time.monotonic() - stress.part_began, 1e-9)


def progress_line(stress: Stress) -> str:
    """One line, for output that is not a terminal."""
    totals = stress.totals
    chance = "" if totals.chance is None else f", next of a new class {totals.chance:.1%}"
    return (
        f"{stress.done} schedules, {rate(stress):.0f}/s, epoch {stress.epoch}, {totals.classes} classes{chance}, "
        f"{len(totals.causes)} causes"
    )


def progress_table(stress: Stress, curve: deque[tuple[int, int]]) -> Group:
    """The live view: figures, the discovery curve, the causes, the best cells."""
    totals = stress.totals
    figures = Table(
        "schedules", "per s", "jobs at once", "epoch", "jobs left", "classes", "next is new", "lost", box=None
    )
    figures.add_row(
        str(stress.done),
        f"{rate(stress):.0f}",
        str(stress.engine.room),
        str(stress.epoch),
        str(stress.left),
        str(totals.classes),
        "?" if totals.chance is None else f"{totals.chance:.1%}",
        str(totals.lost),
    )
    causes = Table("cause", "state", "seen", "cells", box=None)
    for cause in totals.causes[:SHOWN_CAUSES]:
        causes.add_row(as_text(cause.cause), cause.state, str(cause.sightings), str(cause.cells))
    cells = Table("cells by yield", "schedules", "with findings", box=None)
    for name, schedules, with_findings in totals.cells_by_yield[:SHOWN_CELLS]:
        cells.add_row(as_text(name), str(schedules), str(with_findings))
    parts: list[Any] = [figures, f"classes {spark([classes for _, classes in curve])}", causes, cells]
    return Group(*parts)


def spark(values: list[int]) -> str:
    """A curve in one line: the growth from each value to the next, at most `LONGEST_CURVE` characters."""
    if len(values) > LONGEST_CURVE:
        values = [values[index * (len(values) - 1) // LONGEST_CURVE] for index in range(LONGEST_CURVE + 1)]
    steps = [after - before for before, after in zip([0, *values], values, strict=False)]
    most = max(steps, default=0) or 1
    return "".join(BARS[(len(BARS) - 1) * step // most] for step in steps)
