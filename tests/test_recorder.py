"""The recorder: the digest covers every record, and every number is defined before its first use."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import msgpack
import pytest

from actors.system.actor import Actor, receive
from actors.system.cpu import Cpu
from actors.system.flow import Flow, Kind
from actors.system.recorder import Recorder
from actors.system.world import World
from explorer.search.registry import STRATEGIES, make_strategy
from protocol.log import LogReader
from protocol.records import DIGEST_BYTES, Names, Step, decode
from tests.helpers import (
    Drive,
    Payload,
    Record,
    Script,
    each_driver,
    each_scenario,
    each_scenario_with,
    is_step,
    make_cell,
    make_world,
    read_body,
    read_records,
    record,
    run_small,
    some_machine,
    spawn,
)


def digest_of(payloads: list[Payload]) -> str:
    """The expected digest, computed from the payloads alone."""
    return hashlib.blake2b(b"".join(payloads), digest_size=DIGEST_BYTES).hexdigest()


def run_counting_world(drive: Drive, rounds: int, *, seed: int = 0) -> tuple[list[Payload], Recorder, World]:
    world, _ = make_world(make_strategy("random", seed))
    payloads, recorder = record(world)
    make_counting_flows(world, rounds)
    drive(world)
    return payloads, recorder, world


def make_counting_flows(world: World, rounds: int) -> None:
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        for _ in range(rounds):
            await flow.ask(cell.add)

    for name in "ab":
        spawn(world, name, body)


# -- the digest -------------------------------------------------------------------------------------------------------


@each_driver
@pytest.mark.parametrize("rounds", [0, 1, 250, 256, 700])
def test_the_digest_covers_every_payload_however_many_there_are(drive: Drive, rounds: int) -> None:
    payloads, recorder, world = run_counting_world(drive, rounds + 1)

    assert sum(is_step(msgpack.unpackb(payload)) for payload in payloads) == world.steps == 2 * (rounds + 1)
    assert recorder.digest() == digest_of(payloads)


@each_driver
def test_the_digest_may_be_asked_for_at_any_time_without_changing_it(drive: Drive) -> None:
    world, _ = make_world()
    payloads, recorder = record(world)
    cell = make_cell(world)
    digests: list[tuple[str, str]] = []

    async def body(flow: Flow) -> None:
        for _ in range(30):
            await flow.ask(cell.add)
            digests.append((recorder.digest(), digest_of(payloads)))

    spawn(world, "a", body)
    drive(world)

    assert all(asked == worked_out for asked, worked_out in digests)
    assert recorder.digest() == digest_of(payloads)


@each_scenario
def test_the_footer_holds_the_digest_of_all_between_header_and_footer(name: str, tmp_path: Path) -> None:
    kernel, allocator = some_machine(name)
    result = run_small(name, kernel, allocator=allocator, log=tmp_path / "x.log")
    body = read_body(tmp_path / "x.log")
    log = LogReader(tmp_path / "x.log")
    for _ in log.records():
        pass
    log.close()

    assert log.footer is not None
    assert log.footer.digest == result.digest == digest_of(body)
    assert log.footer.steps == result.steps == sum(map(is_step, read_records(tmp_path / "x.log")))
    assert log.footer.outcome == result.outcome


@each_driver
def test_the_digest_is_the_same_with_and_without_a_sink(drive: Drive) -> None:
    payloads, recorder, _ = run_counting_world(drive, 300)
    world, _ = make_world(make_strategy("random", 0))
    alone = Recorder()
    world.observers = (alone,)
    make_counting_flows(world, 300)
    drive(world)

    assert alone.digest() == recorder.digest() != digest_of([])
    assert payloads


@each_driver
def test_another_schedule_has_another_digest(drive: Drive) -> None:
    digests = {run_counting_world(drive, 30, seed=seed)[1].digest() for seed in range(5)}

    assert len(digests) == 5


@each_driver
def test_progress_is_told_every_few_hundred_records(drive: Drive) -> None:
    world, _ = make_world()
    told: list[int] = []
    recorder = Recorder(on_batch=lambda: told.append(world.steps))
    world.observers = (recorder,)
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        for _ in range(3_000):
            await flow.ask(cell.add)

    spawn(world, "a", body)
    drive(world)

    assert len(told) >= 3
    assert told == sorted(set(told))
    assert max(after - before for before, after in itertools.pairwise(told)) < 1_000


# -- definitions ------------------------------------------------------------------------------------------------------


def check_definitions(records: list[Record]) -> int:
    """Check that every number is defined once and before its first use; return the number of steps."""
    known: dict[str, dict[int, Any]] = {tag: {} for tag in ("lane", "set", "fn", "op", "owner")}
    known["owner"][0] = ""
    steps = 0
    for entry in records:
        match entry:
            case [int(dt), chosen, index, function, operation, owner]:
                steps += 1
                assert 0 <= index < len(known["set"][chosen]), entry
                assert function in known["fn"], entry
                assert operation in known["op"], entry
                assert owner in known["owner"], entry
                assert dt >= 0, entry
            case [("lane" | "set" | "fn" | "op" | "owner") as tag, number, what, *_]:
                assert number not in known[tag], entry
                assert tag != "fn" or what not in known[tag].values(), entry
                assert tag != "set" or (set(what) <= set(known["lane"]) and 0 < len(set(what)) == len(what)), entry
                known[tag][number] = what
            case ["moved", number, _]:
                assert number in known["lane"], entry
            case ["value", count, value]:
                assert 0 <= value < count, entry
            case _:
                assert entry[0] in ("finding", "phase"), entry
    return steps


@each_scenario_with("strategy", STRATEGIES)
def test_every_number_is_defined_once_and_before_its_first_use(name: str, strategy: str, tmp_path: Path) -> None:
    kernel, allocator = some_machine(name, strategy, "numbers")
    result = run_small(name, kernel, strategy=strategy, allocator=allocator, log=tmp_path / "x.log")

    assert check_definitions(read_records(tmp_path / "x.log")) == result.steps > 0


@each_driver
def test_a_step_is_recorded_with_its_names(drive: Drive) -> None:
    """The records, with names for numbers, show the flows' operations under the names of the code."""
    world, _ = make_world(Script("a", "b", "reader"))
    payloads, _ = record(world)
    cpu = Cpu.boot(world, 5)
    cell = make_cell(world, "kmem_cache dentry")
    reader = Actor(world, "reader", main=read_for_ever)

    async def kmem_cache_alloc(flow: Flow) -> None:
        await flow.ask(cell.add)

    async def kmem_cache_free(flow: Flow) -> None:
        await flow.ask(cell.read)
        reader.post("x")

    spawn(world, "a", kmem_cache_alloc, cpu=cpu)
    spawn(world, "b", kmem_cache_free, kind=Kind.KTHREAD)
    drive(world)

    assert told(payloads) == [
        (("a", "T", 5), ("a", "b"), "kmem_cache_alloc", ("add", "update"), "kmem_cache dentry"),
        (("b", "KT", None), ("b",), "kmem_cache_free", ("read", "read"), "kmem_cache dentry"),
        (("reader", "A", None), ("reader",), "read_for_ever", ("mail", "update"), ""),
    ]


@each_driver
def test_a_flow_that_moved_is_recorded_on_its_new_cpu(drive: Drive) -> None:
    world, _ = make_world()
    payloads, _ = record(world)
    cpus = [Cpu.boot(world, number) for number in range(2)]
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        await flow.ask(cell.read)
        await flow.migrate(cpus[1])
        await flow.ask(cell.read)

    spawn(world, "a", body, cpu=cpus[0])
    drive(world)

    assert [lane for lane, *_ in told(payloads)] == [("a", "T", 0), ("a", "T", 1), ("a", "T", 1)]


@each_driver
def test_the_times_of_the_steps_add_up(drive: Drive) -> None:
    world, _ = make_world()
    payloads, _ = record(world)
    times: list[int] = []
    cell = make_cell(world)

    async def body(flow: Flow) -> None:
        for _ in range(5):
            await flow.ask(cell.add)
            times.append(world.now)
            await flow.sleep(12_345)
            times.append(world.now)

    spawn(world, "a", body)
    drive(world)

    recorded, now = [], 0
    for payload in payloads:
        entry = msgpack.unpackb(payload)
        if is_step(entry):
            now += entry[0]
            recorded.append(now)
    assert recorded == times


def lane_of(names: Names, step: Step) -> tuple[str, str, int | None]:
    """The lane that stepped: name, kind, CPU."""
    lane = names.lane(step)
    return lane.name, lane.kind, lane.cpu


def told(payloads: list[Payload]) -> list[tuple[object, ...]]:
    """The recorded steps, with names for numbers."""
    names = Names()
    steps: list[tuple[object, ...]] = []
    for payload in payloads:
        step = decode(payload)
        names.learn(step)
        if isinstance(step, Step):
            steps.append(
                (
                    lane_of(names, step),
                    names.enabled(step),
                    names.functions[step.function],
                    names.operations[step.operation],
                    names.owners[step.owner],
                )
            )
    return steps


async def read_for_ever(_actor: Actor) -> None:
    while True:
        await receive()


# -- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "knob", "others"),
    [
        ("shared-dentry", "generations", {}),
        ("rmdir-under-load", "objects", {"cgroups": "20"}),
    ],
)
def test_a_log_of_a_hundred_thousand_steps_costs_at_most_forty_bytes_a_step(
    name: str, knob: str, others: dict[str, str], tmp_path: Path
) -> None:
    size, steps = log_of_a_hundred_thousand_steps(name, knob, others, tmp_path)

    assert size <= 40 * steps


def log_of_a_hundred_thousand_steps(name: str, knob: str, others: dict[str, str], folder: Path) -> tuple[int, int]:
    """Size and number of steps of the first log that is long enough; *knob* starts at 100 and is doubled."""
    for value in (100 << doubling for doubling in range(12)):
        path = folder / f"{value}.log"
        result = run_small(name, settings={knob: str(value), **others}, log=path)
        if result.steps >= 100_000:
            return path.stat().st_size, result.steps
        assert result.stopped == "quiescent", "a fatal finding keeps this scenario from running long enough"
    pytest.fail(f"{name} never takes a hundred thousand steps")
