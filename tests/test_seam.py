"""The seam under both drivers, in worlds without a kernel: everything that a flow may await, and its effects."""

from __future__ import annotations

from actors.system.actor import Actor, receive
from actors.system.cpu import Cpu
from actors.system.flow import Flow
from tests.helpers import PEEK, Cell, Drive, Script, each_driver, make_cell, make_reader, make_world, spawn

pytestmark = each_driver


# -- ask --------------------------------------------------------------------------------------------------------------


def test_a_request_gets_the_reply_of_its_owner(drive: Drive) -> None:
    world, _ = make_world()
    cell = make_cell(world, value=40)
    replies: list[int] = []

    async def body(flow: Flow) -> None:
        replies.append(await flow.ask(cell.add, 2))
        replies.append(await flow.ask(cell.read))
        replies.append(await flow.ask(cell.add, amount=3))

    spawn(world, "a", body)
    drive(world)

    assert replies == [42, 42, 45]
    assert world.stopped == "quiescent"


def test_every_request_is_one_step_and_steps_happen_in_the_order_of_the_strategy(drive: Drive) -> None:
    order = ("a", "b", "b", "a", "b", "a")
    world, seen = make_world(Script(*order))
    cell = make_cell(world)
    replies: dict[str, list[int]] = {"a": [], "b": []}

    async def body(flow: Flow) -> None:
        for _ in range(3):
            replies[flow.name].append(await flow.ask(cell.add))

    spawn(world, "a", body)
    spawn(world, "b", body)
    drive(world)

    assert tuple(seen.stepped) == order
    assert world.steps == len(order)
    assert replies == {"a": [1, 4, 6], "b": [2, 3, 5]}


def test_the_preemption_point_comes_before_the_access(drive: Drive) -> None:
    """A flow that is about to read sees all writes that others do before its step."""
    world, _ = make_world(Script("writer", "reader", "writer", "reader"))
    cell = make_cell(world)
    read: list[int] = []

    async def reader(flow: Flow) -> None:
        read.append(await flow.ask(cell.read))
        read.append(await flow.ask(cell.read))

    async def writer(flow: Flow) -> None:
        await flow.ask(cell.write, 1)
        await flow.ask(cell.write, 2)

    spawn(world, "reader", reader)
    spawn(world, "writer", writer)
    drive(world)

    assert read == [1, 2]


def test_the_code_between_two_awaits_is_atomic(drive: Drive) -> None:
    """No other flow runs between a reply and the next await."""
    world, _ = make_world()
    cell = make_cell(world)
    inside: list[str] = []
    overlaps: list[str] = []

    async def body(flow: Flow) -> None:
        for _ in range(20):
            await flow.ask(cell.add)
            overlaps.extend(inside)
            inside.append(flow.name)
            inside.remove(flow.name)

    for name in "abc":
        spawn(world, name, body)
    drive(world)

    assert world.steps == 60
    assert overlaps == []


def test_a_lost_update_is_possible_between_a_read_and_a_write(drive: Drive) -> None:
    world, _ = make_world(Script("a", "b", "a", "b"))
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        value = await flow.ask(cell.read)
        await flow.ask(cell.write, value + 1)

    spawn(world, "a", body)
    spawn(world, "b", body)
    drive(world)

    assert cell.value == 1


def test_a_flow_may_spawn_flows(drive: Drive) -> None:
    world, seen = make_world(Script("parent"))
    cell = make_cell(world)

    async def child(flow: Flow) -> None:
        await flow.ask(cell.add)

    async def parent(flow: Flow) -> None:
        await flow.ask(cell.add)
        for number in range(3):
            spawn(world, f"child{number}", child)

    spawn(world, "parent", parent)
    drive(world)

    assert cell.value == 4
    assert seen.stepped == ["parent", "child0", "child1", "child2"]


# -- post and receive -------------------------------------------------------------------------------------------------


def test_the_delivery_of_mail_is_a_step_of_its_own(drive: Drive) -> None:
    world, seen = make_world(Script("a", "a", "reader"))
    reader, mail = make_reader(world)
    cell = make_cell(world)
    had: list[int] = []

    async def body(flow: Flow) -> None:
        await flow.ask(cell.add)
        reader.post("hello")
        had.append(len(mail))
        await flow.ask(cell.add)
        had.append(len(mail))

    spawn(world, "a", body)
    drive(world)

    assert had == [0, 0], "whoever posts does not wait"
    assert mail == ["hello"]
    assert seen.stepped == ["a", "a", "reader"]


def test_an_actor_can_step_only_while_it_has_mail(drive: Drive) -> None:
    world, seen = make_world(Script("a", "reader", "a"))
    reader, _ = make_reader(world)
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        await flow.ask(cell.add)
        reader.post(1)
        await flow.ask(cell.add)

    spawn(world, "a", body)
    drive(world)

    assert seen.enabled == [("a",), ("a", "reader"), ("a",)]


def test_mail_of_one_mailbox_arrives_in_the_order_it_was_posted(drive: Drive) -> None:
    world, _ = make_world()
    reader, mail = make_reader(world)
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        for number in range(12):
            await flow.ask(cell.add)
            reader.post((flow.name, number))

    spawn(world, "a", body)
    spawn(world, "b", body)
    drive(world)

    for name in "ab":
        assert [message for message in mail if isinstance(message, tuple) and message[0] == name] == [
            (name, number) for number in range(12)
        ]
    assert len(mail) == 24
    assert world.steps == 48


def test_an_actor_may_post_to_another_from_what_it_received(drive: Drive) -> None:
    world, seen = make_world()
    last, mail = make_reader(world, "last")

    async def forward(_actor: Actor) -> None:
        while True:
            last.post(await receive())

    first = Actor(world, "first", main=forward)
    first.post("x")
    first.post("y")
    drive(world)

    assert mail == ["x", "y"]
    assert sorted(seen.stepped) == ["first", "first", "last", "last"]


# -- this_cpu ---------------------------------------------------------------------------------------------------------


def test_a_this_cpu_access_is_one_step_without_a_message(drive: Drive) -> None:
    world, seen = make_world(Script("a", "b", "a"))
    cpu = Cpu.boot(world, 0)
    cell = Cell(cpu.actor, "per-CPU cell")

    async def body(flow: Flow) -> None:
        await flow.this_cpu(cell, PEEK)
        cell.value += 1

    async def twice(flow: Flow) -> None:
        await body(flow)
        await body(flow)

    spawn(world, "a", twice, cpu=cpu)
    spawn(world, "b", body, cpu=cpu)
    drive(world)

    assert cell.value == 3
    assert seen.stepped == ["a", "b", "a"]


# -- choose -----------------------------------------------------------------------------------------------------------


def test_a_choice_is_made_by_the_strategy_and_recorded(drive: Drive) -> None:
    world, seen = make_world(Script(values=[2, 0, 1]))
    chosen: dict[int, int] = {}

    async def body(flow: Flow) -> None:
        for count in (3, 5, 2):
            chosen[count] = await flow.choose(count)

    spawn(world, "a", body)
    drive(world)

    assert chosen == {3: 2, 5: 0, 2: 1}
    assert seen.values == [(3, 2), (5, 0), (2, 1)]
    assert world.steps == 3


# -- migrate ----------------------------------------------------------------------------------------------------------


def test_a_flow_that_migrates_wakes_up_on_the_other_cpu(drive: Drive) -> None:
    world, seen = make_world()
    cpus = [Cpu.boot(world, number) for number in range(2)]
    where: list[Cpu | None] = []

    async def body(flow: Flow) -> None:
        where.append(flow.cpu)
        await flow.migrate(cpus[1])
        where.append(flow.cpu)
        await flow.migrate(cpus[0])
        where.append(flow.cpu)

    spawn(world, "a", body, cpu=cpus[0])
    drive(world)

    assert where == [cpus[0], cpus[1], cpus[0]]
    assert seen.moves == [("a", 1), ("a", 0)]
    assert world.steps == 2


def test_a_migration_to_the_cpu_one_is_on_is_a_step_but_no_move(drive: Drive) -> None:
    world, seen = make_world()
    cpu = Cpu.boot(world, 0)

    async def body(flow: Flow) -> None:
        await flow.migrate(cpu)

    spawn(world, "a", body, cpu=cpu)
    drive(world)

    assert seen.stepped == ["a"]
    assert seen.moves == []


def test_a_flow_that_migrates_is_kept_off_by_what_holds_its_new_cpu(drive: Drive) -> None:
    world, seen = make_world(Script("holder", "mover", "holder", "holder"))
    cpus = [Cpu.boot(world, number) for number in range(2)]
    cell = make_cell(world)

    async def holder(flow: Flow) -> None:
        await flow.ask(cell.add)
        with flow.preempt_section:
            await flow.ask(cell.add)
            await flow.ask(cell.add)

    async def mover(flow: Flow) -> None:
        await flow.ask(cell.add)
        await flow.migrate(cpus[1])

    spawn(world, "mover", mover, cpu=cpus[0])
    spawn(world, "holder", holder, cpu=cpus[1])
    drive(world)

    assert seen.stepped == ["holder", "mover", "holder", "holder", "mover"]
    assert seen.enabled == [("mover", "holder"), ("mover", "holder"), ("mover", "holder"), ("holder",), ("mover",)]


# -- when -------------------------------------------------------------------------------------------------------------


def test_a_flow_is_not_enabled_before_its_condition_holds(drive: Drive) -> None:
    world, seen = make_world()
    cell = make_cell(world)

    async def taker(flow: Flow) -> None:
        await flow.ask(cell.take)

    async def giver(flow: Flow) -> None:
        await flow.ask(cell.read)
        await flow.ask(cell.add)

    spawn(world, "taker", taker)
    spawn(world, "giver", giver)
    drive(world)

    assert seen.enabled == [("giver",), ("giver",), ("taker",)]
    assert cell.value == 0


def test_of_several_that_wait_the_strategy_chooses_and_the_others_wait_again(drive: Drive) -> None:
    world, seen = make_world(Script("giver", "c", "giver", "a", "giver", "b"))
    cell = make_cell(world)

    async def taker(flow: Flow) -> None:
        await flow.ask(cell.take)

    async def giver(flow: Flow) -> None:
        for _ in range(3):
            await flow.ask(cell.add)

    for name in "abc":
        spawn(world, name, taker)
    spawn(world, "giver", giver)
    drive(world)

    assert seen.stepped == ["giver", "c", "giver", "a", "giver", "b"]
    assert seen.enabled == [
        ("giver",),
        ("a", "b", "c", "giver"),
        ("giver",),
        ("a", "b", "giver"),
        ("giver",),
        ("b",),
    ]


def test_a_condition_that_no_longer_holds_takes_the_flow_out_again(drive: Drive) -> None:
    world, seen = make_world(Script("giver", "giver", "giver", "waiter"))
    cell = make_cell(world)

    async def waiter(flow: Flow) -> None:
        await flow.ask(cell.take)

    async def giver(flow: Flow) -> None:
        await flow.ask(cell.write, 1)
        await flow.ask(cell.write, 0)
        await flow.ask(cell.write, 1)

    spawn(world, "waiter", waiter)
    spawn(world, "giver", giver)
    drive(world)

    assert seen.enabled == [("giver",), ("waiter", "giver"), ("giver",), ("waiter",)]


def test_a_service_that_waits_for_work_does_not_keep_a_world_from_ending(drive: Drive) -> None:
    world, seen = make_world()
    cell = make_cell(world, value=2)
    served: list[int] = []

    async def service(flow: Flow) -> None:
        while True:
            served.append(await flow.ask(cell.serve))

    spawn(world, "service", service)
    drive(world)

    assert served == [1, 0]
    assert world.stopped == "quiescent"
    assert seen.findings == []
