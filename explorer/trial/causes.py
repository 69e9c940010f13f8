"""Whether two findings of different kernels are one flaw.

A signature names a function and a kind, and both may differ between kernels for one flaw: the use of a freed cache is a
use-after-free in one version and a NULL pointer in the next. So findings of different kernels are one flaw if

- they have the same signature, with function names of the youngest version;
- or they are of one sort, and the racing pair that the one depends on is a pair that the other depends on, too;
- or both need no race, and they are of one sort and blame the same object, the same function, or the same holder of
  what is leaked.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import attrs

from actors.versions.kernel_fn import functions as kernel_functions
from explorer.explain.conflict import find_conflicts
from explorer.explain.pairs import MEMORY
from explorer.schedule import Follow
from explorer.trace import run_traced

if TYPE_CHECKING:
    from explorer.experiment import Experiment
    from explorer.watch import RacingPair
    from protocol.findings import Finding
    from protocol.schedule import Schedule

MOST_RUNS = 60
"""Most runs for the racing pairs of one finding."""

SORTS = (
    MEMORY,
    frozenset({"deadlock", "lockdep", "livelock"}),
    frozenset({"leak", "accounting", "invariant", "property"}),
)
"""Kinds of findings that may be signs of one flaw."""


@functools.cache
def youngest_name(name: str) -> str:
    """The name that a C function has in the youngest version; other names stay as they are."""
    table = kernel_functions()
    if name in table:
        return name
    return next((youngest for youngest, fn in table.items() if any(body.name == name for body in fn.bodies)), name)


def signature_of(finding: Finding) -> tuple[str, str, str]:
    """Kind, name and function of a finding, with the function's youngest name."""
    return finding.kind, finding.name, youngest_name(finding.function)


@attrs.frozen
class Cause:
    """A finding and what it depends on: racing pairs (the cause first), or no race at all."""

    finding: Finding
    pairs: tuple[RacingPair, ...]
    needs_no_race: bool

    @property
    def signature(self) -> tuple[str, str, str]:
        """Kind, name and function, with the function's youngest name."""
        return signature_of(self.finding)

    @property
    def _subjects(self) -> set[str]:
        """What the finding blames: its name, its function, and of a leak what holds the object."""
        _, name, function = self.signature
        return {name, function, name.partition(" held by ")[2]} - {""}

    def is_sign_of(self, other: Cause) -> str:
        """Why this finding is the flaw of *other*; empty if it is another flaw, as far as this can tell."""
        if self.signature == other.signature:
            return "the same signature"
        if not is_one_sort(self.finding, other.finding):
            return ""
        if self.needs_no_race and other.needs_no_race:
            return "the same object or function, without a race" if self._subjects & other._subjects else ""
        return "the same racing pair" if self.pairs[:1] and self.pairs[0] in other.pairs else ""


def is_one_sort(one: Finding, other: Finding) -> bool:
    """Whether two findings may be signs of one flaw, by their kinds."""
    return one.kind == other.kind or any(one.kind in sort and other.kind in sort for sort in SORTS)


def cause_of(experiment: Experiment, schedule: Schedule, finding: Finding) -> Cause:
    """The finding that *schedule* shows, with its racing pairs; without any, if the choices alone do not show it."""
    for controls_clock in (False, True):
        follow = Follow(schedule, controls_clock=controls_clock)
        trace = run_traced(experiment, follow, finding.signature)
        if trace.found is not None:
            break
    else:
        return Cause(finding, (), needs_no_race=False)
    plain = run_traced(experiment, Follow((), controls_clock=controls_clock), finding.signature)
    if plain.found is not None:
        return Cause(finding, (), needs_no_race=True)
    conflicts = find_conflicts(experiment, trace, controls_clock=controls_clock, budget=MOST_RUNS)
    pairs = [
        (
            (youngest_name(trace.steps[one.first].function), trace.steps[one.first].operation),
            (youngest_name(trace.steps[one.second].function), trace.steps[one.second].operation),
        )
        for one in conflicts.found
        if not one.is_moved
    ]
    return Cause(finding, tuple(pairs), needs_no_race=False)


def shows(experiment: Experiment, schedule: Schedule) -> list[tuple[Finding, ...]]:
    """The findings of *schedule*, repeated by the names of its lanes: of a run with each way of passing time."""
    return [
        tuple(run_traced(experiment, Follow(schedule, controls_clock=controls_clock)).stage.world.findings.values())
        for controls_clock in (False, True)
    ]
