"""The command `try`."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from actors.fixes import FIXES
from actors.versions.patching import name_patch
from explorer import defaults, signals
from explorer.cli.options import run_options
from explorer.experiment import Experiment
from explorer.json_out import finding_json, print_json
from explorer.output import file_stem, new_file
from explorer.report import LiveProgress, as_arguments, make_console, styled
from explorer.schedule import Follow
from explorer.search.registry import PORTFOLIO
from explorer.session import record
from explorer.shrink import reproduce
from explorer.signals import EXIT_INTERRUPTED
from explorer.streams import complain, tell
from explorer.trial.evidence import SURE, Count
from explorer.trial.judge import Verdict
from explorer.trial.stages import Answer, Trial, answers, reached, settled, share_of, trials
from protocol.atomic import CannotWriteError
from scenarios import SCENARIOS

if TYPE_CHECKING:
    from rich.console import Console

WORDS = {
    "makes": ("makes", "bold red"),
    "cures": ("cures", "green"),
    "masks": ("masks", "yellow"),
    "remains": ("remains", "bold"),
}
"""The kinds of verdicts in the order of the report, with their styles."""

LEAST_SHOWN = 1e-12


@attrs.define
class Report:
    """The answer of a trial. `entered` has the patched functions that each stage enters; `logs` is by stage and sign.

    `is_cut` means that a signal has ended it.
    """

    options: argparse.Namespace
    stages: list[Trial]
    entered: list[frozenset[str]] = attrs.field(factory=list)
    answers: list[Answer] = attrs.field(factory=list)
    logs: dict[tuple[str, str], str] = attrs.field(factory=dict)
    is_cut: bool = False
    began: float = attrs.field(factory=time.monotonic)

    @property
    def patched(self) -> list[str]:
        """The functions that the patches replace."""
        return sorted(frozenset[str]().union(*(one.patched for one in self.stages)))

    @property
    def to_try(self) -> list[Trial]:
        """The stages that enter a patched function."""
        return [one for one, names in zip(self.stages, self.entered, strict=False) if names]

    @property
    def unreached(self) -> list[str]:
        """The patched functions that no stage runs."""
        covered = frozenset[str]().union(*(one.without.functions | one.with_patch.functions for one in self.answers))
        return sorted(set(self.patched).difference(covered, *self.entered))

    @property
    def verdicts(self) -> list[tuple[Trial, Verdict]]:
        """All verdicts, each with its stage."""
        return settled(self.answers)

    @property
    def outcome(self) -> str:
        """The outcome, as one of the words in docs/json.md."""
        makes = any(verdict.kind == "makes" for _, verdict in self.verdicts)
        return "interrupted" if self.is_cut else "finding" if makes else "ok"


def main(options: argparse.Namespace) -> int:
    """Try the patches; return the exit code."""
    base = run_options(options, strategy=PORTFOLIO, driver="stepper")
    for patch in options.patches:
        name_patch(patch, FIXES)
    names = options.scenarios or [scenario.name for scenario in SCENARIOS]
    report = Report(options, trials(base, options.patches, list(dict.fromkeys(names)), options.allocator))
    progress = LiveProgress()
    try:
        run(report, progress)
    except KeyboardInterrupt:
        report.is_cut = True
    finally:
        progress.close()
    show(report)
    return {"interrupted": EXIT_INTERRUPTED, "finding": 1, "ok": 0}[report.outcome]


def run(report: Report, progress: LiveProgress) -> None:
    """Try all stages, and add their answers to the report."""
    options = report.options
    for names in reached(report.stages, options.workers):
        report.entered.append(names)
        progress.show(f"walked through {len(report.entered)} of {len(report.stages)} stages")
    wanted = report.to_try
    left = None if options.time is None else max(options.time - (time.monotonic() - report.began), 0.0)
    seconds = None if left is None else share_of(left, len(wanted), min(options.workers, len(wanted)))
    budget = options.budget or (defaults.TRY_BUDGET if options.time is None else None)
    for answer in answers(wanted, budget, seconds, options.workers):
        report.answers.append(answer)
        progress.show(f"tried {len(report.answers)} of {len(wanted)} stages")
        for verdict in answer.verdicts:
            if verdict.kind == "makes":
                tell(f"{answer.trial.name}: found {verdict.finding.signature} with the patch, not without")


def log(trial: Trial, verdict: Verdict) -> str | None:
    """Log the schedule of a new cause; None, with a complaint, if the log cannot be written."""
    experiment = Experiment.of(trial.with_patch)
    signature = verdict.finding.signature
    trace, controls_clock = reproduce(experiment, verdict.schedule, signature)
    path = new_file(file_stem(experiment.header, verdict.finding))
    assert trace.found is not None, "reproduce() only returns runs that show the flaw"
    try:
        follow = Follow(trace.schedule, controls_clock=controls_clock)
        record(experiment, verdict.strategy, follow, trace.found, path)
    except CannotWriteError as error:
        complain(str(error))  # the answer is valid without a log
        return None
    return str(path)


@signals.answering()
def show(report: Report) -> None:
    """Log the new causes, and print the answer."""
    verdicts = report.verdicts
    for trial, verdict in verdicts:
        if verdict.kind == "makes" and not report.options.no_log and (path := log(trial, verdict)) is not None:
            report.logs[trial.name, verdict.finding.signature] = path
    if report.options.json:
        print_json(to_json(report, verdicts))
    else:
        show_report(make_console(), report, verdicts)


# -- as text -----------------------------------------------------------------------------------------------------------


def show_report(console: Console, report: Report, verdicts: Sequence[tuple[Trial, Verdict]]) -> None:
    """Print the patched functions, the verdicts by kind and cause, and what was not reached."""
    options = report.options
    kernel = options.kernel or defaults.KERNEL
    console.print(
        styled((", ".join(options.patches), "bold"), f" on {kernel}: patches {', '.join(report.patched)}"),
        f"{len(report.to_try)} of {len(report.stages)} stages enter {'it' if len(report.patched) == 1 else 'them'}; "
        f"{len(report.answers)} tried",
    )
    for kind in WORDS:
        of_kind = [(trial, one) for trial, one in verdicts if one.kind == kind]
        for signature in dict.fromkeys(one.finding.signature for _, one in of_kind):
            show_cause(console, report, [(trial, one) for trial, one in of_kind if one.finding.signature == signature])
    for function in report.unreached:
        console.print(styled(("not reached", "yellow"), f" {function}(): no stage ran it"))
    console.print(summary(report, verdicts))


def show_cause(console: Console, report: Report, stages: Sequence[tuple[Trial, Verdict]]) -> None:
    """Print one cause of one kind, with the evidence of each stage."""
    first = stages[0][1]
    console.print(styled(WORDS[first.kind], f" {first.finding.signature}{strength([one for _, one in stages])}"))
    plain = [trial.name for trial, one in stages if one.kind == "remains" and not one.why]
    if plain:
        console.print(f"  {', '.join(plain)}")
    for trial, one in stages:
        if trial.name not in plain:
            console.print(*lines_of(trial, one, report.logs.get((trial.name, one.finding.signature))))


def strength(several: Sequence[Verdict]) -> str:
    """The strength of the evidence of all stages together; empty for a cause that remains."""
    if several[0].kind == "remains":
        return ""
    chance = in_all(several)
    return f" (by chance {share(chance)}{'' if chance <= SURE else ': weak evidence, a larger --budget gives more'})"


def in_all(several: Sequence[Verdict]) -> float:
    """The chance that differences on several stages all come of chance."""
    return math.prod(one.chance for one in several)


def lines_of(trial: Trial, verdict: Verdict, path: str | None) -> list[str]:
    """The evidence of one stage, and the commands for its log."""
    lines = [f"  {trial.name}: in {verdict.without} schedules without the patch, in {verdict.patched} with it"]
    lines += [f"    {verdict.why}"] if verdict.why else []
    lines += [f"    the same cause: {symptom}" for symptom in verdict.symptoms]
    if path is not None:
        arguments = as_arguments(path, Experiment.of(trial.with_patch).header)
        lines += [f"    log: {path}", f"    replay: slabrace replay {arguments}"]
        lines += [f"    explain: slabrace explain {arguments}"]
    return lines


def share(chance: float) -> str:
    """A probability in a few characters."""
    return f"{chance:.2g}" if chance >= LEAST_SHOWN or not chance else f"< {LEAST_SHOWN:g}"


def summary(report: Report, verdicts: Sequence[tuple[Trial, Verdict]]) -> str:
    """The last line."""
    counts = {kind: len({one.finding.signature for _, one in verdicts if one.kind == kind}) for kind in WORDS}
    schedules = sum(one.without.schedules + one.with_patch.schedules for one in report.answers)
    cut = "interrupted: " if report.is_cut else ""
    told = ", ".join(f"{kind} {count}" for kind, count in counts.items() if kind != "remains")
    causes = f"the patch {told} causes; {counts['remains']} remain" if report.answers else "nothing was tried"
    return f"{cut}{causes}; {schedules} schedules in {time.monotonic() - report.began:.1f} s"


# -- as JSON -----------------------------------------------------------------------------------------------------------


def to_json(report: Report, verdicts: Sequence[tuple[Trial, Verdict]]) -> dict[str, Any]:
    """The JSON object of `try --json`; docs/json.md describes its keys."""
    options = report.options
    return {
        "outcome": report.outcome,
        "kernel": options.kernel or defaults.KERNEL,
        "patches": list(options.patches),
        "base_patches": [*options.patch, *(f"without {name}" for name in options.without)],
        "functions": report.patched,
        "unreached": report.unreached,
        "stages": [
            {
                "stage": trial.name,
                "scenario": trial.without.scenario,
                "functions": sorted(names),
                "tried": any(answer.trial is trial for answer in report.answers),
            }
            for trial, names in zip(report.stages, report.entered, strict=False)
        ],
        **{
            kind: [
                verdict_json(trial, one, report.logs.get((trial.name, one.finding.signature)))
                for trial, one in verdicts
                if one.kind == kind
            ]
            for kind in WORDS
        },
        "schedules": sum(one.without.schedules + one.with_patch.schedules for one in report.answers),
        "seconds": round(time.monotonic() - report.began, 3),
    }


def verdict_json(trial: Trial, verdict: Verdict, path: str | None) -> dict[str, Any]:
    """One verdict as JSON."""
    return {
        **finding_json(verdict.finding),
        "stage": trial.name,
        "symptoms": list(verdict.symptoms),
        "without": count_json(verdict.without),
        "with": count_json(verdict.patched),
        "chance": verdict.chance,
        "why": verdict.why,
        "log": path,
    }


def count_json(count: Count) -> dict[str, Any]:
    """How often a finding was seen on one side."""
    return {"seen": count.seen, "schedules": count.schedules, "is_all": count.is_all}
