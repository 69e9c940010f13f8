"""The first difference from a run that passes: up to there both are the same, so there it went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from explorer.explain.conflict import Conflict
    from explorer.trace import Trace, TracedStep


@attrs.frozen
class Difference:
    """The run explained and one that passes part at step `at` of the race: `here` happened, there it was `there`.

    One of them is None if its run was over. `which` says which run that is.
    """

    which: str
    at: int
    here: TracedStep | None
    there: TracedStep | None


def first_difference(trace: Trace, conflict: Conflict | None, plain: Trace) -> Difference | None:
    """Where *trace* parts from the run with the pair swapped, if that passes, or from the *plain* order, if that does.

    None if neither of them passes.
    """
    if conflict is not None and not conflict.others:
        return part(trace, conflict.swapped, "the run with the pair swapped")
    if not plain.stage.world.findings:
        return part(trace, plain, "the run in the plain order")
    return None


def part(trace: Trace, other: Trace, which: str) -> Difference | None:
    """Where two runs part; None if they do not."""
    for at, (here, there) in enumerate(zip(trace.steps, other.steps, strict=False)):
        if here.words != there.words:
            return Difference(which, at, here, there)
    at = min(len(trace.steps), len(other.steps))
    ends = [steps[at] if at < len(steps) else None for steps in (trace.steps, other.steps)]
    return Difference(which, at, *ends) if any(ends) else None
