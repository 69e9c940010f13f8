"""The command `try`."""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
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
from explorer.search.report import describe
from explorer.session import record
from explorer.shrink import reproduce
from explorer.signals import EXIT_INTERRUPTED
from explorer.streams import complain, tell
from explorer.trial.evidence import SURE, Count
from explorer.trial.judge import Kind, Verdict
from explorer.trial.stages import Answer, Trial, answers, reached, settled, share_of, trials
from protocol.atomic import CannotWriteError
from scenarios import SCENARIOS

if TYPE_CHECKING:
    from rich.console import Console

WORDS: dict[Kind, tuple[str, str]] = {
    "makes": ("makes", "bold red"),
    "cures": ("cures", "green"),
    "masks": ("masks", "yellow"),
    "remains": ("remains", "bold"),
}
"""The kinds of verdicts in the order of the report, with their styles."""

LEAST_SHOWN = 1e-12


@attrs.define
class Cause:
    """The verdicts of one kind on one cause, each with its stage, and the log of a new cause."""

    kind: Kind
    verdicts: list[tuple[Trial, Verdict]] = attrs.field(factory=list)
    log: str | None = None

    def has(self, other: Verdict) -> bool:
        """Whether a verdict is on this cause: it has the signature or the racing pair of one that is."""
        return self.kind == other.kind and any(
            one.finding.signature == other.finding.signature or (one.pair is not None and one.pair == other.pair)
            for _, one in self.verdicts
        )

    @property
    def strongest(self) -> tuple[Trial, Verdict]:
        """The verdict with the strongest evidence."""
        return min(self.verdicts, key=lambda pair: pair[1].chance)

    @property
    def chance(self) -> float:
        """The chance that the differences on all stages come of chance: of each stage the strongest one counts."""
        stages: dict[str, float] = {}
        for trial, one in self.verdicts:
            stages[trial.name] = min(one.chance, stages.get(trial.name, 1.0))
        return math.prod(stages.values())


@attrs.define
class Report:
    """The answer of a trial. `entered` has the patched functions that each stage enters.

    `is_cut` means that a signal has ended it.
    """

    options: argparse.Namespace
    stages: list[Trial]
    entered: list[frozenset[str]] = attrs.field(factory=list)
    answers: list[Answer] = attrs.field(factory=list)
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

    def causes(self) -> list[Cause]:
        """The verdicts by cause, in the order of their kinds."""
        found: list[Cause] = []
        for trial, one in settled(self.answers):
            cause = next((cause for cause in found if cause.has(one)), None)
            if cause is None:
                found.append(cause := Cause(one.kind))
            cause.verdicts.append((trial, one))
        return sorted(found, key=lambda cause: list(WORDS).index(cause.kind))

    @property
    def outcome(self) -> str:
        """The outcome, as one of the words in docs/json.md."""
        makes = any(verdict.kind == "makes" for _, verdict in settled(self.answers))
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
    """Log a schedule of each new cause, and print the answer."""
    causes = report.causes()
    for cause in causes:
        if cause.kind == "makes" and not report.options.no_log:
            cause.log = log(*cause.strongest)
    if report.options.json:
        print_json(to_json(report, causes))
    else:
        show_report(make_console(), report, causes)


# -- as text -----------------------------------------------------------------------------------------------------------


def show_report(console: Console, report: Report, causes: Sequence[Cause]) -> None:
    """Print the patched functions, the verdicts by kind and cause, and what was not reached."""
    options = report.options
    kernel = options.kernel or defaults.KERNEL
    console.print(
        styled((", ".join(options.patches), "bold"), f" on {kernel}: patches {', '.join(report.patched)}"),
        f"{len(report.to_try)} of {len(report.stages)} stages enter {'it' if len(report.patched) == 1 else 'them'}; "
        f"{len(report.answers)} tried",
    )
    for cause in causes:
        console.print(styled(WORDS[cause.kind], f" {cause.strongest[1].finding.signature}{strength(cause)}"))
        console.print(*lines_of(cause))
    for function in report.unreached:
        console.print(styled(("not reached", "yellow"), f" {function}(): no stage ran it"))
    console.print(summary(report, causes))


def strength(cause: Cause) -> str:
    """The strength of the evidence of all stages together; empty for a cause that remains."""
    if cause.kind == "remains":
        return ""
    weak = "" if cause.chance <= SURE else ": weak evidence, a larger --budget gives more"
    return f" (by chance {share(cause.chance)}{weak})"


def lines_of(cause: Cause) -> list[str]:
    """The evidence of each stage, and the commands for the log."""
    first_trial, first = cause.strongest
    signature = first.finding.signature
    lines = [] if first.pair is None else [f"  it depends on the order of two steps: {describe(first.pair)}"]
    others = dict.fromkeys(name for _, one in cause.verdicts for name in (one.finding.signature, *one.symptoms))
    lines += [f"  the same cause: {name}" for name in others if name != signature]
    plain = dict.fromkeys(trial.name for trial, one in cause.verdicts if one.kind == "remains" and not one.why)
    lines += [f"  {', '.join(plain)}"] if plain else []
    for trial, one in cause.verdicts:
        if one.kind != "remains" or one.why:
            shown = "" if one.finding.signature == signature else f"{one.finding.signature} "
            counts = f"in {one.without} schedules without the patch, in {one.patched} with it"
            lines.append(f"  {trial.name}: {shown}{counts}")
            lines += [f"    {one.why}"] if one.why else []
    if cause.log is not None:
        arguments = as_arguments(cause.log, Experiment.of(first_trial.with_patch).header)
        lines += [f"  log: {cause.log}", *(f"  {word}: slabrace {word} {arguments}" for word in ("replay", "explain"))]
    return lines


def share(chance: float) -> str:
    """A probability in a few characters."""
    return f"{chance:.2g}" if chance >= LEAST_SHOWN or not chance else f"< {LEAST_SHOWN:g}"


def summary(report: Report, causes: Sequence[Cause]) -> str:
    """The last line."""
    counts = Counter(cause.kind for cause in causes)
    schedules = sum(one.without.schedules + one.with_patch.schedules for one in report.answers)
    cut = "interrupted: " if report.is_cut else ""
    told = ", ".join(f"{kind} {counts[kind]}" for kind in WORDS if kind != "remains")
    answer = f"the patch {told} causes; {counts['remains']} remain" if report.answers else "nothing was tried"
    return f"{cut}{answer}; {schedules} schedules in {time.monotonic() - report.began:.1f} s"


# -- as JSON -----------------------------------------------------------------------------------------------------------


def to_json(report: Report, causes: Sequence[Cause]) -> dict[str, Any]:
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
                "tried": any(answer.trial == trial for answer in report.answers),
            }
            for trial, names in zip(report.stages, report.entered, strict=False)
        ],
        **{
            kind: [verdict_json(cause, *pair) for cause in causes if cause.kind == kind for pair in cause.verdicts]
            for kind in WORDS
        },
        "schedules": sum(one.without.schedules + one.with_patch.schedules for one in report.answers),
        "seconds": round(time.monotonic() - report.began, 3),
    }


def verdict_json(cause: Cause, trial: Trial, verdict: Verdict) -> dict[str, Any]:
    """One verdict as JSON."""
    return {
        **finding_json(verdict.finding),
        "stage": trial.name,
        "symptoms": list(verdict.symptoms),
        "without": count_json(verdict.without),
        "with": count_json(verdict.patched),
        "chance": verdict.chance,
        "why": verdict.why,
        "pair": None if verdict.pair is None else describe(verdict.pair),
        "log": cause.log if (trial, verdict) == cause.strongest else None,
    }


def count_json(count: Count) -> dict[str, Any]:
    """How often a finding was seen on one side."""
    return {"seen": count.seen, "schedules": count.schedules, "is_all": count.is_all}
