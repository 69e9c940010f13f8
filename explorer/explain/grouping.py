"""Findings of one cause are one finding, with several symptoms.

Two findings are taken for symptoms of one cause if the same schedules show them, all of them, and if in the first of
these they hang on the same conflict: the other order of the pair that the one hangs on does not show the other, either.
Where there is no such pair, because it needs no race, they are one if one look at the machine reported both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.explain.conflict import find_conflicts
from explorer.schedule import Follow
from explorer.trace import Trace, run_traced
from protocol.findings import ORACLES

if TYPE_CHECKING:
    from explorer.experiment import Experiment
    from explorer.search.campaign import Campaign, Found

MOST_RUNS = 60
"""How many runs the conflict of one group may take."""


def group_by_cause(campaign: Campaign) -> None:
    """Make symptoms of those findings of a search that have the cause of another."""
    together: dict[tuple[str | None, frozenset[int]], list[Found]] = {}
    for found in campaign.found.values():
        if found.experiment is None:
            together.setdefault((None, frozenset(found.seen)), []).append(found)
    for group in together.values():
        if len(group) > 1:
            join(campaign.experiment, sorted(group, key=rank))


def rank(found: Found) -> tuple[int, int]:
    """Which of several symptoms is told first: what came first, and of that what says most."""
    return found.finding.step, list(ORACLES).index(found.finding.kind)


def join(experiment: Experiment, group: list[Found]) -> None:
    """Make symptoms of those that have the cause of the first one of *group*; go on with the rest."""
    while len(group) > 1:
        first, *others = group
        gone = gone_with(experiment, first)
        group = []
        for other in others:
            same = other.finding.step == first.finding.step if gone is None else other.finding.signature in gone
            if same:
                other.symptom_of = first.finding.signature
                first.symptoms.append(other)
            else:
                group.append(other)


def gone_with(experiment: Experiment, found: Found) -> set[str] | None:
    """What else is not found any more when the conflict of a finding comes in the other order; None if it has none."""
    for controls_clock in (False, True):
        whole = run_traced(experiment, Follow(found.schedule, controls_clock=controls_clock))
        if found.finding.signature in whole.stage.world.findings:
            break
    else:
        return None
    trace: Trace = run_traced(
        experiment, Follow(found.schedule, controls_clock=controls_clock), found.finding.signature
    )
    conflict = next(
        iter(find_conflicts(experiment, trace, controls_clock=controls_clock, budget=MOST_RUNS).found), None
    )
    return None if conflict is None else whole.stage.world.findings.keys() - set(conflict.others)
