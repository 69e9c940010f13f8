"""DFS runs every schedule once, or every one within its bounds: counted by hand and by formula."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from actors.system.flow import Flow
from actors.system.stepper import run_stepper
from actors.system.world import World
from explorer.search.jobs import JobReport
from explorer.search.strategies.dfs import Dfs
from explorer.search.strategies.dpor import Dpor
from tests.helpers import Seen
from tests.search.noting import Noting
from tests.search.programs import Body, Program, cells, independent, locked, run_dfs, start


def multinomial(lengths: Sequence[int]) -> int:
    """The number of interleavings of flows with these numbers of steps."""
    return math.factorial(sum(lengths)) // math.prod(map(math.factorial, lengths))


def schedules_of(program: Program, search: Dfs) -> list[str]:
    """The flows that stepped in each schedule, as the last digits of their names."""
    found = []
    while (follow := search.next_schedule()) is not None:
        world, _ = start(program, follow)
        seen = Seen()
        world.observers = (seen,)
        run_stepper(world)
        search.learn(follow, JobReport())
        found.append("".join(name[-1] for name in seen.stepped))
    return found


@pytest.mark.parametrize(
    "lengths", [[1], [3], [1, 1], [2, 3], [4, 4], [1, 1, 1], [2, 2, 2], [1, 2, 3], [1, 1, 1, 1, 1]]
)
def test_without_a_bound_every_interleaving_is_run_once(lengths: list[int]) -> None:
    found = schedules_of(independent(lengths), Dfs())

    assert len(found) == len(set(found)) == multinomial(lengths)
    assert all(sorted(schedule) == sorted(found[0]) for schedule in found)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_flows_under_one_lock_are_run_in_every_order(count: int) -> None:
    """A flow that needs the lock is enabled only while it is free, so no flow steps inside another's section."""
    found = schedules_of(locked(count), Dfs())

    assert len(found) == len(set(found)) == math.factorial(count)


# -- bounds -----------------------------------------------------------------------------------------------------------
# Two flows of two steps, by hand. A preemption takes the turn from a flow that could go on:
#   0011 0, 1100 0, 0110 1 (the switch back is no preemption: flow 1 has ended), 1001 1, 0101 2, 1010 2.
# A delay skips one flow in the order "go on while you can, then the next one":
#   0011 0, 1100 1, 0110 1, 1001 2, 0101 2, 1010 3.

PREEMPTIONS = {0: {"0011", "1100"}, 1: {"0110", "1001"}, 2: {"0101", "1010"}, 3: set[str]()}
DELAYS = {0: {"0011"}, 1: {"1100", "0110"}, 2: {"1001", "0101"}, 3: {"1010"}, 4: set[str]()}


@pytest.mark.parametrize("bound", PREEMPTIONS)
def test_a_bound_on_preemptions_lets_those_schedules_pass_that_have_no_more(bound: int) -> None:
    found = schedules_of(independent([2, 2]), Dfs(preemptions=bound))

    assert sorted(found) == sorted(set[str]().union(*(PREEMPTIONS[count] for count in range(bound + 1))))


@pytest.mark.parametrize("bound", DELAYS)
def test_a_bound_on_delays_lets_those_schedules_pass_that_have_no_more(bound: int) -> None:
    found = schedules_of(independent([2, 2]), Dfs(delays=bound))

    assert sorted(found) == sorted(set[str]().union(*(DELAYS[count] for count in range(bound + 1))))


@pytest.mark.parametrize(("delays", "schedules"), [(0, 1), (1, 3), (2, 5), (3, 6)])
def test_a_delay_may_skip_several_flows_each_for_one(delays: int, schedules: int) -> None:
    """Three flows of one step: 012 0; 120 1, 021 1; 201 2, 102 2; 210 3."""
    assert len(schedules_of(independent([1, 1, 1]), Dfs(delays=delays))) == schedules


def test_both_bounds_hold_at_once() -> None:
    """Among the schedules with at most one delay, 0110 has a preemption."""
    assert sorted(schedules_of(independent([2, 2]), Dfs(preemptions=0, delays=1))) == ["0011", "1100"]


def test_a_flow_that_waits_takes_no_turn_and_is_not_preempted() -> None:
    """A flow that needs a held lock cannot go on, so no order of the two sections has a preemption."""
    found = schedules_of(locked(2), Dfs(preemptions=0))

    assert len(found) == 2


def test_a_flow_that_is_spawned_in_between_is_one_more_to_choose() -> None:
    """Flow 1 spawns flow 2 after its first step; flow 2 gets the place of flow 0 if flow 0 has ended."""

    def program(world: World) -> Sequence[Body]:
        x, y = cells(world, 2)

        async def child(flow: Flow) -> None:
            await flow.ask(y.write, 1)

        async def parent(flow: Flow) -> None:
            await flow.ask(x.write, 1)

        async def spawner(flow: Flow) -> None:
            await flow.ask(x.read)
            later = Flow(world, "flow 2", flow.kind)
            world.spawn(later, child(later))
            await flow.ask(x.read)

        return [parent, spawner]

    found = schedules_of(program, Dfs(preemptions=0))

    assert sorted(found) == ["0112", "1102", "1120"]


# -- choices of the environment ---------------------------------------------------------------------------------------


def test_values_are_enumerated_like_lanes() -> None:
    chosen: list[tuple[int, int]] = []

    def program(_world: World) -> Sequence[Body]:
        async def choose(flow: Flow) -> None:
            chosen.append((await flow.choose(3), await flow.choose(2)))

        return [choose]

    assert len(run_dfs(program, Dfs())) == 6
    assert sorted(chosen) == [(one, other) for one in range(3) for other in range(2)]


def test_a_value_costs_neither_a_preemption_nor_a_delay() -> None:
    def program(_world: World) -> Sequence[Body]:
        async def choose(flow: Flow) -> None:
            await flow.choose(3)

        return [choose]

    assert len(run_dfs(program, Dfs(preemptions=0, delays=0))) == 3


def test_the_search_runs_nothing_twice_and_then_has_nothing_more() -> None:
    search = Dfs()
    run_dfs(independent([2, 2]), search)

    assert search.next_schedule() is None
    assert search.path == []


def test_a_schedule_knows_its_choices() -> None:
    """They are the choices that a recording notes: lanes, values, and faults as 0 or 1."""

    def program(world: World) -> Sequence[Body]:
        (x,) = cells(world, 1)

        async def choose(flow: Flow) -> None:
            await flow.ask(x.write, await flow.choose(3))
            if world.chooser.choose_fault(0.5):
                await flow.ask(x.read)

        return [choose, choose]

    for search in (Dfs(), Dpor()):
        seen = set()
        while (schedule := search.next_schedule()) is not None:
            noting = Noting(schedule)
            world, watch = start(program, noting)
            schedule.watched_by(watch)
            run_stepper(world)
            schedule.end(world)
            search.learn(schedule, JobReport())  # type: ignore[arg-type]  # its own schedule
            assert schedule.choices == noting.choices
            seen.add(tuple(noting.choices))

        assert {choice for choices in seen for choice in choices} == {"flow 0", "flow 1", 0, 1, 2}
