"""Grouping of findings by cause: several symptoms of one cause count as one finding.

Two findings count as symptoms of one cause under two conditions. First, exactly the same schedules show them. Second,
in the first of these schedules they depend on the same conflict: if its steps are swapped, neither is shown. If there
is no conflict, because no race is needed, they have one cause if one check of the machine reported both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.explain.conflict import find_conflicts
from explorer.schedule import Follow
from explorer.trace import Trace, run_traced
from protocol.findings import ORACLES, Finding
from protocol.schedule import Schedule

if TYPE_CHECKING:
    from explorer.experiment import Experiment
    from explorer.search.campaign import Campaign, Found

MOST_RUNS = 60
"""Most runs for the conflict of one group."""


def group_by_cause(campaign: Campaign) -> None:
    """Mark the findings of a search that are symptoms of another finding."""
    together: dict[tuple[str | None, frozenset[int]], list[Found]] = {}
    for found in campaign.found.values():
        if found.experiment is None:
            together.setdefault((None, frozenset(found.seen)), []).append(found)
    for group in together.values():
        if len(group) > 1:
            join(campaign.experiment, sorted(group, key=lambda found: rank(found.finding)))


def rank(finding: Finding) -> tuple[int, int]:
    """Sort key for symptoms: the earliest first, then the most informative kind."""
    return finding.step, list(ORACLES).index(finding.kind)


def join(experiment: Experiment, group: list[Found]) -> None:
    """Mark the findings with the cause of the first one in *group*; repeat with the rest."""
    while len(group) > 1:
        first, *others = group
        gone = gone_with(experiment, first.schedule, first.finding.signature)
        group = []
        for other in others:
            same = other.finding.step == first.finding.step if gone is None else other.finding.signature in gone
            if same:
                other.symptom_of = first.finding.signature
                first.symptoms.append(other)
            else:
                group.append(other)


def gone_with(experiment: Experiment, schedule: Schedule, signature: str) -> set[str] | None:
    """The findings that vanish when the conflict of the one that *schedule* shows is swapped; None if it has none."""
    for controls_clock in (False, True):
        whole = run_traced(experiment, Follow(schedule, controls_clock=controls_clock))
        if signature in whole.stage.world.findings:
            break
    else:
        return None
    trace: Trace = run_traced(experiment, Follow(schedule, controls_clock=controls_clock), signature)
    conflict = next(
        iter(find_conflicts(experiment, trace, controls_clock=controls_clock, budget=MOST_RUNS).found), None
    )
    return None if conflict is None else whole.stage.world.findings.keys() - set(conflict.others)
