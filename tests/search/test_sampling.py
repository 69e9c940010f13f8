"""The guarantees of the sampling strategies: a uniform distribution, or a lower bound of a probability.

All seeds are fixed, so these tests are deterministic. With random seeds one test in a thousand would exceed its limit.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import attrs
import pytest

from actors.system.flow import Flow
from actors.system.lane import Lane
from actors.system.stepper import run_stepper
from actors.system.strategy import Strategy
from actors.system.world import EnabledSet, World
from explorer.profile import Knowledge, seed_of
from explorer.search.registry import find_strategy, make_strategy
from explorer.watch import Watch
from tests.helpers import Seen
from tests.search.programs import Body, Cell, Program, cells, independent, read_then_write, start

Steps = list[tuple[str, str]]
"""The lane of each step, and the object of its request."""


@attrs.define(eq=False)
class SeenWithOwners(Seen):
    """An observer that also records the object of each step's request."""

    owners: list[str] = attrs.field(factory=list)

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:
        super().step(world, enabled, index, lane)
        target = lane.request.target if lane.request is not None else None
        self.owners.append(target.label if target is not None else "")


def steps_of(program: Program, strategy: Strategy) -> Steps:
    """Run *program* once; return its steps."""
    world, _ = start(program, strategy)
    seen = SeenWithOwners()
    world.observers = (seen,)
    run_stepper(world)
    return list(zip(seen.stepped, seen.owners, strict=True))


def learn(strategy: str, program: Program) -> Knowledge:
    """The statistics of fifty random runs: the lengths of lanes, and of the longest run."""
    known = Knowledge()
    for seed in range(50):
        world, _ = start(program, make_strategy("random", seed))
        watch = Watch(world, word=find_strategy(strategy)[1])
        world.observers = (watch,)
        watch.phase("race")
        run_stepper(world)
        known.learn(watch.profile())
    return known


def sample(strategy: str, program: Program, count: int) -> list[Steps]:
    """*count* schedules of a strategy that has the run statistics it needs."""
    known = learn(strategy, program)
    return [steps_of(program, make_strategy(strategy, seed_of(0, number), known)) for number in range(count)]


def chi_square(counts: Counter[object], possibilities: int) -> float:
    """The chi-square statistic of *counts* against a uniform distribution over *possibilities*."""
    expected = sum(counts.values()) / possibilities
    seen = sum((count - expected) ** 2 / expected for count in counts.values())
    return seen + expected * (possibilities - len(counts))


def limit(possibilities: int) -> float:
    """The value that chi-square exceeds with a probability of 1/1000 (Wilson and Hilferty)."""
    degrees = possibilities - 1
    return float(degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3)


def test_the_limit_equals_the_published_tables() -> None:
    assert limit(11) == pytest.approx(29.6, abs=0.3)
    assert limit(30) == pytest.approx(58.3, abs=0.3)


def multinomial(lengths: Iterable[int]) -> int:
    lengths = list(lengths)
    return math.factorial(sum(lengths)) // math.prod(map(math.factorial, lengths))


def orders(runs: Iterable[Steps]) -> Counter[object]:
    """The number of occurrences of each interleaving."""
    return Counter("".join(flow[-1] for flow, _ in run) for run in runs)


# -- urw --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [[3, 3], [2, 2, 1], [5, 1], [1, 1, 1, 1]])
def test_urw_is_uniform_over_interleavings_when_it_knows_the_lengths(lengths: list[int]) -> None:
    possibilities = multinomial(lengths)
    counts = orders(sample("urw", independent(lengths), 150 * possibilities))

    assert len(counts) == possibilities
    assert chi_square(counts, possibilities) < limit(possibilities)


@pytest.mark.parametrize("lengths", [[3, 3], [5, 1]])
def test_random_is_not_uniform_over_interleavings(lengths: list[int]) -> None:
    """The test above can fail: a walk that is uniform at each step is far from uniform over interleavings."""
    possibilities = multinomial(lengths)

    assert chi_square(orders(sample("random", independent(lengths), 150 * possibilities)), possibilities) > 500


def test_urw_that_knows_nothing_still_reaches_every_interleaving() -> None:
    program = independent([2, 2])
    counts = orders(steps_of(program, make_strategy("urw", seed)) for seed in range(300))

    assert len(counts) == 6


# -- surw -------------------------------------------------------------------------------------------------------------


def marked(lengths: Sequence[int], others: Sequence[int]) -> Program:
    """Flows that each write x0 several times, and do *others* private steps before each of these writes."""

    def program(world: World) -> Sequence[Body]:
        shared, *own = cells(world, 1 + len(lengths))

        def body(mine: Cell, count: int, more: int) -> Body:
            async def work(flow: Flow) -> None:
                for _ in range(count):
                    for _ in range(more):
                        await flow.ask(mine.read)
                    await flow.ask(shared.write, 1)

            return work

        return list(map(body, own, lengths, others))

    return program


def projections(runs: Iterable[Steps]) -> Counter[object]:
    """The number of occurrences of each order of the writes of x0."""
    return Counter("".join(flow[-1] for flow, owner in run if owner == "x0") for run in runs)


@pytest.mark.parametrize(
    ("lengths", "others"), [([2, 2], [0, 6]), ([3, 2], [1, 1]), ([2, 1, 1], [0, 3, 9]), ([1, 1, 1], [9, 0, 0])]
)
def test_surw_is_uniform_over_the_orders_of_the_steps_that_matter(lengths: list[int], others: list[int]) -> None:
    """The number of other steps of each flow makes no difference."""
    possibilities = multinomial(lengths)
    counts = projections(sample("surw:x0", marked(lengths, others), 200 * possibilities))

    assert len(counts) == possibilities
    assert chi_square(counts, possibilities) < limit(possibilities)


@pytest.mark.parametrize("strategy", ["random", "urw"])
def test_other_strategies_are_not_uniform_over_these_orders(strategy: str) -> None:
    lengths, others = [2, 2], [0, 6]
    counts = projections(sample(strategy, marked(lengths, others), 1_200))

    assert chi_square(counts, multinomial(lengths)) > 200


def test_surw_keeps_a_chance_for_every_schedule() -> None:
    counts = orders(sample("surw:x0", marked([1, 1], [1, 1]), 600))

    assert len(counts) == multinomial([2, 2])


# -- pct --------------------------------------------------------------------------------------------------------------


def between(steps: int, readings: Sequence[int]) -> tuple[Program, Callable[[], bool]]:
    """A writer counts from 1 to *steps*; a reader must see *readings*, one by one."""

    def program(world: World) -> Sequence[Body]:
        (x,) = cells(world, 1)

        async def write(flow: Flow) -> None:
            for value in range(1, steps + 1):
                await flow.ask(x.write, value)

        async def read(flow: Flow) -> None:
            read_values.extend([await flow.ask(x.read) for _ in readings])

        return [write, read]

    read_values: list[int] = []

    def is_hit() -> bool:
        hit = read_values == list(readings)
        read_values.clear()
        return hit

    return program, is_hit


@pytest.mark.parametrize(
    ("depth", "steps", "readings"),
    [
        pytest.param(1, 6, [0], id="the reader is first"),
        pytest.param(1, 6, [6], id="the reader is last"),
        pytest.param(2, 6, [1], id="behind the first write"),
        pytest.param(2, 6, [5], id="before the last write"),
        pytest.param(2, 6, [0, 6], id="round all writes"),
        pytest.param(3, 4, [1, 4], id="behind the first write and behind the last"),
        pytest.param(3, 4, [0, 3], id="before the first write and before the last"),
    ],
)
def test_pct_finds_a_flaw_of_its_depth_as_often_as_it_promises(depth: int, steps: int, readings: list[int]) -> None:
    """The bound is once in n k^(d-1) runs, for n flows and k steps with a choice."""
    program, is_hit = between(steps, readings)
    known = learn("pct", program)
    runs, hits = 4_000, 0
    is_hit()
    for number in range(runs):
        steps_of(program, make_strategy(f"pct:{depth}", seed_of(0, number), known))
        hits += is_hit()
    promised = 1 / (2 * known.longest ** (depth - 1))

    assert hits / runs > promised - 3 * math.sqrt(promised / runs)


@pytest.mark.parametrize("flows", [2, 3, 5])
def test_pct_of_depth_one_is_a_random_order_of_the_flows(flows: int) -> None:
    program = independent([2] * flows)
    counts = orders(sample("pct:1", program, 100 * math.factorial(flows)))
    serial = {"".join(f"{flow}{flow}" for flow in order) for order in itertools.permutations(range(flows))}

    assert set(counts) == serial
    assert chi_square(counts, len(serial)) < limit(len(serial))


def test_pct_switches_as_often_as_its_depth_allows() -> None:
    """Each change point puts one flow below the others: at most d-1 more switches than in a serial order."""
    for depth in (1, 2, 3):
        runs = orders(sample(f"pct:{depth}", independent([5, 5]), 300))
        switches = [sum(map(str.__ne__, str(order), str(order)[1:])) for order in runs]

        assert max(switches) == depth


# -- pos --------------------------------------------------------------------------------------------------------------


def long_way(steps: int) -> Program:
    """One flow does *steps* private steps and then writes x0; another one reads x0 once."""

    def program(world: World) -> Sequence[Body]:
        x, own = cells(world, 2)

        async def write(flow: Flow) -> None:
            for _ in range(steps):
                await flow.ask(own.read)
            await flow.ask(x.write, 1)

        async def read(flow: Flow) -> None:
            await flow.ask(x.read)

        return [write, read]

    return program


def share_of_late_reads(strategy: str, steps: int) -> float:
    runs = sample(strategy, long_way(steps), 2_000)
    return sum(run[-1][0] == "flow 1" for run in runs) / len(runs)


def test_pos_reaches_a_late_order_more_often_than_a_random_walk() -> None:
    """The read is last if its priority is the lowest: with probability 1/(m+2), against 1/2^(m+1)."""
    steps = 6

    assert share_of_late_reads("pos", steps) == pytest.approx(1 / (steps + 2), rel=0.2)
    assert share_of_late_reads("random", steps) == pytest.approx(1 / 2 ** (steps + 1), rel=0.6)


def test_pos_draws_new_priorities_for_racing_flows() -> None:
    """Two flows write one cell: after each write both draw again, so all orders have the same probability."""

    def program(world: World) -> Sequence[Body]:
        (x,) = cells(world, 1)

        async def write(flow: Flow) -> None:
            for _ in range(2):
                await flow.ask(x.write, 1)

        return [write, write]

    firsts = Counter(run[0][0][-1] + run[1][0][-1] for run in sample("pos", program, 2_000))
    shares = {first: count / 2_000 for first, count in firsts.items()}

    assert shares == pytest.approx(dict.fromkeys(("00", "01", "10", "11"), 0.25), abs=0.04)


@pytest.mark.parametrize("strategy", ["pos", "pct:3", "urw", "surw:x0", "random"])
def test_every_strategy_reaches_every_class_of_a_small_program(strategy: str) -> None:
    found = {tuple(run) for run in sample(strategy, read_then_write(2), 400)}

    assert len(found) == 6
