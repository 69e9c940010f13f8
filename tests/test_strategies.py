"""The guarantees of each strategy, apart from determinism."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest

from actors.system.cpu import Cpu
from actors.system.flow import Flow
from actors.system.stepper import run_stepper
from actors.system.strategy import InTurn
from actors.system.world import World
from explorer.search.registry import STRATEGIES, make_strategy
from explorer.search.strategies.simple import PARALLEL_JITTER, Clock, RandomWalk, RoundRobin
from protocol.errors import UsageError
from protocol.operations import UPDATE, operation
from tests.helpers import Cell, Seen, make_cell, make_world, run_small, spawn

each_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


def run_flows(strategy: str, seed: int, *, flows: int = 3, rounds: int = 20, cpus: int = 0) -> tuple[World, Seen]:
    """Run flows that each make *rounds* requests, each flow on a CPU of its own if there are CPUs."""
    world, seen = make_world(make_strategy(strategy, seed))
    cell = make_cell(world)
    on = [Cpu.boot(world, number) for number in range(cpus)]

    async def body(flow: Flow) -> None:
        for _ in range(rounds):
            await flow.ask(cell.add)

    for number in range(flows):
        spawn(world, f"flow{number}", body, cpu=on[number % cpus] if cpus else None)
    run_stepper(world)
    return world, seen


@each_strategy
def test_the_same_seed_chooses_the_same(strategy: str) -> None:
    assert run_flows(strategy, 7, cpus=2)[1].stepped == run_flows(strategy, 7, cpus=2)[1].stepped


@each_strategy
def test_different_seeds_choose_differently(strategy: str) -> None:
    assert len({tuple(run_flows(strategy, seed, cpus=3)[1].stepped) for seed in range(8)}) > 1


@each_strategy
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_chosen_value_is_below_its_count_and_every_value_occurs(strategy: str, count: int) -> None:
    chooser = make_strategy(strategy, 1)

    assert {chooser.choose_value(count) for _ in range(200)} == set(range(count))


def test_an_unknown_strategy_is_a_usage_error_that_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="there are random, roundrobin, clock"):
        make_strategy("best", 0)


@each_strategy
def test_every_strategy_finds_the_canary_with_its_first_schedules(strategy: str) -> None:
    """Every working strategy finds the planted flaw; if one does not, the explorer is broken."""
    outcomes = [run_small("canary", strategy=strategy, seed=seed, settings={}).outcome for seed in range(5)]

    assert "finding" in outcomes


# -- random -----------------------------------------------------------------------------------------------------------


def test_random_steps_every_flow_about_as_often() -> None:
    _, seen = run_flows("random", 1, flows=4, rounds=1000)
    first = Counter(seen.stepped[:2000])

    assert len(first) == 4
    assert all(400 < count < 600 for count in first.values())


# -- roundrobin -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_roundrobin_gives_every_flow_a_turn_before_any_has_a_second(seed: int) -> None:
    _, seen = run_flows("roundrobin", seed, flows=3, rounds=10)

    assert seen.stepped == seen.stepped[:3] * 10
    assert seen.stepped[0] == f"flow{seed % 3}"
    assert sorted(seen.stepped[:3]) == ["flow0", "flow1", "flow2"]


def test_roundrobin_passes_over_waiting_flows() -> None:
    world, seen = make_world(RoundRobin(0))
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        await flow.ask(cell.add)
        if flow.name == "b":
            await flow.sleep(100_000)
        await flow.ask(cell.add)
        await flow.ask(cell.add)

    for name in "abc":
        spawn(world, name, body)
    run_stepper(world)

    assert seen.stepped[:5] == ["a", "b", "c", "a", "c"]
    assert Counter(seen.stepped) == {"a": 3, "b": 4, "c": 3}


# -- clock ------------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Slow(Cell):
    """A cell whose operations take long, or become possible only after a latency."""

    @operation(UPDATE, cost=1_000)
    def work(self) -> None:
        self.value += 1

    @operation(UPDATE, cost=10)
    def glance(self) -> None:
        self.value += 1

    @operation(UPDATE, when=Cell.is_positive, latency=(5_000, 9_000))
    def wake_up(self) -> None:
        self.value -= 1


def make_slow(world: World) -> Slow:
    return Slow(make_cell(world, "slow").actor, "slow")


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_on_the_clock_cpus_run_in_parallel_and_flows_of_one_cpu_one_after_the_other(cpus: int) -> None:
    world, _ = make_world(Clock(0))
    slow = make_slow(world)
    machine = [Cpu.boot(world, number) for number in range(cpus)]

    async def body(flow: Flow) -> None:
        for _ in range(25):
            await flow.ask(slow.work)

    for number in range(4):
        spawn(world, f"flow{number}", body, cpu=machine[number % cpus])
    run_stepper(world)

    work_of_each_cpu = 100 // cpus * 1_000
    assert slow.value == 100
    assert work_of_each_cpu - 1_000 <= world.now <= work_of_each_cpu * (1 + 1 / PARALLEL_JITTER)


def test_on_the_clock_short_steps_do_not_wait_for_long_ones_of_another_cpu() -> None:
    world, seen = make_world(Clock(0))
    slow = make_slow(world)

    async def works(flow: Flow) -> None:
        for _ in range(3):
            await flow.ask(slow.work)

    async def glances(flow: Flow) -> None:
        for _ in range(50):
            await flow.ask(slow.glance)

    spawn(world, "works", works, cpu=Cpu.boot(world, 0))
    spawn(world, "glances", glances, cpu=Cpu.boot(world, 1))
    run_stepper(world)

    second = [number for number, name in enumerate(seen.stepped) if name == "works"][1]
    assert seen.stepped[:second].count("glances") == 50, "fifty glances of 10 ns pass in one work of 1,000 ns"


@pytest.mark.parametrize("seed", range(5))
def test_on_the_clock_an_operation_takes_its_latency(seed: int) -> None:
    """Only the clock strategy applies latencies; under all others the operation is possible at once."""
    woken: dict[str, int] = {}
    for strategy in STRATEGIES:
        world, _ = make_world(make_strategy(strategy, seed))
        woken[strategy] = time_of_wake_up(world)

    assert 5_000 <= woken.pop("clock") <= 9_000 + 100
    assert all(time <= 100 for time in woken.values())


def time_of_wake_up(world: World) -> int:
    """The time between an event and the step of the flow that waited for it (ns)."""
    slow = make_slow(world)
    times: list[int] = []

    async def sleeper(flow: Flow) -> None:
        await flow.ask(slow.wake_up)
        times.append(world.now)

    async def waker(flow: Flow) -> None:
        await flow.ask(slow.glance)
        times.append(world.now)

    spawn(world, "sleeper", sleeper)
    spawn(world, "waker", waker)
    run_stepper(world)
    woken, woke = times
    return woke - woken


@pytest.mark.parametrize("seed", range(3))
def test_on_the_clock_a_sleeper_wakes_on_time_while_others_work(seed: int) -> None:
    world, _ = make_world(Clock(seed))
    slow = make_slow(world)
    woken: list[int] = []

    async def sleeper(flow: Flow) -> None:
        await flow.sleep(20_500)
        woken.append(world.now)

    async def works(flow: Flow) -> None:
        for _ in range(50):
            await flow.ask(slow.work)

    spawn(world, "sleeper", sleeper, cpu=Cpu.boot(world, 0))
    spawn(world, "works", works, cpu=Cpu.boot(world, 1))
    run_stepper(world)

    assert woken == [20_500]


# -- in turn ----------------------------------------------------------------------------------------------------------


def test_in_turn_stays_with_a_flow_until_it_must_wait_then_takes_the_next() -> None:
    world, seen = make_world(InTurn())
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        await flow.ask(cell.add)
        await flow.ask(cell.add)
        await flow.sleep(10_000)
        await flow.ask(cell.add)

    for name in "abc":
        spawn(world, name, body)
    run_stepper(world)

    assert seen.stepped == list("aabbccaabbcc")


def test_random_is_uniform_over_values_too() -> None:
    chooser = RandomWalk(3)
    counts = Counter(chooser.choose_value(4) for _ in range(4000))

    assert all(900 < count < 1100 for count in counts.values())
