"""Conflicts: pairs of racing steps whose other order does not show the flaw.

The pairs are tried nearest to the finding first (`pairs`). For each pair the run is repeated with the later step, and
the steps that it needs, before the earlier one; all other steps keep their order. If the flaw is gone, it depends on
the order of these two steps (fr, SEARCH.md 8.5; Choi, Zeller, "Isolating Failure-Inducing Thread Schedules", ISSTA
2002, search for a switch instead of a pair). Where the later step needs the earlier one in this run, the earlier one's
lane is held back until the later step is done. And where a use then comes before a free, but the next use after it, the
free is delayed until no other lane can go on: a fix would make it wait like this.

Many pairs can undo a flaw; with some of them the flows do not even meet. Among pairs that are equally near to the
finding, the cause is the pair whose other order leaves most of the run unchanged (Lewis, "Causation", 1973: of all
worlds without the cause, look at the closest).
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import attrs

from explorer.accesses import name_of
from explorer.explain.pairs import MEMORY, Nearness, Pair, pairs_of
from explorer.explain.swaps import Swaps, Way, change
from explorer.schedule import Follow
from explorer.trace import Trace, run_traced
from protocol.operations import COMMUTE, READ, UPDATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.experiment import Experiment

SHOWN = 3
"""Most conflicts that are searched for and shown."""

DEFAULT_STEPS = 400_000
LEAST_RUNS, MOST_RUNS = 20, 600
"""Default budget: about so many steps in all runs together (some ten seconds), within these numbers of runs."""

GROUPS = (
    {Nearness.WAIT},
    {Nearness.OBJECT, Nearness.PART},
    {Nearness.DATA},
    {Nearness.LOCK},
    {Nearness.MACHINE},
)
"""Groups of pairs of about equal nearness, the nearest first."""

IN_WORDS = {READ: "reads", UPDATE: "changes", COMMUTE: "adds to"}


@attrs.frozen
class Conflict:
    """Racing steps *first* and *second* of a trace; in `swapped` they have the other order, and it lacks the flaw.

    Both access `thing`: `how` describes the two accesses, and `nearness` the relation of the thing to the finding.
    `others` are the signatures that `swapped` shows instead, ideally none. `change` is the distance between `swapped`
    and the run, and `way` the method of swapping. `is_moved`: the flaw may only have moved elsewhere.
    """

    first: int
    second: int
    thing: str
    how: tuple[str, str]
    nearness: Nearness
    swapped: Trace
    others: tuple[str, ...]
    change: tuple[int, int]
    way: Way
    is_moved: bool


@attrs.frozen
class Conflicts:
    """The conflicts of a flaw, the cause first, and the number of runs that the search took.

    `is_cut_off`: the budget ended before all pairs were tried.
    """

    found: tuple[Conflict, ...]
    runs: int
    is_cut_off: bool = False


def find_conflicts(
    experiment: Experiment, trace: Trace, *, controls_clock: bool, budget: int | None = None
) -> Conflicts:
    """Up to `SHOWN` pairs whose other order does not show this flaw, the cause first, within *budget* runs.

    If the other order shows another finding of the same sort, the flaw has only moved. Such a pair comes after all
    others, except pairs about locks or bookkeeping. Waits that came too early keep their order: the earliest one would
    have had to wait for the least additional time.
    """
    if budget is None:
        budget = min(max(DEFAULT_STEPS // max(len(trace.steps), 1), LEAST_RUNS), MOST_RUNS)
    swaps = Swaps(experiment, trace, controls_clock, budget)
    plain = run_traced(experiment, Follow((), controls_clock=controls_clock))
    known = frozenset({*plain.stage.world.findings, *trace.stage.world.findings})
    pairs = pairs_of(trace)
    search = PairSearch(swaps, known, pairs)
    found: list[Conflict] = []
    for group in GROUPS:
        tried = search.conflicts([pair for pair in pairs if pair.nearness in group])
        found += tried if Nearness.WAIT in group else sorted(tried, key=attrgetter("change"))
        if sum(not conflict.is_moved for conflict in found) >= SHOWN:
            break
    found.sort(key=lambda conflict: (conflict.nearness >= Nearness.LOCK, conflict.is_moved))
    return Conflicts(tuple(found[:SHOWN]), swaps.runs, swaps.is_spent)


@attrs.frozen
class PairSearch:
    """Tries some of the `pairs`. `known` are the findings of the run and of the non-preemptive order."""

    swaps: Swaps
    known: frozenset[str]
    pairs: list[Pair]

    def conflicts(self, pairs: list[Pair]) -> Iterator[Conflict]:
        """The conflicts among *pairs*. If a pair cannot be reordered, a second attempt holds its first lane back."""
        fixed: list[Pair] = []
        for way, some in ((Way.MOVED, pairs), (Way.HELD, fixed)):
            waits: set[int] = set()
            for pair in some:
                if pair.first in waits:
                    continue  # this wait is already known to come too early
                swapped = self.swaps.run(pair.first, pair.second, way)
                if swapped is None and way is Way.MOVED:
                    fixed.append(pair)
                elif swapped is not None and swapped.found is None:
                    if pair.nearness is Nearness.WAIT:
                        waits.add(pair.first)
                    yield self.judge(pair, swapped, way)

    def judge(self, pair: Pair, swapped: Trace, way: Way) -> Conflict:
        """The conflict of a pair; if the flaw has only moved in *swapped*, a further run delays the first step more."""
        if pair.nearness is Nearness.OBJECT and self.is_moved(swapped):
            last = self.swaps.run(pair.first, pair.second, Way.LAST)
            if last is not None and last.found is None and not self.is_moved(last):
                return self.make_conflict(pair, last, Way.LAST)
        return self.make_conflict(pair, swapped, way)

    def is_moved(self, swapped: Trace) -> bool:
        """Whether the flaw may have moved elsewhere in the other order, and so may not depend on it.

        This is the case if there is a new finding of the same sort. It is also the case if the run ended early, and the
        flaw would only be seen at quiescence.
        """
        trace, findings = self.swaps.trace, swapped.stage.world.findings
        kind = trace.signature.partition(":")[0]
        sort = MEMORY if kind in MEMORY else {kind}
        return any(
            finding.kind in sort or (trace.ends_at_rest and finding.is_fatal)
            for signature, finding in findings.items()
            if signature not in self.known
        )

    def make_conflict(self, pair: Pair, swapped: Trace, way: Way) -> Conflict:
        """The conflict for a pair that was tried."""
        trace = self.swaps.trace
        one, other = trace.steps[pair.first], trace.steps[pair.second]
        return Conflict(
            pair.first,
            pair.second,
            name_of(pair.thing),
            (IN_WORDS[one.accesses[pair.thing]], IN_WORDS[other.accesses[pair.thing]]),
            pair.nearness,
            swapped,
            tuple(swapped.stage.world.findings),
            change(trace, swapped, self.pairs),
            way,
            self.is_moved(swapped),
        )
