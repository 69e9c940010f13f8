"""The command `bisect`."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from rich.table import Table

from explorer import signals
from explorer.cli.options import given, open_log
from explorer.json_out import print_json
from explorer.report import LiveProgress, make_console, styled
from explorer.search.report import describe
from explorer.shrink import reproduce
from explorer.signals import EXIT_INTERRUPTED
from explorer.trace import trace_log
from explorer.trial.causes import cause_of
from explorer.trial.history import ENOUGH, Change, History
from explorer.trial.kernels import Kernel
from explorer.trial.probes import Probe, Question
from protocol.vocabulary import STEPS

if TYPE_CHECKING:
    from rich.console import Console

    from explorer.trial.history import Status

WORDS: dict[Status, tuple[str, str]] = {
    "shown": ("yes", "red"),
    "absent": ("no", "green"),
    "masked": ("masked", "yellow"),
    "another": ("another", "yellow"),
    "refused": ("-", "yellow"),
}
"""The words for each status in tables, with their styles."""


@attrs.define
class Report:
    """A history with its circumstances; `is_cut` means that a signal has ended it."""

    options: argparse.Namespace
    history: History
    is_cut: bool = False
    began: float = attrs.field(factory=time.monotonic)


def main(options: argparse.Namespace) -> int:
    """Write the history of the flaw of a log; return the exit code."""
    experiment = open_log(options)
    logged = trace_log(experiment, options.log, options.signature)
    trace, _ = reproduce(experiment, logged.schedule, logged.signature)
    assert trace.found is not None, "reproduce() only returns runs that show the flaw"
    progress = LiveProgress()
    cause = cause_of(experiment, trace.schedule, trace.found)
    question = Question(options.log, given(options), cause, trace.schedule, options.budget, options.seed)
    report = Report(options, History(question, Kernel.of(experiment.header), options.workers))
    report.history.progress = lambda one: progress.show(f"looked on {one.kernel}")
    try:
        report.history.write()
    except KeyboardInterrupt:
        report.is_cut = True
    finally:
        progress.close()
    show(report)
    return EXIT_INTERRUPTED if report.is_cut else 0


@signals.answering()
def show(report: Report) -> None:
    """Print the answer."""
    if report.options.json:
        print_json(to_json(report))
    else:
        show_history(make_console(), report)


# -- as text -----------------------------------------------------------------------------------------------------------


def show_history(console: Console, report: Report) -> None:
    """Print the flaw, the kernels with their evidence, and the answer."""
    history = report.history
    cause = history.question.cause
    console.print(styled((cause.finding.signature, "bold"), f" on {history.own}"))
    console.print(f"  {depends_on(history)}", f"  {how_rare(history)}")
    console.print(table_of(history, history.plain.values(), "kernel"))
    changed = [*history.parts, *history.added.values(), *history.removed.values()]
    if changed:
        console.print(table_of(history, changed, "with and without fixes"))
    console.print(*answer_lines(history))
    if report.is_cut:
        console.print("interrupted: the other kernels were not tried")


def depends_on(history: History) -> str:
    """What the flaw depends on, in a line."""
    cause = history.question.cause
    if cause.needs_no_race:
        return "it needs no race"
    if not cause.pairs:
        return "no single pair of racing steps decides about it"
    return f"it depends on the order of two steps: {describe(cause.pairs[0])}"


def how_rare(history: History) -> str:
    """How long the flaw takes to find, so how much it says that a search does not show it."""
    found = history.search
    if found is None or not found.sign:
        missed = f"a search of {history.question.budget} schedules on {history.own} misses it"
        return f"{missed}: every 'no' below is weak evidence"
    enough = ENOUGH * found.schedules
    weak = f"; a 'no' in fewer than {enough} schedules is weak evidence" if enough > history.question.budget else ""
    return f"a search on {history.own} finds it after {found.schedules} schedules{weak}"


def table_of(history: History, probes: Iterable[Probe], title: str) -> Table:
    """The kernels, and the evidence of each."""
    table = Table(title, "flaw", "evidence", box=None, pad_edge=False)
    for one in probes:
        table.add_row(str(one.kernel), styled(WORDS[history.status(one)]), evidence(history, one))
    return table


def evidence(history: History, one: Probe) -> str:
    """The evidence of one kernel, in words."""
    if one.refused:
        return one.refused
    if one.sign:
        how = "its own schedule, by names" if not one.schedules else f"found after {one.schedules} schedules"
        is_other_sign = one.sign != history.question.cause.finding.signature
        return how + (f": {one.sign} ({one.why})" if is_other_sign else "")
    schedules = f"{one.schedules} schedules"
    parts = [f"not in {f'all {schedules} (exhausted)' if one.is_all else schedules}"]
    parts += [f"{one.ended} of them end before, most with {one.ended_by}"] if one.ended else []
    parts += [] if one.races else ["its two steps did not race"]
    return "; ".join(parts)


def answer_lines(history: History) -> list[str]:
    """What introduces, cures and masks the flaw."""
    lines = [change_line(change, chain) for chain in history.chains for change in history.changes(chain)]
    lines += [
        f"introduced by {changed_in(history.own, one.kernel)}: {one.kernel} does not show it"
        for one in gone_parts(history)
    ]
    lines += [f"cured by {fix} on {history.own}" for fix in history.cures]
    for one in history.plain.values():
        cured = history.cured_by(one.kernel)
        lines += [f"cured by {fix} in {one.kernel}, which shows it without that fix" for fix in cured]
    notes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in history.plain.values():
        if note := note_on(history, one):
            notes[note].append(str(one.kernel))
    lines += [f"{what} on {', '.join(kernels)}{why}" for (what, why), kernels in notes.items()]
    return list(dict.fromkeys(lines)) or ["no kernel has an answer"]


def note_on(history: History, one: Probe) -> tuple[str, str] | None:
    """What hides the flaw on a kernel, or that the kernel shows another one; None if there is nothing to note."""
    status = history.status(one)
    if status == "another":
        having = [fix for fix in history.cures if one.kernel.has_built_in(fix)]
        return "another flaw with this sign", f": {', '.join(having)} is built in"
    if status != "masked":
        return None
    first = f" by {one.ended_by}, which comes first" if one.is_masked else ""
    fixes = history.masks(one.kernel)
    return "masked", first + (f": with {' or '.join(fixes)} it shows" if fixes else "")


def change_line(change: Change, chain: Sequence[str]) -> str:
    """One change of a chain of kernels."""
    if not change.is_cure and change.at == (chain[0],):
        return f"in {chain[0]} already"
    where = "among the steps of v4: " if chain[-1] in STEPS else ""
    return f"{where}{'cured' if change.is_cure else 'introduced'} by {' or '.join(change.at)}"


def gone_parts(history: History) -> list[Probe]:
    """The log's kernel without one of its changes, where that does not show the flaw."""
    return [one for one in history.parts if history.status(one) == "absent"]


def changed_in(own: Kernel, part: Kernel) -> str:
    """The change that *own* has and *part* lacks."""
    patches = [patch.name for patch in own.patches if patch not in part.patches]
    return ", ".join([*patches, *(f"the removal of {name}" for name in own.without if name not in part.without)])


# -- as JSON -----------------------------------------------------------------------------------------------------------


def to_json(report: Report) -> dict[str, Any]:
    """The JSON object of `bisect --json`; docs/json.md describes its keys."""
    history = report.history
    cause = history.question.cause
    changes = [change for chain in history.chains for change in history.changes(chain)]
    return {
        "outcome": "interrupted" if report.is_cut else "ok",
        "log": str(report.options.log),
        "signature": cause.finding.signature,
        "kernel": str(history.own),
        "search": None if history.search is None else probe_json(history, history.search),
        "needs_no_race": cause.needs_no_race,
        "pairs": [describe(pair) for pair in cause.pairs],
        "kernels": [probe_json(history, one) for one in history.plain.values()],
        "changed": [
            probe_json(history, one) for one in (*history.parts, *history.added.values(), *history.removed.values())
        ],
        "introduced_by": [" or ".join(change.at) for change in changes if not change.is_cure],
        "introduced_by_changes": [changed_in(history.own, one.kernel) for one in gone_parts(history)],
        "cured_by": [" or ".join(change.at) for change in changes if change.is_cure],
        "cured_by_fixes": history.cures,
        "seconds": round(time.monotonic() - report.began, 3),
    }


def probe_json(history: History, one: Probe) -> dict[str, Any]:
    """The answer of one kernel as JSON."""
    return {
        "kernel": str(one.kernel),
        "status": history.status(one),
        "signature": one.sign,
        "why": one.why,
        "schedules": one.schedules,
        "is_all": one.is_all,
        "ended": one.ended,
        "ended_by": one.ended_by,
        "races": one.races,
        "masked_by": history.masks(one.kernel),
        "cured_by": history.cured_by(one.kernel),
        "refused": one.refused,
    }
