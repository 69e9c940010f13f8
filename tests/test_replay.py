"""Replay: to the end of the run, to any step, up to a damage, and to the step at which changed code diverges."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.machine.context import Context
from actors.system.flow import Flow
from explorer.experiment import DRIVERS, RunOptions
from explorer.session import Result, replay, run
from protocol.errors import UsageError
from protocol.records import Contents, Footer, WrongRecordError, decode
from scenarios.stage import Stage
from tests.helpers import (
    TINY_CAPTURE,
    Cell,
    Payload,
    Record,
    each_driver_name,
    install,
    is_step,
    make_cell,
    make_scenario,
    pack,
    quiet,
    read_payloads,
    read_records,
    run_small,
    small_settings,
    write_payloads,
)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """The capture of the smallest machine."""
    path = tmp_path / "slabinfo"
    path.write_text(TINY_CAPTURE)
    return path


@pytest.fixture
def log(tmp_path: Path, capture: Path) -> Path:
    """A small log of a scenario with a finding at its end: it contains every kind of record."""
    path = tmp_path / "canary.log"
    settings = {"rounds": "4", "slabinfo": str(capture)}
    for seed in range(50):
        result = run(
            RunOptions(scenario="canary", driver="stepper", seed=seed, settings=settings), log=path, overwrite=True
        )
        if result.findings:
            return path
    pytest.fail("the canary is not found in 50 seeds")


def number_of_steps(path: Path) -> int:
    return sum(map(is_step, read_records(path)))


# -- up to a step -----------------------------------------------------------------------------------------------------


@each_driver_name
def test_a_replay_stops_after_any_number_of_steps(log: Path, driver: str) -> None:
    whole = number_of_steps(log)
    for until in range(whole):
        result = replay(log, driver=driver, until=until)

        assert (result.steps, result.stopped) == (until, "until")
        assert result.divergence is None
    result = replay(log, driver=driver, until=whole + 1)

    assert result.stopped != "until"
    assert result.steps == whole


@pytest.mark.parametrize("name", ["rmdir-under-load", "nested"])
def test_a_replay_that_stops_early_stands_where_the_other_driver_stands(name: str, tmp_path: Path) -> None:
    """Flows, their stacks, their waits and the machine's figures are the same under both drivers."""
    path = tmp_path / "x.log"
    steps = run_small(name, log=path).steps
    for until in range(0, steps, steps // 12):
        first, second = (replay(path, driver=driver, until=until) for driver in DRIVERS)

        assert first.positions == second.positions
        assert first.positions
        assert first.final == second.final
        assert first.digest == second.digest


@each_driver_name
def test_a_position_says_where_a_flow_stands_and_who_called_it(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def inner(ctx: Context, cell: Cell) -> None:
        await ctx.ask(cell.read)
        await ctx.ask(cell.take)

    def build(stage: Stage) -> None:
        cell = make_cell(stage.boot().world, "an event")

        async def outer(ctx: Context) -> None:
            await inner(ctx, cell)

        stage.task("waiter", outer, cpu=1)

    install(monkeypatch, make_scenario("waits", build))
    run(RunOptions(scenario="waits", driver="stepper"), log=tmp_path / "x.log")
    result = replay(tmp_path / "x.log", driver=driver, until=3)
    (position,) = (position for position in result.positions if position.flow == "waiter")

    assert (position.cpu, position.ready, position.operation, position.owner) == (1, False, "take", "an event")
    assert position.stack[:2] == ("inner", "outer")


def test_a_replay_writes_nothing(log: Path) -> None:
    before = (log.read_bytes(), sorted(log.parent.iterdir()))
    replay(log, driver="stepper")

    assert (log.read_bytes(), sorted(log.parent.iterdir())) == before


# -- findings are replayed --------------------------------------------------------------------------------------------


def scenario_that_reports(when: str) -> Callable[[Stage], None]:
    """A scenario whose only finding is reported at the moment *when*."""

    def build(stage: Stage) -> None:
        world = stage.boot().world
        cell = make_cell(world)
        reported: list[int] = []

        def report(_flow: Flow | None = None) -> None:
            if cell.value == 3 and not reported:
                reported.append(world.steps)
                world.report("warn", "three", "WARNING: three")

        async def body(ctx: Context) -> None:
            for _ in range(3):
                await ctx.ask(cell.add_slowly)
            if when == "in the flow":
                report()
            await ctx.sleep(10_000)

        stage.task("a", body)
        if when == "in a check":
            world.checks.append(report)
        if when == "at quiescence":
            world.endings.append(report)

    return build


@each_driver_name
@pytest.mark.parametrize("strategy", ["random", "clock"])
@pytest.mark.parametrize("when", ["in the flow", "in a check", "at quiescence"])
def test_a_finding_is_replayed_with_the_same_time_and_step(
    driver: str, strategy: str, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, make_scenario("reports", scenario_that_reports(when)))
    live = run(RunOptions(scenario="reports", driver="stepper", strategy=strategy), log=tmp_path / "x.log")
    replayed = replay(tmp_path / "x.log", driver=driver)

    assert len(live.findings) == 1
    assert replayed.divergence is None
    assert replayed.findings == live.findings
    assert replayed.digest == live.digest


def cpu_that_is_kept_for_ever(stage: Stage) -> None:
    """A task that waits with preemption off excludes tasks that wake from their sleep from its CPU."""
    cell = make_cell(stage.boot().world)

    async def keep(ctx: Context) -> None:
        with ctx.preempt_section:
            await ctx.ask(cell.take)

    async def sleep(ctx: Context) -> None:
        await ctx.sleep(10_000)

    stage.task("sleeper", sleep)
    stage.task("keeper", keep)


@each_driver_name
def test_a_run_that_ends_with_woken_flows_that_cannot_step_is_replayed_to_its_end(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, make_scenario("kept", cpu_that_is_kept_for_ever))
    options = RunOptions(scenario="kept", driver="stepper", strategy="roundrobin", settings={"cpus": "1"})
    live = run(options, log=tmp_path / "x.log")
    replayed = replay(tmp_path / "x.log", driver=driver)

    assert [finding.kind for finding in live.findings] == ["deadlock"]
    assert "sleeper waits in sleep for cpu0, kept by keeper" in live.findings[0].details
    assert replayed.divergence is None
    assert replayed.digest == live.digest


# -- cut and damaged logs ---------------------------------------------------------------------------------------------


def check_prefix(result: Result, whole: Result) -> None:
    """Check that the replay of a part of a log is a part of the replay of the whole."""
    assert result.divergence is None, result.divergence
    assert result.steps <= whole.steps
    assert result.outcome in ("ok", "finding")
    assert set(result.findings) <= set(whole.findings)


def replay_or_refuse(path: Path) -> tuple[Result | None, str | None]:
    """The replay and the line about the damage, or None and the line of the usage error."""
    try:
        result = replay(path, driver="stepper")
    except UsageError as error:
        return None, str(error)
    return result, result.damage


@pytest.mark.slow
def test_a_log_torn_at_any_byte_is_replayed_up_to_there_or_refused_in_one_line(log: Path) -> None:
    whole, data = replay(log, driver="stepper"), log.read_bytes()
    torn = log.with_name("torn.log")
    steps: list[int] = []
    for size in range(len(data)):
        torn.write_bytes(data[:size])
        result, line = replay_or_refuse(torn)

        assert line is not None
        assert "\n" not in line
        if result is None:
            assert steps == [], "once there is a header, what there is is replayed"
        else:
            check_prefix(result, whole)
            steps.append(result.steps)

    assert steps == sorted(steps)
    assert steps[-1] == whole.steps


MORE = {"rmdir-under-load": {"objects": "12", "cgroups": "2"}}


@each_driver_name
@pytest.mark.parametrize("name", ["rmdir-under-load", pytest.param("shared-dentry", marks=pytest.mark.slow)])
def test_a_log_cut_between_any_two_records_is_replayed_up_to_there(name: str, driver: str, tmp_path: Path) -> None:
    """Some of the cuts are between a step and its consequences: a move, a choice, a finding, a phase."""
    run_small(name, "original", log=tmp_path / "x.log", settings={**small_settings(name), **MORE.get(name, {})})
    whole = replay(tmp_path / "x.log", driver="stepper")
    header, *body, _footer = read_payloads(tmp_path / "x.log")
    for size in cuts_of_interest(read_records(tmp_path / "x.log")):
        cut = write_payloads(tmp_path / "cut.log", [header, *body[:size]])
        result = replay(cut, driver=driver)

        check_prefix(result, whole)
        assert "has no end" in (result.damage or "")


def cuts_of_interest(records: list[Record]) -> list[int]:
    """The places before and behind the first records of each kind, and before the end."""
    seen: Counter[str] = Counter()
    cuts = {len(records) - 1, len(records)}
    for number, entry in enumerate(records):
        kind = "step" if is_step(entry) else str(entry[0])
        seen[kind] += 1
        if seen[kind] <= 3:
            cuts |= {number, number + 1}
    return sorted(cuts)


def test_a_damaged_log_is_replayed_up_to_the_damage(log: Path) -> None:
    whole, data = replay(log, driver="stepper"), log.read_bytes()
    flipped = log.with_name("flipped.log")
    for bit in range(0, 8 * len(data), 97):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        flipped.write_bytes(damaged)
        result, line = replay_or_refuse(flipped)

        assert line is not None
        assert "\n" not in line
        if result is not None:
            check_prefix(result, whole)


# -- logs of different runs -------------------------------------------------------------------------------------------


def signed(payloads: list[Payload]) -> list[Payload]:
    """These payloads with a correct footer; WrongRecordError if no version of slabrace can have written them."""
    header, *body, _ = payloads
    contents = Contents()
    for payload in body:
        contents.take(payload, decode(payload))
    footer = Footer("finding" if contents.signatures else "ok", contents.steps, contents.digest())
    return [header, *body, pack(["footer", msgspec.to_builtins(footer)])]


def edit(path: Path, number: int, change: Callable[[Record], Record]) -> list[Payload]:
    """The payloads of the log with step *number* changed, as if other code had recorded it."""
    payloads = read_payloads(path)
    records = read_records(path)
    positions = [place for place, entry in enumerate(records) if is_step(entry)]
    place = positions[number]
    payloads[1 + place] = pack(change(records[place]))
    return payloads


def first_edit(path: Path, change: Callable[[Record], Record]) -> tuple[int, list[Payload]]:
    """The first step of the log's second half that *change* can change, and the signed payloads with the change."""
    for step in range(number_of_steps(path) // 2, number_of_steps(path)):
        with contextlib.suppress(WrongRecordError):
            return step, signed(edit(path, step, change))
    pytest.fail("no step can be changed so")


FIELDS = ("time", "enabled set", "choice", "function", "operation", "owner")


def plus(field: int, amount: int) -> Callable[[Record], Record]:
    def change(entry: Record) -> Record:
        return [value + amount if place == field else value for place, value in enumerate(entry)]

    return change


@each_driver_name
@pytest.mark.parametrize("field", range(1, 6), ids=FIELDS[1:])
def test_a_step_that_happens_otherwise_is_where_the_replay_diverges(log: Path, driver: str, field: int) -> None:
    step, payloads = first_edit(log, plus(field, -1))
    result = replay(write_payloads(log.with_name("edited.log"), payloads), driver=driver)

    assert result.outcome == "diverged"
    assert result.divergence is not None
    assert result.divergence.step == step
    assert result.divergence.then != result.divergence.now
    assert "enabled" in result.divergence.now


@each_driver_name
@pytest.mark.parametrize("field", range(1, 6), ids=FIELDS[1:])
def test_a_step_with_an_undefined_number_is_damage(log: Path, driver: str, field: int) -> None:
    step = number_of_steps(log) // 2
    result = replay(write_payloads(log.with_name("edited.log"), edit(log, step, plus(field, 1000))), driver=driver)

    assert result.is_damaged
    assert result.steps == step


@each_driver_name
@pytest.mark.parametrize("amount", [-1, 1, 1_000_000])
def test_a_log_with_a_step_at_another_time_is_not_replayed_as_if_it_were_the_run(
    driver: str, amount: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The footer has the digest of the original run, so an edited log has another digest."""
    install(monkeypatch, make_scenario("quiet", quiet))
    run(RunOptions(scenario="quiet", driver="stepper"), log=tmp_path / "x.log")

    assert replay(tmp_path / "x.log", driver=driver).outcome == "ok"
    edited = write_payloads(tmp_path / "edited.log", edit(tmp_path / "x.log", 3, plus(0, amount)))
    assert replay(edited, driver=driver).is_damaged


@each_driver_name
@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_whole_log_that_lacks_steps_diverges_at_its_end(log: Path, driver: str, cut: int) -> None:
    payloads = read_payloads(log)
    steps = [place for place, entry in enumerate(read_records(log)) if is_step(entry)]
    keep = 1 + steps[-cut]
    shortened = write_payloads(log.with_name("short.log"), signed([*payloads[:keep], payloads[-1]]))
    result = replay(shortened, driver=driver)

    assert result.outcome == "diverged"


@each_driver_name
def test_a_whole_log_that_has_a_step_too_many_diverges_at_its_end(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, make_scenario("quiet", quiet))
    log = tmp_path / "x.log"
    run(RunOptions(scenario="quiet", driver="stepper"), log=log)
    payloads = read_payloads(log)
    last_step = next(payload for payload in reversed(payloads) if payload[0] == 0x96)
    longer = signed([*payloads[:-1], last_step, payloads[-1]])
    result = replay(write_payloads(log.with_name("long.log"), longer), driver=driver)

    assert result.outcome == "diverged"
    assert result.divergence is not None
    assert result.divergence.step == number_of_steps(log) - 1
    assert result.divergence.now == "the end of the run"


@each_driver_name
def test_a_whole_log_that_defines_one_name_too_many_diverges_at_its_end(log: Path, driver: str) -> None:
    payloads, records = read_payloads(log), read_records(log)
    number = sum(entry[0] == "fn" for entry in records)
    longer = signed([*payloads[:-1], pack(["fn", number, "kfree"]), payloads[-1]])
    result = replay(write_payloads(log.with_name("long.log"), longer), driver=driver)

    assert result.divergence is not None
    assert (result.divergence.then, result.divergence.now) == (f"fn {number} kfree", "the end of the run")


@each_driver_name
@pytest.mark.parametrize("tag", ["lane", "set", "fn", "op", "owner", "phase", "finding"])
def test_a_record_of_any_kind_that_differs_makes_the_replay_diverge(log: Path, driver: str, tag: str) -> None:
    payloads, records = read_payloads(log), read_records(log)
    place = max(place for place, entry in enumerate(records) if entry[0] == tag and otherwise(entry) != entry)
    payloads[1 + place] = pack(otherwise(records[place]))
    result = replay(write_payloads(log.with_name("edited.log"), signed(payloads)), driver=driver)

    assert result.outcome == "diverged"
    assert result.divergence is not None
    assert result.divergence.step <= number_of_steps(log)


def otherwise(entry: Record) -> Record:
    """The same record with its last field changed."""
    *rest, last = entry
    if isinstance(last, int):
        return [*rest, last + 1]
    if entry[0] == "set":
        return [*rest, last[::-1]]
    if entry[0] == "op":
        return [*rest, "read" if last == "update" else "update"]
    other: Any = {**last, "message": "another"} if isinstance(last, dict) else last[::-1] + last[:1] if last else 7
    return [*rest, other]


def test_a_divergence_says_what_was_enabled_then_and_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The changed code takes two steps instead of one, so another flow is enabled afterwards."""

    def build(extra: int) -> Callable[[Stage], None]:
        def scenario(stage: Stage) -> None:
            cell = make_cell(stage.boot().world)

            async def first(ctx: Context) -> None:
                for _ in range(2 + extra):
                    await ctx.ask(cell.add)

            async def second(ctx: Context) -> None:
                for _ in range(20):
                    await ctx.ask(cell.read)

            stage.task("first", first)
            stage.task("second", second)

        return scenario

    install(monkeypatch, make_scenario("changes", build(0)))
    run(RunOptions(scenario="changes", driver="stepper"), log=tmp_path / "x.log")
    install(monkeypatch, make_scenario("changes", build(30)))
    result = replay(tmp_path / "x.log", driver="stepper")

    assert result.divergence is not None
    assert "enabled" in result.divergence.then
    assert "enabled now: first, second" in result.divergence.now
    assert 0 < result.divergence.step < 30


@each_driver_name
def test_changed_code_that_takes_another_time_is_noticed(
    driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The changed code takes the same steps, but one sleep is ten times as long."""

    def build(ns: int) -> Callable[[Stage], None]:
        def scenario(stage: Stage) -> None:
            cell = make_cell(stage.boot().world)

            async def body(ctx: Context) -> None:
                await ctx.ask(cell.add)
                await ctx.sleep(ns)
                await ctx.ask(cell.add)

            stage.task("sleeper", body)

        return scenario

    install(monkeypatch, make_scenario("sleeps", build(10_000)))
    run(RunOptions(scenario="sleeps", driver="stepper"), log=tmp_path / "x.log")
    install(monkeypatch, make_scenario("sleeps", build(100_000)))
    result = replay(tmp_path / "x.log", driver=driver)

    assert result.outcome == "diverged"
