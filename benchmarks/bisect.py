"""`bisect`: whether `slabrace bisect` gives the history of each historical bug as the table in `rows` has it.

`python -m benchmarks bisect` takes one log of each row, from its oldest kernel, and writes the table into docs/try.md.
It takes a long time, so it runs only when named.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from benchmarks.pages import DOCS, markdown_table, put_between_markers
from benchmarks.rows import Kernel, Row, find_rows
from benchmarks.trials import Task, search_first
from explorer import defaults
from explorer.experiment import NOTHING_GIVEN
from explorer.session import record
from explorer.trial.causes import cause_of
from explorer.trial.history import History
from explorer.trial.kernels import Kernel as Probed
from explorer.trial.probes import Probe, Question
from protocol.errors import UsageError

SEARCH_BUDGET = 5_000
"""Most schedules to the log of a row."""


@attrs.frozen
class Outcome:
    """The history of a row, beside the expected one; `wrong` are the kernels whose answer is not the table's."""

    row: Row
    kernel: Kernel
    signature: str
    history: History
    wrong: tuple[str, ...]
    seconds: float


def bisect_row(row: Row, budget: int, workers: int) -> Outcome:
    """Search a log of the row, write the history of its flaw, and compare."""
    began = time.monotonic()
    kernel = next((one for one in row.having if not (one.patches or one.without)), row.having[0])
    campaign, found = search_first(Task(row, kernel, "portfolio", 0, SEARCH_BUDGET))
    if found is None:
        msg = f"{row.slug}: not found on {kernel} in {SEARCH_BUDGET} schedules"
        raise UsageError(msg)
    experiment = campaign.experiment
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "row.log")
        record(experiment, found.strategy, found.remake(), found.finding, log)
        cause = cause_of(experiment, found.schedule, found.finding)
        question = Question(log, NOTHING_GIVEN, cause, found.schedule, budget, seed=0)
        history = History(question, Probed.of(experiment.header), workers)
        history.write()
    wrong = tuple(differences(row, history))
    return Outcome(row, kernel, found.finding.signature, history, wrong, time.monotonic() - began)


def differences(row: Row, history: History) -> Iterator[str]:
    """The kernels with another answer than the table: of the profiles, and of the kernels with and without fixes."""
    having, cured = set(map(str, row.having)), set(map(str, row.cured))
    for one in probes_of(history):
        name, status = str(one.kernel), history.status(one)
        if (name in having and status != "shown") or (name in cured and status in {"shown", "refused"}):
            yield f"{name}: {status}{f' as {one.sign}' if one.sign else ''}"


def probes_of(history: History) -> list[Probe]:
    """All probes of a history."""
    return [*history.plain.values(), *history.parts, *history.added.values(), *history.removed.values()]


def row_of(outcome: Outcome) -> list[str]:
    """The line of one row in the table."""
    history = outcome.history
    (changes, *_) = [history.changes(chain) for chain in history.chains]
    introduced = [" or ".join(change.at) for change in changes if not change.is_cure]
    cured = [" or ".join(change.at) for change in changes if change.is_cure]
    fixes = [f"{fix} on {history.own}" for fix in history.cures]
    fixes += [f"{fix} in {one.kernel}" for one in history.plain.values() for fix in history.cured_by(one.kernel)]
    parts = [f"from {one.kernel} to {history.own}" for one in history.parts if history.status(one) == "absent"]
    masked = [
        f"{name}: {status}"
        for name, one in history.plain.items()
        if (status := history.status(one)) in {"masked", "another"}
    ]
    return [
        outcome.row.slug,
        f"`{outcome.signature}` on {outcome.kernel}",
        ", ".join([*introduced, *parts]),
        ", ".join([*cured, *fixes]),
        ", ".join(masked),
        "as the table" if not outcome.wrong else f"**not as the table**: {'; '.join(outcome.wrong)}",
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `bisect`."""
    parser.add_argument("--rows", nargs="+", default=[], metavar="SLUG", help="only these rows")
    parser.add_argument("--budget", type=int, default=defaults.BISECT_BUDGET, metavar="SCHEDULES", help="of one kernel")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="number of processes")
    parser.add_argument("--no-page", action="store_true", help="leave docs/try.md alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(options: argparse.Namespace) -> int:
    """Bisect the rows and write the table; 1 if the history of one is not as its row says."""
    outcomes = []
    for row in find_rows(options.rows):
        outcome = bisect_row(row, options.budget, options.processes)
        outcomes.append(outcome)
        print(f"{row.slug}: {outcome.seconds:.0f} s; {'; '.join(outcome.wrong) or 'as the table'}", file=sys.stderr)
    head = ["flaw", "log", "introduced by", "cured by", "masked", "verdict"]
    right = sum(not one.wrong for one in outcomes)
    lines = [
        f"Budget of each kernel: {options.budget} schedules. {right} of {len(outcomes)} rows are as the table says.",
        "",
        *markdown_table(head, map(row_of, outcomes)),
    ]
    if options.json:
        print(json.dumps({one.row.slug: list(one.wrong) for one in outcomes}))
    else:
        print("\n".join(lines))
    if not options.no_page and not options.rows:
        put_between_markers(DOCS / "try.md", "bisect", lines)
    return int(right < len(outcomes))
