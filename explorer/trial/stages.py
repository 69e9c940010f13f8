"""A trial of patches: all stages that enter a function that the patches replace, without them and with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from actors.fixes import FIXES
from actors.versions.patching import NotForThisMachineError
from actors.versions.profiles import ALLOCATORS
from explorer.determinism import NotTheSameError
from explorer.experiment import Experiment, RunOptions
from explorer.kinds import SCENARIO
from explorer.references import find
from explorer.search.strategies.simple import RandomWalk
from explorer.trial.evidence import SURE
from explorer.trial.judge import Judge, Verdict
from explorer.trial.reach import entered
from explorer.trial.sides import Limits, Side, search
from explorer.trial.tasks import in_order
from protocol.errors import UsageError
from protocol.names import no_such

if TYPE_CHECKING:
    from explorer.replay import Divergence
    from explorer.workers import Tell
    from scenarios.registry import Scenario

WALKS = 3
"""Random walks of each stage and side that show which patched functions the stage enters."""

BOTH = "both"


@attrs.frozen
class Trial:
    """One stage with its two sides, ready to run: the options without the patches, and those with them.

    `patched` are the functions that the patches replace.
    """

    without: RunOptions
    with_patch: RunOptions
    patched: frozenset[str]

    @property
    def name(self) -> str:
        """The name in reports."""
        settings = " ".join(f"{name}={value}" for name, value in self.without.settings)
        return f"{self.without.scenario} {settings}".rstrip()


@attrs.frozen
class Answer:
    """The answer of one stage."""

    trial: Trial
    without: Side
    with_patch: Side
    verdicts: tuple[Verdict, ...]

    @property
    def divergence(self) -> Divergence | None:
        """The first divergence of a schedule that was run twice, on either side."""
        return self.without.divergence or self.with_patch.divergence


def trials(base: RunOptions, patches: Sequence[str], scenarios: Sequence[str], allocator: str | None) -> list[Trial]:
    """The stages on which *patches* can be tried; UsageError if a patch does not apply to the kernel of *base*.

    A setting of *base* applies to the stages that have the knob. Without an *allocator*, each stage has its own one, or
    the other one if the patches are for that only.
    """
    found: list[Trial] = []
    refusal: UsageError | None = None
    known: dict[str, None] = {}
    if allocator is not None and "allocator" in dict(base.settings):
        msg = f"--allocator {allocator}: --set gives an allocator, too; leave one of them out"
        raise UsageError(msg)
    for name in scenarios:
        (scenario,) = find(SCENARIO, name).things
        knobs = [knob.name for knob in scenario.knobs]
        known |= dict.fromkeys(knobs)
        settings = {knob: value for knob, value in base.settings if knob in knobs}
        for more in _allocators(scenario, settings, allocator):
            options = attrs.evolve(base, scenario=name, settings={**settings, **more})
            try:
                found.append(_trial(options, patches))
            except NotForThisMachineError as error:
                refusal = refusal or error
            else:
                if allocator is None:
                    break
    for knob, _ in base.settings:
        if knob not in known:
            msg = f"--set {knob}: {no_such('knob of any stage', knob, known)}"
            raise UsageError(msg)
    if not found and refusal is not None:
        raise refusal
    return found


def _allocators(scenario: Scenario, settings: dict[str, str], wanted: str | None) -> list[dict[str, str]]:
    """The settings that select the allocators to try, in order."""
    own = next((str(knob.default) for knob in scenario.knobs if knob.name == "allocator"), None)
    if own is None or "allocator" in settings:
        return [{}]
    if wanted is None:
        return [{}, *({"allocator": other} for other in ALLOCATORS if other != own)]
    return [{"allocator": one} for one in ALLOCATORS if wanted in {one, BOTH}]


def _trial(without: RunOptions, patches: Sequence[str]) -> Trial:
    """The sides of one stage. A fix that the unpatched side is *without* is no patch: the other side keeps it."""
    base = Experiment.of(without)
    tried, missing = [FIXES.get(name) for name in patches], [FIXES[name] for name in without.without]
    with_patch = attrs.evolve(
        without,
        patches=(*without.patches, *(name for name in patches if FIXES.get(name) not in missing)),
        without=tuple(name for name in without.without if FIXES[name] not in tried),
    )
    patched = Experiment.of(with_patch)
    common = {one.record for one in base.patches} & {one.record for one in patched.patches}
    changed = [one for one in (*base.patches, *patched.patches) if one.record not in common]
    return Trial(without, with_patch, frozenset(name for one in changed for name in one.bodies))


# -- the stages that reach a patched function --------------------------------------------------------------------------


def reached(wanted: Sequence[Trial], workers: int) -> Iterator[frozenset[str]]:
    """For each trial, the patched functions that its stage enters."""
    return in_order(_walk, [(f"the walks of {one.name}", (one,)) for one in wanted], workers)


def _walk(trial: Trial, _tell: Tell) -> frozenset[str]:
    found: set[str] = set()
    for options in (trial.with_patch, trial.without):
        experiment = Experiment.of(options)
        for walk in range(WALKS):
            if missing := trial.patched - found:
                found |= entered(experiment, RandomWalk(options.seed + walk), missing)
    return frozenset(found)


# -- both sides --------------------------------------------------------------------------------------------------------


def answers(wanted: Sequence[Trial], budget: int | None, seconds: float | None, workers: int) -> Iterator[Answer]:
    """The answer of each trial. Its two sides, and a further search, have these limits each.

    NotTheSameError if a schedule that was run twice diverged.
    """
    limits = Limits(budget, seconds)
    for answer in in_order(_try, [(one.name, (one, limits)) for one in wanted], workers):
        if answer.divergence is not None:
            raise NotTheSameError(answer.divergence)
        yield answer


def _try(trial: Trial, limits: Limits, _tell: Tell) -> Answer:
    experiments = Experiment.of(trial.without), Experiment.of(trial.with_patch)
    without = search(experiments[0], trial.without, limits)
    with_patch = search(experiments[1], trial.with_patch, limits)
    judge = Judge(experiments, trial.without, limits, without, with_patch, trial.patched)
    verdicts = () if without.divergence or with_patch.divergence else tuple(judge.verdicts())
    return Answer(trial, without, with_patch, verdicts)


def settled(answers: Sequence[Answer]) -> list[tuple[Trial, Verdict]]:
    """All verdicts, each with its stage.

    A new cause with weak evidence, which another stage shows without the patch, is no new cause of the kernel.
    """
    known = {name for answer in answers for name in answer.without.seen}
    found: list[tuple[Trial, Verdict]] = []
    for answer in answers:
        for one in answer.verdicts:
            if one.kind == "makes" and one.chance > SURE and one.finding.signature in known:
                found.append((answer.trial, attrs.evolve(one, kind="remains", why="another stage has it without")))
            else:
                found.append((answer.trial, one))
    return found


def share_of(seconds: float, stages: int, workers: int) -> float:
    """The time of one side of a stage, if *seconds* are for all of them."""
    return seconds * workers / (2 * max(stages, 1))
