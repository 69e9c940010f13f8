"""The Trio side of the Trio driver: cancellation, pacing, other tasks of the loop, and errors raised unchanged."""

from __future__ import annotations

import inspect
import itertools
import math

import pytest
import trio
import trio.testing

from actors.system.flow import Flow
from actors.system.trio_driver import BREATH, TrioDriver, run_trio
from actors.system.world import World
from explorer.search.strategies.simple import RandomWalk
from tests.helpers import Cell, Payload, make_cell, make_world, record, spawn


def make_busy_world(*, flows: int = 4, seed: int = 0) -> tuple[World, Cell]:
    """A world that never ends: its flows take turns at one cell, and some sleep in between."""
    world, _ = make_world(RandomWalk(seed))
    cell = make_cell(world)

    async def busy(flow: Flow) -> None:
        while True:
            await flow.ask(cell.add)

    async def drowsy(flow: Flow) -> None:
        while True:
            await flow.ask(cell.add)
            await flow.sleep(5_000)

    for number in range(flows):
        spawn(world, f"flow{number}", drowsy if number % 2 else busy)
    return world, cell


def open_coroutines(world: World) -> list[str]:
    """The flows whose coroutine has not been closed."""
    return [
        flow.name
        for flow in world.flows
        if flow.coro is not None and inspect.getcoroutinestate(flow.coro) != inspect.CORO_CLOSED
    ]


# -- cancellation -----------------------------------------------------------------------------------------------------


@pytest.mark.trio
@pytest.mark.parametrize("when", [1, 7, 100, BREATH - 1, BREATH, 2 * BREATH + 3])
async def test_an_outer_cancel_scope_ends_the_run_wherever_it_strikes(when: int) -> None:
    world, _ = make_busy_world()
    with trio.CancelScope() as scope:
        world.checks.append(lambda _flow: scope.cancel() if world.steps == when else None)
        await TrioDriver(world).run()

    assert scope.cancelled_caught
    assert when <= world.steps <= when + BREATH
    assert open_coroutines(world) == []


@pytest.mark.trio
async def test_cancellation_reaches_a_flow_that_is_all_alone() -> None:
    """The flow passes the baton to itself, so no other task is parked when the scope is cancelled."""
    world, _ = make_world()

    async def alone(flow: Flow) -> None:
        while True:
            await flow.choose(2)

    spawn(world, "alone", alone)
    with trio.CancelScope() as scope:
        world.checks.append(lambda _flow: scope.cancel() if world.steps == 20 else None)
        await TrioDriver(world).run()

    assert scope.cancelled_caught
    assert 20 <= world.steps <= 20 + BREATH
    assert open_coroutines(world) == []


@pytest.mark.trio
async def test_cancellation_closes_flows_that_have_never_stepped_too() -> None:
    world, cell = make_busy_world()

    async def waits(flow: Flow) -> None:
        await flow.sleep(10**15)

    spawn(world, "waits", waits)
    with trio.CancelScope() as scope:
        world.checks.append(lambda _flow: scope.cancel() if world.steps == 50 else None)
        await TrioDriver(world).run()

    assert cell.value >= 50
    assert open_coroutines(world) == []


@pytest.mark.trio
async def test_cancellation_runs_the_finally_blocks_of_flows() -> None:
    world, _ = make_busy_world()
    cell = make_cell(world, "another")
    ended: list[str] = []

    async def tidy(flow: Flow) -> None:
        try:
            while True:
                await flow.ask(cell.add)
        finally:
            ended.append(flow.name)

    for name in ("a", "b"):
        spawn(world, name, tidy)
    with trio.CancelScope() as scope:
        world.checks.append(lambda _flow: scope.cancel() if world.steps == 60 else None)
        await TrioDriver(world).run()

    assert sorted(ended) == ["a", "b"]


@pytest.mark.trio
async def test_an_actor_may_retire_in_the_slice_in_which_the_run_is_cancelled() -> None:
    """The cancellation has already cancelled its task."""
    world, _ = make_busy_world()
    cell = make_cell(world, "freed")
    other = make_cell(world, "another")

    async def frees(flow: Flow) -> None:
        await flow.ask(cell.add)
        for _ in range(10):
            await flow.ask(other.add)
        scope.cancel()
        cell.actor.retire()
        await flow.ask(other.add)

    spawn(world, "frees", frees)
    with trio.CancelScope() as scope:
        await TrioDriver(world).run()

    assert scope.cancelled_caught
    assert cell.actor.finished
    assert open_coroutines(world) == []


@pytest.mark.trio
async def test_a_neighbour_may_cancel_the_run_between_two_slices() -> None:
    """Another task of the same nursery runs while the baton is being passed, and cancels at that moment."""
    world, cell = make_busy_world()
    async with trio.open_nursery() as nursery:

        async def cancel_after_some_turns() -> None:
            for _ in range(40):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

        nursery.start_soon(cancel_after_some_turns)
        nursery.start_soon(TrioDriver(world).run)

    assert cell.value > 0
    assert world.stopped is None
    assert open_coroutines(world) == []


@pytest.mark.trio
async def test_a_deadline_ends_a_run_that_is_paced(autojump_clock: trio.testing.MockClock) -> None:
    assert autojump_clock.rate == 0
    world, cell = make_busy_world()
    began = trio.current_time()
    with trio.move_on_after(3) as scope:
        await TrioDriver(world, seconds_per_virtual_second=1_000_000).run()

    assert scope.cancelled_caught
    assert trio.current_time() - began == pytest.approx(3)
    assert cell.value > 0
    assert world.now / 1e9 * 1_000_000 == pytest.approx(3, abs=0.2)
    assert open_coroutines(world) == []


# -- the end of a run -------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_a_run_that_ends_leaves_no_task_behind() -> None:
    world, _ = make_world()
    cell = make_cell(world, value=1)

    async def service(flow: Flow) -> None:
        while True:
            await flow.ask(cell.serve)

    async def body(flow: Flow) -> None:
        await flow.ask(cell.read)

    spawn(world, "service", service)
    spawn(world, "body", body)
    tasks_before = trio.lowlevel.current_statistics().tasks_living
    await TrioDriver(world).run()

    assert world.stopped == "quiescent"
    assert trio.lowlevel.current_statistics().tasks_living == tasks_before


def test_an_empty_world_ends_at_once() -> None:
    world, _ = make_world()
    run_trio(world)

    assert world.steps == 0
    assert world.stopped == "quiescent"


def test_an_internal_error_is_raised_unchanged_and_closes_all_flows() -> None:
    world, _ = make_busy_world()
    cell = make_cell(world, "another")

    async def fails(flow: Flow) -> None:
        for _ in range(20):
            await flow.ask(cell.add)
        msg = "slabrace is wrong"
        raise ValueError(msg)

    spawn(world, "fails", fails)
    with pytest.raises(ValueError, match="slabrace is wrong") as raised:
        run_trio(world)

    assert not isinstance(raised.value, BaseExceptionGroup)
    assert open_coroutines(world) == []


# -- pacing -----------------------------------------------------------------------------------------------------------


def make_sleepy_world() -> World:
    """One flow that sleeps three times, a virtual second each."""
    world, _ = make_world()

    async def body(flow: Flow) -> None:
        for _ in range(3):
            await flow.sleep(1_000_000_000)

    spawn(world, "a", body)
    return world


@pytest.mark.trio
@pytest.mark.parametrize("pace", [0.25, 1.0, 60.0])
async def test_a_paced_run_takes_its_virtual_time_times_the_pace(
    autojump_clock: trio.testing.MockClock, pace: float
) -> None:
    assert autojump_clock.autojump_threshold == 0
    world = make_sleepy_world()
    began = trio.current_time()
    await TrioDriver(world, seconds_per_virtual_second=pace).run()

    assert world.now >= 3_000_000_000
    assert trio.current_time() - began == pytest.approx(world.now / 1e9 * pace, rel=1e-4)


@pytest.mark.trio
async def test_a_paced_run_does_not_step_before_its_time(mock_clock: trio.testing.MockClock) -> None:
    world = make_sleepy_world()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(TrioDriver(world, seconds_per_virtual_second=1.0).run)
        woken = []
        for _ in range(4):
            await trio.testing.wait_all_tasks_blocked()
            woken.append(world.steps)
            mock_clock.jump(1.0)

    assert woken == [1, 2, 3, 3], "each second lets one sleeper go on"


@pytest.mark.trio
@pytest.mark.parametrize("pace", [None, 0.0, math.inf])
async def test_a_run_without_a_pace_waits_for_no_clock(mock_clock: trio.testing.MockClock, pace: float | None) -> None:
    assert mock_clock.rate == 0
    world = make_sleepy_world()
    await TrioDriver(world, seconds_per_virtual_second=pace).run()

    assert world.stopped == "quiescent"
    assert trio.current_time() == mock_clock.current_time()


@pytest.mark.trio
async def test_pacing_changes_no_byte_of_the_log(autojump_clock: trio.testing.MockClock) -> None:
    assert autojump_clock.autojump_threshold == 0
    recorded = []
    for pace in (None, 1_000.0):
        world, payloads = make_mixed_world(seed=3)
        await TrioDriver(world, seconds_per_virtual_second=pace).run()
        recorded.append(payloads)

    assert recorded[0] == recorded[1]
    assert len(recorded[0]) > 50


# -- neighbours -------------------------------------------------------------------------------------------------------


def make_mixed_world(seed: int) -> tuple[World, list[Payload]]:
    """A recorded world with requests, sleep and choices, which ends."""
    world, _ = make_world(RandomWalk(seed))
    payloads, _ = record(world)
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        for _ in range(10):
            await flow.ask(cell.add)
            if await flow.choose(3) == 0:
                await flow.sleep(1_000)

    for number in range(3):
        spawn(world, f"flow{number}", body)
    return world, payloads


@pytest.mark.trio
async def test_two_worlds_in_one_trio_loop_do_not_touch_each_other() -> None:
    alone = []
    for seed in (1, 2):
        world, payloads = make_mixed_world(seed)
        await TrioDriver(world).run()
        alone.append(payloads)
    first, first_payloads = make_mixed_world(1)
    second, second_payloads = make_mixed_world(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(TrioDriver(first).run)
        nursery.start_soon(TrioDriver(second).run)

    assert [first_payloads, second_payloads] == alone
    assert alone[0] != alone[1]


@pytest.mark.trio
async def test_a_long_run_lets_other_tasks_run() -> None:
    world, cell = make_busy_world(flows=1)
    world.checks.append(lambda _flow: world.stop("enough") if world.steps == 5 * BREATH else None)
    beats: list[int] = []
    async with trio.open_nursery() as nursery:

        async def heart() -> None:
            while world.stopped is None:
                beats.append(cell.value)
                await trio.lowlevel.checkpoint()

        nursery.start_soon(heart)
        nursery.start_soon(TrioDriver(world).run)

    assert max(after - before for before, after in itertools.pairwise(beats)) <= 2 * BREATH
    assert beats[-1] > 3 * BREATH
