"""The conflicts: pairs of steps that meet, and whose other order does not show the flaw.

The pairs are tried nearest to the finding first (`pairs`). For each the run is made once more with the later step, and
what it needs, before the earlier one; everything else stays in its order. If the flaw is gone then, the order of these
two is what it hangs on (fr, SEARCH.md 8.5; Choi, Zeller, "Isolating Failure-Inducing Thread Schedules", ISSTA 2002,
search for a switch instead of a pair). Where the later step needs the earlier one as the run is, the earlier one's lane
is held back until the later step is done; that changes more of the run, so it counts less. And where a use comes before
a free, but the next use behind it, the free waits until nobody else can go on, as a fix would have it wait.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import attrs

from explorer.explain.pairs import MEMORY, Nearness, Pair, pairs_of
from explorer.explain.swaps import Swaps, Way
from explorer.schedule import Follow
from explorer.strategies.dpor import name_of
from explorer.trace import Trace, run_traced
from protocol.operations import COMMUTE, READ, UPDATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from explorer.experiment import Experiment

SHOWN = 3
"""How many conflicts are looked for, and shown."""

DEFAULT_STEPS = 400_000
LEAST_RUNS, MOST_RUNS = 20, 600
"""How many steps all runs have together, about, if no number of runs is given: some ten seconds; and the limits."""

TURNS = (
    (Way.MOVED, {Nearness.WAIT}),
    (Way.HELD, {Nearness.WAIT}),
    (Way.MOVED, {Nearness.OBJECT, Nearness.PART}),
    (Way.HELD, {Nearness.OBJECT}),
    (Way.MOVED, {Nearness.DATA, Nearness.LOCK}),
    (Way.HELD, {Nearness.PART, Nearness.DATA, Nearness.LOCK}),
    (Way.MOVED, {Nearness.MACHINE}),
    (Way.HELD, {Nearness.MACHINE}),
)
"""Which pairs are tried how, one after the other."""

IN_WORDS = {READ: "reads", UPDATE: "changes", COMMUTE: "adds to"}


@attrs.frozen
class Conflict:
    """Steps *first* and *second* of a trace meet; in `swapped` they came the other way round, and the flaw did not.

    `thing` is what both access, `how` is how each of them does, `nearness` what that is to the finding. `others` are
    the signatures of what `swapped` shows instead; best, nothing. `way` is how the second came first.
    """

    first: int
    second: int
    thing: str
    how: tuple[str, str]
    nearness: Nearness
    swapped: Trace
    others: tuple[str, ...]
    way: Way = Way.MOVED


@attrs.frozen
class Conflicts:
    """The nearest conflicts of a flaw, and how many runs it took to find them; `is_cut_off`: there were more to try."""

    found: tuple[Conflict, ...]
    runs: int
    is_cut_off: bool = False


def find_conflicts(experiment: Experiment, trace: Trace, *, keeps_time: bool, budget: int | None = None) -> Conflicts:
    """Up to `SHOWN` pairs whose other order does not show this flaw, nearest first, by at most *budget* runs.

    Where the other order only shows another finding of the same sort, the flaw has moved, and the pair counts last. Of
    pairs that are as near as each other those come first whose other order shows nothing new at all.
    """
    if budget is None:
        budget = min(max(DEFAULT_STEPS // max(len(trace.steps), 1), LEAST_RUNS), MOST_RUNS)
    swaps = Swaps(experiment, trace, keeps_time, budget)
    plain = run_traced(experiment, Follow((), keeps_time=keeps_time))
    known = frozenset({*plain.stage.world.findings, *trace.stage.world.findings})
    gone: list[Conflict] = []
    moved: list[Conflict] = []
    for group in Search(swaps, known).groups(pairs_of(trace)):
        for conflict, is_moved in sorted(group, key=lambda one: not known.issuperset(one[0].others)):
            (moved if is_moved else gone).append(conflict)
        if len(gone) >= SHOWN:
            break
    return Conflicts((*gone, *moved)[:SHOWN], swaps.runs, swaps.is_spent)


@attrs.frozen
class Search:
    """Tries pairs. `known` are the findings that the run and the plain order show anyway."""

    swaps: Swaps
    known: frozenset[str]

    def groups(self, pairs: list[Pair]) -> Iterator[list[tuple[Conflict, bool]]]:
        """The conflicts among *pairs*, each with whether the flaw has only moved, in groups, the best group first."""
        fixed: list[Pair] = []
        for way, nearnesses in TURNS:
            some = [pair for pair in (pairs if way is Way.MOVED else fixed) if pair.nearness in nearnesses]
            for _, group in groupby(some, key=lambda pair: pair.nearness):
                yield list(self.try_pairs(group, way, fixed))

    def try_pairs(self, pairs: Iterable[Pair], way: Way, fixed: list[Pair]) -> Iterator[tuple[Conflict, bool]]:
        """The conflicts among *pairs*; those that come in one order only, as the run is, are added to *fixed*."""
        waits: set[int] = set()
        for pair in pairs:
            if pair.first in waits:
                continue  # it is known to come too early
            swapped = self.swaps.run(pair.first, pair.second, way)
            if swapped is None and way is Way.MOVED:
                fixed.append(pair)
            elif swapped is not None and swapped.found is None:
                if pair.nearness is Nearness.WAIT:
                    waits.add(pair.first)
                yield self.judge(pair, swapped, way)

    def judge(self, pair: Pair, swapped: Trace, way: Way) -> tuple[Conflict, bool]:
        """The conflict that a run has shown, or a later one, if in the first the flaw has only moved; and if so."""
        if not self.is_moved(swapped):
            return make_conflict(self.swaps.trace, swapped, pair, way), False
        if pair.nearness is Nearness.OBJECT:
            last = self.swaps.run(pair.first, pair.second, Way.LAST)
            if last is not None and last.found is None and not self.is_moved(last):
                return make_conflict(self.swaps.trace, last, pair, Way.LAST), False
        return make_conflict(self.swaps.trace, swapped, pair, way), True

    def is_moved(self, swapped: Trace) -> bool:
        """Whether the other order shows the same sort of flaw, only elsewhere: what it does not hang on."""
        kind = self.swaps.trace.signature.partition(":")[0]
        sort = MEMORY if kind in MEMORY else {kind}
        return any(other.partition(":")[0] in sort for other in swapped.stage.world.findings.keys() - self.known)


def make_conflict(trace: Trace, swapped: Trace, pair: Pair, way: Way) -> Conflict:
    """Put a pair that has been tried into words."""
    one, other = trace.steps[pair.first], trace.steps[pair.second]
    how = (IN_WORDS[one.accesses[pair.thing]], IN_WORDS[other.accesses[pair.thing]])
    return Conflict(
        pair.first,
        pair.second,
        name_of(pair.thing),
        how,
        pair.nearness,
        swapped,
        tuple(swapped.stage.world.findings),
        way,
    )
