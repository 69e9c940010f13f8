"""The totals of a campaign, as the live view and the answer show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
from rich.table import Table

from explorer.json_out import finding_json
from explorer.report import styled
from explorer.streams import shell_word
from explorer.stress.store import DIVERGED, FINDINGS
from protocol.findings import Finding

if TYPE_CHECKING:
    from rich.console import Console

    from explorer.stress.campaign import Stress
    from explorer.stress.store import Store

NEW_STATES = ("open",)
"""States of bugs that make a campaign fail; the others are known, fixed, or not real."""


@attrs.frozen
class Cause:
    """A cause that a campaign has shown on some `cells`, and the log of one schedule with it.

    A schedule counts in `sightings` once for each signature of the cause that it shows.
    """

    bug: int
    cause: str
    state: str
    judged: str
    note: str
    sightings: int
    cells: int
    kernels: tuple[str, ...]
    signatures: tuple[str, ...]
    log: str
    finding: Finding | None

    @property
    def is_new(self) -> bool:
        """Whether nobody has judged it yet."""
        return self.state in NEW_STATES


@attrs.frozen
class Totals:
    """The figures of a campaign at the end of its last epoch; `schedules` are those of all done jobs up to now.

    Of the `closed` cells some have `diverged`, the others have lost their jobs. `is_exact` says whether
    `classes` were counted, or estimated because a cell has too many of them.
    """

    schedules: int
    steps: int
    cells: int
    closed: int
    diverged: int
    classes: int
    is_exact: bool
    chance: float | None
    draws: int
    pairs: int
    lost: int
    epochs: int
    digest: str
    seconds: float
    causes: tuple[Cause, ...]
    cells_by_yield: tuple[tuple[str, int, int], ...]

    @property
    def new(self) -> tuple[Cause, ...]:
        """The causes that nobody has judged yet."""
        return tuple(cause for cause in self.causes if cause.is_new)


def totals_of(store: Store, campaign: int) -> Totals:
    """The totals of a campaign."""
    (row,) = store.rows(
        "SELECT count(*) cells, total(state = 'closed') closed, total(why LIKE ?) diverged,"
        " total(steps) steps, total(classes << level) classes,"
        " max(level) level, total(once << level) once, total(draws) draws FROM cells WHERE campaign = ?",
        f"{DIVERGED}%",
        campaign,
    )
    (begun,) = store.rows("SELECT * FROM campaigns WHERE id = ?", campaign)
    draws = int(row["draws"])
    return Totals(
        schedules=store.schedules(campaign),
        steps=int(row["steps"]),
        cells=row["cells"],
        closed=int(row["closed"]),
        diverged=int(row["diverged"]),
        classes=int(row["classes"]),
        is_exact=not row["level"],
        chance=row["once"] / draws if draws else None,
        draws=draws,
        pairs=store.value("SELECT count(*) FROM pairs JOIN cells ON cells.id = cell WHERE campaign = ?", campaign),
        lost=store.value("SELECT count(*) FROM jobs WHERE campaign = ? AND state = 'lost'", campaign),
        epochs=begun["epoch"],
        digest=begun["digest"],
        seconds=begun["seconds"],
        causes=causes_of(store, campaign),
        cells_by_yield=tuple(
            (found["name"], found["schedules"], found["with_findings"])
            for found in store.rows(
                "SELECT name, schedules, with_findings FROM cells WHERE campaign = ?"
                " ORDER BY gain / (spent + 1) DESC, id LIMIT 8",
                campaign,
            )
        ),
    )


def causes_of(store: Store, campaign: int) -> tuple[Cause, ...]:
    """The causes that a campaign has shown: new ones first, then by their schedules."""
    rows = store.rows(
        "SELECT bugs.id, cause, bugs.state, judged, note, sum(count) sightings, count(DISTINCT cell) cells,"
        " json_group_array(DISTINCT kernel) kernels, json_group_array(DISTINCT signature) signatures"
        " FROM sightings JOIN cells ON cells.id = cell JOIN bugs ON bugs.id = bug WHERE cells.campaign = ?"
        " GROUP BY bugs.id",
        campaign,
    )
    found = [_cause_of(store, campaign, row) for row in rows]
    return tuple(sorted(found, key=lambda cause: (not cause.is_new, -cause.sightings, cause.bug)))


def _cause_of(store: Store, campaign: int, row: Any) -> Cause:
    witnesses = store.rows(
        "SELECT log, finding FROM witnesses JOIN sightings USING (cell, signature) JOIN cells ON cells.id = cell"
        " WHERE bug = ? AND campaign = ? ORDER BY witnesses.job LIMIT 1",
        row["id"],
        campaign,
    )
    log = str(store.folder / FINDINGS / witnesses[0]["log"]) if witnesses else ""
    finding = msgspec.json.decode(witnesses[0]["finding"], type=Finding) if witnesses else None
    return Cause(
        row["id"],
        row["cause"],
        row["state"],
        row["judged"],
        row["note"],
        row["sightings"],
        row["cells"],
        tuple(sorted(msgspec.json.decode(row["kernels"]))),
        tuple(sorted(msgspec.json.decode(row["signatures"]))),
        log,
        finding,
    )


def show_answer(console: Console, stress: Stress) -> None:
    """Print the causes, the lost jobs and the verdict."""
    totals = stress.totals
    for cause in totals.new:
        console.print(
            styled((f"new cause {cause.bug}", "bold red"), f": {cause.cause}"),
            f"seen {counted(cause.sightings, 'time')} in {counted(cause.cells, 'cell')}, on {', '.join(cause.kernels)}",
            *([cause.note] if cause.note else []),
        )
        if cause.finding is not None:
            console.print(cause.finding.message, *cause.finding.details)
        if cause.log:
            console.print(f"explain: slabrace explain {shell_word(cause.log)}")
    if totals.causes:
        console.print(causes_table(totals.causes))
    for row in stress.store.rows(
        "SELECT jobs.id, way, first, count, jobs.why, name FROM jobs JOIN cells ON cells.id = cell"
        " WHERE jobs.campaign = ? AND jobs.state = 'lost' ORDER BY jobs.id LIMIT 20",
        stress.campaign,
    ):
        last = row["first"] + row["count"] - 1
        where = f"schedules {row['first']} to {last} by {row['way']} of {row['name']}"
        console.print(f"lost: job {row['id']}, {where}: {row['why'].splitlines()[-1]}")
    console.print(verdict(stress))


def counted(number: int, thing: str) -> str:
    """`1 cell`, or `2 cells`."""
    return f"{number} {thing}" + "s" * (number != 1)


def causes_table(causes: Sequence[Cause]) -> Table:
    """A line for each cause."""
    table = Table("bug", "state", "cause", "seen", "cells", "kernels", box=None, pad_edge=False)
    for cause in causes:
        table.add_row(
            str(cause.bug),
            f"{cause.state}, {cause.judged}" if cause.judged else cause.state,
            cause.cause,
            str(cause.sightings),
            str(cause.cells),
            ", ".join(cause.kernels),
        )
    return table


def verdict(stress: Stress) -> Any:
    """The answer in one line."""
    totals = stress.totals
    new, known = len(totals.new), len(totals.causes) - len(totals.new)
    what = f"{counted(new, 'new cause')}, {known} known"
    about = "" if totals.is_exact else "about "
    chance = "" if totals.chance is None else f"; the next draw is of a new class with {totals.chance:.2%}"
    return styled(
        (stress.stopped, "bold"),
        f": {what}; {counted(totals.schedules, 'schedule')} of {counted(totals.cells, 'cell')} in "
        f"{counted(totals.epochs, 'epoch')}, "
        f"{about}{totals.classes} trace classes{chance}",
    )


def answer_json(stress: Stress) -> dict[str, Any]:
    """The JSON object of `stress --json`; docs/json.md describes its keys."""
    totals = stress.totals
    return {
        "outcome": outcome_of(stress),
        "stopped": stress.stopped,
        "store": str(stress.store.folder),
        "campaign": stress.campaign,
        "schedules": totals.schedules,
        "schedules_here": stress.run_here,
        "steps": totals.steps,
        "cells": totals.cells,
        "closed_cells": totals.closed,
        "epochs": totals.epochs,
        "digest": totals.digest,
        "trace_classes": totals.classes,
        "trace_classes_exact": totals.is_exact,
        "chance_of_new_class": totals.chance,
        "drawn": totals.draws,
        "pairs": totals.pairs,
        "causes": [cause_json(cause) for cause in totals.causes],
        "lost_jobs": totals.lost,
        "replaced_workers": stress.replaced,
        "disagreements": stress.disagreements,
        "seconds": round(totals.seconds, 3),
    }


def cause_json(cause: Cause) -> dict[str, Any]:
    """One cause as JSON."""
    told = {
        name: getattr(cause, name)
        for name in ("bug", "cause", "state", "judged", "note", "sightings", "cells", "kernels", "signatures", "log")
    }
    return {**told, "finding": None if cause.finding is None else finding_json(cause.finding)}


def outcome_of(stress: Stress) -> str:
    """The outcome of this part, as one of the words in docs/json.md."""
    if stress.stopped == "interrupted":
        return "interrupted"
    if stress.changed:
        return "refused"
    if stress.disagreements or stress.ended["failed"]:
        return "failed"
    if stress.totals.new:
        return "finding"
    for kind in ("lost", "refused"):
        if stress.ended[kind]:
            return kind
    return "diverged" if stress.totals.diverged else "lost" if stress.stopped == "nothing" else "ok"
