"""The first difference between a failing run and a passing one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from explorer.explain.conflict import Conflict
    from explorer.trace import Trace, TracedStep


@attrs.frozen
class Difference:
    """The divergence of the explained run and a passing one at step `at` of the race: `here` and `there`.

    One of the two is None if its run was over. `which` describes the passing run.
    """

    which: str
    at: int
    here: TracedStep | None
    there: TracedStep | None


def first_difference(trace: Trace, conflict: Conflict | None, plain: Trace) -> Difference | None:
    """The first difference between *trace* and the run with the pair swapped, or the *plain* order, whichever passes.

    None if neither of them passes.
    """
    if conflict is not None and not conflict.others:
        return part(trace, conflict.swapped, "the run with the pair swapped")
    if not plain.stage.world.findings:
        return part(trace, plain, "the run in the non-preemptive order")
    return None


def part(trace: Trace, other: Trace, which: str) -> Difference | None:
    """The first difference between two runs; None if there is none."""
    for at, (here, there) in enumerate(zip(trace.steps, other.steps, strict=False)):
        if here.words != there.words:
            return Difference(which, at, here, there)
    at = min(len(trace.steps), len(other.steps))
    ends = [steps[at] if at < len(steps) else None for steps in (trace.steps, other.steps)]
    return Difference(which, at, *ends) if any(ends) else None
