"""The conflicts: pairs of steps that meet, and whose other order does not show the flaw.

The pairs are tried nearest to the finding first (`pairs`). For each the run is made once more with the later step, and
what it needs, before the earlier one; everything else stays in its order. If the flaw is gone then, the order of these
two is what it hangs on (fr, SEARCH.md 8.5; Choi, Zeller, "Isolating Failure-Inducing Thread Schedules", ISSTA 2002,
search for a switch instead of a pair). Where the later step needs the earlier one as the run is, the earlier one's lane
is held back until the later step is done. And where a use comes before a free, but the next use behind it, the free
waits until nobody else can go on, as a fix would have it wait.

Many pairs can undo a flaw: with some the flows do not even meet. Of those that are as near to the finding as each
other, the cause is the one whose other order leaves most of the run as it was (Lewis, "Causation", 1973: of all worlds
without the cause, look at the closest).
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
"""How many conflicts are looked for, and shown."""

DEFAULT_STEPS = 400_000
LEAST_RUNS, MOST_RUNS = 20, 600
"""How many steps all runs have together, about, if no number of runs is given: some ten seconds; and the limits."""

GROUPS = (
    {Nearness.WAIT},
    {Nearness.OBJECT, Nearness.PART},
    {Nearness.DATA},
    {Nearness.LOCK},
    {Nearness.MACHINE},
)
"""Pairs that are alike near, the nearest first."""

IN_WORDS = {READ: "reads", UPDATE: "changes", COMMUTE: "adds to"}


@attrs.frozen
class Conflict:
    """Steps *first* and *second* of a trace meet; in `swapped` they came the other way round, and the flaw did not.

    `thing` is what both access, `how` is how each of them does, `nearness` what that is to the finding. `others` are
    the signatures of what `swapped` shows instead; best, nothing. `change` is how far `swapped` is from the run, `way`
    is how the second came first. `is_moved`: the flaw may only have gone elsewhere.
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
    """The conflicts of a flaw, the cause first, and how many runs it took to find them.

    `is_cut_off`: there were more to try.
    """

    found: tuple[Conflict, ...]
    runs: int
    is_cut_off: bool = False


def find_conflicts(
    experiment: Experiment, trace: Trace, *, controls_clock: bool, budget: int | None = None
) -> Conflicts:
    """Up to `SHOWN` pairs whose other order does not show this flaw, the cause first, by at most *budget* runs.

    Where the other order only shows another finding of the same sort, the flaw has moved, and the pair comes behind all
    others that are not about locks or bookkeeping alone. Waits that came too early stay in their order: the one that
    looked first would have to wait the least longer.
    """
    if budget is None:
        budget = min(max(DEFAULT_STEPS // max(len(trace.steps), 1), LEAST_RUNS), MOST_RUNS)
    swaps = Swaps(experiment, trace, controls_clock, budget)
    plain = run_traced(experiment, Follow((), controls_clock=controls_clock))
    known = frozenset({*plain.stage.world.findings, *trace.stage.world.findings})
    pairs = pairs_of(trace)
    search = Search(swaps, known, pairs)
    found: list[Conflict] = []
    for group in GROUPS:
        tried = search.conflicts([pair for pair in pairs if pair.nearness in group])
        found += tried if Nearness.WAIT in group else sorted(tried, key=attrgetter("change"))
        if sum(not conflict.is_moved for conflict in found) >= SHOWN:
            break
    found.sort(key=lambda conflict: (conflict.nearness >= Nearness.LOCK, conflict.is_moved))
    return Conflicts(tuple(found[:SHOWN]), swaps.runs, swaps.is_spent)


@attrs.frozen
class Search:
    """Tries pairs, some of `pairs`. `known` are the findings that the run and the plain order show anyway."""

    swaps: Swaps
    known: frozenset[str]
    pairs: list[Pair]

    def conflicts(self, pairs: list[Pair]) -> Iterator[Conflict]:
        """The conflicts among *pairs*; those that come in one order only, as the run is, have one held back."""
        fixed: list[Pair] = []
        for way, some in ((Way.MOVED, pairs), (Way.HELD, fixed)):
            waits: set[int] = set()
            for pair in some:
                if pair.first in waits:
                    continue  # it is known to come too early
                swapped = self.swaps.run(pair.first, pair.second, way)
                if swapped is None and way is Way.MOVED:
                    fixed.append(pair)
                elif swapped is not None and swapped.found is None:
                    if pair.nearness is Nearness.WAIT:
                        waits.add(pair.first)
                    yield self.judge(pair, swapped, way)

    def judge(self, pair: Pair, swapped: Trace, way: Way) -> Conflict:
        """The conflict that a run has shown, or a later one, if in the first the flaw has only moved."""
        if pair.nearness is Nearness.OBJECT and self.is_moved(swapped):
            last = self.swaps.run(pair.first, pair.second, Way.LAST)
            if last is not None and last.found is None and not self.is_moved(last):
                return self.make_conflict(pair, last, Way.LAST)
        return self.make_conflict(pair, swapped, way)

    def is_moved(self, swapped: Trace) -> bool:
        """Whether the flaw may be there in the other order, too, only elsewhere: then it does not hang on this one.

        So it is if there is a new finding of the same sort, or if the run ended before it came to rest, where this
        flaw would be seen.
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
        """Put a pair that has been tried into words."""
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
