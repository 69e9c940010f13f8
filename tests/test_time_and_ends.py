"""Time, phases and the end of a world under both drivers: sleep, settle, sequential phases, checks and endings."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from actors.system.flow import SLEEP, Flow
from actors.system.lane import Lane
from protocol.findings import Oops
from protocol.operations import OperationInfo
from tests.helpers import Body, Drive, Script, each_driver, make_cell, make_reader, make_world, spawn

pytestmark = each_driver


# -- sleep and virtual time -------------------------------------------------------------------------------------------


def test_time_jumps_to_the_next_timer_when_nothing_else_can_happen(drive: Drive) -> None:
    world, _ = make_world()
    woken: list[int] = []

    async def body(flow: Flow) -> None:
        await flow.sleep(1_000_000)
        woken.append(world.now)

    spawn(world, "a", body)
    drive(world)

    assert woken == [1_000_000]
    assert world.now == 1_000_000 + SLEEP.cost


def test_sleepers_wake_in_the_order_of_their_times(drive: Drive) -> None:
    world, seen = make_world()
    woken: list[tuple[str, int]] = []

    def sleeper(ns: int) -> Body:
        async def body(flow: Flow) -> None:
            await flow.sleep(ns)
            woken.append((flow.name, world.now))

        return body

    for name, ns in (("late", 30_000), ("early", 10_000), ("middle", 20_000)):
        spawn(world, name, sleeper(ns))
    drive(world)

    assert woken == [("early", 10_000), ("middle", 20_000), ("late", 30_000)]
    assert seen.stepped == ["early", "middle", "late"]


def test_a_sleeper_wakes_no_earlier_than_asked_while_others_work(drive: Drive) -> None:
    world, seen = make_world()
    cell = make_cell(world)
    woken: list[int] = []

    async def sleeper(flow: Flow) -> None:
        await flow.sleep(5_000)
        woken.append(world.now)

    async def worker(flow: Flow) -> None:
        for _ in range(200):
            await flow.ask(cell.add)

    spawn(world, "sleeper", sleeper)
    spawn(world, "worker", worker)
    drive(world)

    assert woken[0] >= 5_000
    assert all("sleeper" not in enabled for enabled in seen.enabled[:40]), "200 steps of 100 ns: 50 until it is time"
    assert seen.stepped[-1] == "worker", "it woke in between"


def test_a_step_takes_the_virtual_time_that_its_own_operation_costs(drive: Drive) -> None:
    world, _ = make_world()
    cell = make_cell(world)
    slow, quick = cell.add_slowly, cell.add
    times: list[int] = []
    world.checks.append(lambda _flow: times.append(world.now))

    async def body(flow: Flow) -> None:
        await flow.ask(slow)
        await flow.ask(quick)
        await flow.ask(quick)

    spawn(world, "a", body)
    drive(world)

    costs = [cost_of(slow), cost_of(quick), cost_of(quick)]
    assert costs[0] != costs[1]
    assert times == [sum(costs[: count + 1]) for count in range(3)]


def cost_of(operation: Callable[..., object]) -> int:
    info: OperationInfo = operation.operation  # type: ignore[attr-defined]  # set by the declaration
    return info.cost


# -- settle -----------------------------------------------------------------------------------------------------------


def test_settle_waits_until_nothing_else_can_happen_not_even_after_a_timer(drive: Drive) -> None:
    world, _ = make_world()
    cell = make_cell(world)
    seen_by_settler: list[tuple[int, int]] = []

    async def settler(flow: Flow) -> None:
        await flow.settle()
        seen_by_settler.append((cell.value, world.now))

    async def worker(flow: Flow) -> None:
        for _ in range(3):
            await flow.ask(cell.add)
            await flow.sleep(1_000_000)

    spawn(world, "settler", settler)
    spawn(world, "worker", worker)
    drive(world)

    ((value, now),) = seen_by_settler
    assert value == 3
    assert now >= 3_000_000


def test_settlers_wake_one_after_the_other_each_when_it_is_quiet_again(drive: Drive) -> None:
    world, seen = make_world()
    cell = make_cell(world)

    async def settler(flow: Flow) -> None:
        await flow.settle()
        await flow.ask(cell.add)
        await flow.ask(cell.add)

    spawn(world, "first", settler)
    spawn(world, "second", settler)
    drive(world)

    assert seen.stepped == ["second"] * 3 + ["first"] * 3, "who came last goes first"


def test_mail_that_is_on_its_way_keeps_a_settler_waiting(drive: Drive) -> None:
    world, seen = make_world()
    reader, mail = make_reader(world)

    async def settler(flow: Flow) -> None:
        reader.post("x")
        await flow.settle()
        mail.append("settled")

    spawn(world, "settler", settler)
    drive(world)

    assert mail == ["x", "settled"]
    assert seen.stepped == ["reader", "settler"]


# -- phases -----------------------------------------------------------------------------------------------------------


class NotAsked(Script):
    """A strategy that fails if it has to choose while `is_calm`."""

    is_calm = True

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        assert not self.is_calm, "the strategy was asked in a calm phase"
        return super().choose(lanes)


def test_in_a_calm_phase_each_flow_runs_until_it_must_wait(drive: Drive) -> None:
    strategy = NotAsked()
    world, seen = make_world(strategy)
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        await flow.ask(cell.add)
        await flow.ask(cell.add)
        await flow.sleep(10_000)
        await flow.ask(cell.add)

    world.begin_phase("set-up", calm=True)
    for name in "ab":
        spawn(world, name, body)
    drive(world)

    assert seen.stepped == ["a", "a", "b", "b", "a", "a", "b", "b"]
    assert seen.phases == ["set-up"]


def test_after_a_calm_phase_the_strategy_is_asked_again(drive: Drive) -> None:
    strategy = NotAsked("b", "a", "b", "a")
    world, seen = make_world(strategy)
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        await flow.ask(cell.add)
        await flow.ask(cell.add)

    async def director(flow: Flow) -> None:
        await flow.settle()
        strategy.is_calm = False
        world.begin_phase("race", calm=False)
        spawn(world, "a", body)
        spawn(world, "b", body)

    world.begin_phase("set-up", calm=True)
    spawn(world, "director", director)
    drive(world)

    assert seen.stepped == ["director", "b", "a", "b", "a"]
    assert seen.phases == ["set-up", "race"]


def test_in_a_calm_phase_every_choice_is_the_first(drive: Drive) -> None:
    world, _ = make_world(Script(values=[3, 3]))
    chosen: list[int] = []

    async def body(flow: Flow) -> None:
        chosen.append(await flow.choose(4))
        world.begin_phase("race", calm=False)
        chosen.append(await flow.choose(4))

    world.begin_phase("set-up", calm=True)
    spawn(world, "a", body)
    drive(world)

    assert chosen == [0, 3]


# -- the end ----------------------------------------------------------------------------------------------------------


def test_the_endings_run_once_and_only_at_quiescence(drive: Drive) -> None:
    world, _ = make_world()
    cell = make_cell(world)
    ends: list[int] = []
    world.endings.append(lambda: ends.append(cell.value))

    async def body(flow: Flow) -> None:
        await flow.ask(cell.add)

    for name in "ab":
        spawn(world, name, body)
    drive(world)

    assert ends == [2]


def test_a_world_that_is_stopped_makes_no_further_step(drive: Drive) -> None:
    world, _ = make_world()
    cell = make_cell(world)
    ends: list[int] = []
    world.endings.append(lambda: ends.append(1))
    world.checks.append(lambda _flow: world.stop("enough") if world.steps == 5 else None)

    async def body(flow: Flow) -> None:
        while True:
            await flow.ask(cell.add)

    spawn(world, "a", body)
    drive(world)

    assert world.steps == cell.value == 5
    assert world.stopped == "enough"
    assert ends == []


def test_the_first_reason_to_stop_stays(drive: Drive) -> None:
    world, _ = make_world()
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        await flow.ask(cell.add)
        world.stop("first")
        world.stop("second")

    spawn(world, "a", body)
    drive(world)

    assert world.stopped == "first"


def test_checks_see_each_step_with_the_flow_that_made_it(drive: Drive) -> None:
    world, seen = make_world()
    cell = make_cell(world)
    checked: list[tuple[str, int]] = []
    world.checks.append(lambda flow: checked.append((flow.name, cell.value)))

    async def body(flow: Flow) -> None:
        await flow.ask(cell.add)
        await flow.ask(cell.add)

    for name in "ab":
        spawn(world, name, body)
    drive(world)

    assert checked == list(zip(seen.stepped, range(1, 5), strict=True))


def test_an_error_in_actor_code_is_no_finding_and_is_raised_unchanged(drive: Drive) -> None:
    world, seen = make_world()
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        await flow.ask(cell.add)
        msg = "slabrace is wrong"
        raise LookupError(msg)

    spawn(world, "a", body)
    with pytest.raises(LookupError, match="slabrace is wrong"):
        drive(world)

    assert seen.findings == []
    assert world.findings == {}


def test_an_oops_before_the_first_await_ends_the_flow_too(drive: Drive) -> None:
    world, seen = make_world()

    async def body(_flow: Flow) -> None:
        kind = "bug"
        raise Oops(kind, "at once", "kernel BUG: at once")

    spawn(world, "a", body)
    drive(world)

    assert [finding.name for finding in seen.findings] == ["at once"]
    assert world.stopped == "finding"


def test_a_flow_that_never_awaits_ends_where_it_began(drive: Drive) -> None:
    world, seen = make_world()
    cell = make_cell(world)

    async def nothing(_flow: Flow) -> None:
        cell.value += 1

    async def something(flow: Flow) -> None:
        await flow.ask(cell.add)

    spawn(world, "nothing", nothing)
    spawn(world, "something", something)
    drive(world)

    assert cell.value == 2
    assert seen.stepped == ["something"]
    assert world.stopped == "quiescent"
