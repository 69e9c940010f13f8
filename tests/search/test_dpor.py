"""DPOR explores each trace class once: on programs that can be counted, and against brute force on random ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from actors.system.actor import Actor
from actors.system.flow import Flow
from actors.system.world import World
from explorer.search.jobs import JobReport
from explorer.search.strategies.dfs import Dfs
from explorer.search.strategies.dpor import Dpor
from tests.search.machines import Outcome, Plan, Script, outcomes
from tests.search.programs import (
    Body,
    Lock,
    Program,
    cells,
    independent,
    last_zero,
    locked,
    random_program,
    read_then_write,
    readers,
    run,
    run_dfs,
    run_dpor,
    writers,
)

COUNTED = [
    *[pytest.param(readers(n), 2**n, id=f"{n} readers of a write") for n in range(1, 7)],
    *[pytest.param(last_zero(n), count, id=f"last zero of {n}") for n, count in enumerate((2, 5, 12, 28, 64), 1)],
    *[pytest.param(read_then_write(n), count, id=f"{n} read, then write") for n, count in ((2, 4), (3, 36), (4, 576))],
    *[pytest.param(writers(n), math.factorial(n), id=f"{n} writers") for n in range(1, 6)],
    *[pytest.param(locked(n), math.factorial(n), id=f"{n} under one lock") for n in range(1, 5)],
    *[pytest.param(independent(lengths), 1, id=f"independent {lengths}") for lengths in ([1], [3, 2], [2, 2, 2, 2])],
]


@pytest.mark.parametrize(("program", "classes"), COUNTED)
def test_each_class_is_explored_once_and_there_are_as_many_as_can_be_counted(program: Program, classes: int) -> None:
    search, found = run_dpor(program)

    assert len(found) == len(set(found)) == search.completed == classes


@pytest.mark.parametrize(
    "program",
    [readers(4), read_then_write(3), writers(5), locked(4), independent([2, 2, 2, 2])],
    ids=["readers", "read, then write", "writers", "locked", "independent"],
)
def test_for_these_programs_no_schedule_is_started_in_vain(program: Program) -> None:
    search, _ = run_dpor(program)

    assert search.cut_off == 0


def test_known_gap_source_sets_begin_schedules_in_vain() -> None:
    """Optimal DPOR would not: it needs wakeup trees, which are not implemented. Concuerror's benchmark shows it."""
    search, _ = run_dpor(last_zero(5))

    assert search.cut_off > 0


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_on_random_programs_the_classes_are_those_of_brute_force_each_once(first: int) -> None:
    for seed in range(first, first + 20):
        program = random_program(seed)
        _, classes = run_dpor(program)

        assert len(classes) == len(set(classes)), seed
        assert set(classes) == set(run_dfs(program, Dfs())), seed


def test_brute_force_finds_more_schedules_than_classes() -> None:
    """The comparison above is not vacuous: most schedules are redundant."""
    schedules = classes = 0
    for seed in range(20):
        schedules += len(run_dfs(random_program(seed), Dfs()))
        classes += len(run_dpor(random_program(seed))[1])

    assert schedules > 10 * classes


def test_a_search_ends_at_once_where_nothing_happens() -> None:
    search, classes = run_dpor(lambda _world: ())

    assert len(classes) == search.completed == 1
    assert search.next_schedule() is None


# -- machines ---------------------------------------------------------------------------------------------------------

MOST = 600
"""Machines with more schedules are skipped: brute force would take too long."""


def compare(plan: Plan) -> int:
    """Compare the search with brute force; return the number of its schedules, 0 if there are too many."""
    every = list(outcomes(plan, Dfs(), most=MOST))
    if len(every) == MOST:
        return 0
    found = list(outcomes(plan, Dpor(), most=MOST))

    assert set(found) <= set(every), plan
    assert {outcome for _, outcome in found} == {outcome for _, outcome in every}, plan
    if not plan.has_grace_periods:
        assert {trace_class for trace_class, _ in found} == {trace_class for trace_class, _ in every}, plan
    return len(every)


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_on_random_machines_every_possible_outcome_is_found(first: int) -> None:
    """CPUs, interrupts, locks, RCU, messages, timers, values: the flows record the outcomes, not the search."""
    compared = [compare(Plan.random(seed)) for seed in range(first, first + 10)]

    assert sum(map(bool, compared)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("first", range(60, 1_180, 120))
def test_on_many_random_machines_every_possible_outcome_is_found(first: int) -> None:
    assert sum(compare(Plan.random(seed)) for seed in range(first, first + 40)) > 500


PLANS: dict[str, tuple[tuple[int | None, Script], ...]] = {
    "a handler runs before a task of its CPU or after it": ((0, ["softirq"]), (0, ["read"])),
    "a handler comes into a block that lets it": (
        (0, ["softirq", "softirq"]),
        (0, [("preemption off", ["read", "read"]), ("preemption off", ["read"])]),
    ),
    "a handler comes before a block that only begins to let it": (
        (0, [("preemption off", ["read"]), ("IRQs off", ["choose"])]),
        (0, ["softirq"]),
    ),
    "whoever comes into a block from another CPU": (
        (0, [("preemption off", ["write", ("spinlock", ["write"])])]),
        (None, ["write"]),
        (0, [("preemption off", ["peek"]), "write"]),
    ),
    "whoever migrates to a CPU that is kept": (
        (1, [("RCU", ["write"]), ("IRQs off", ["read"])]),
        (0, ["migrate", "poke"]),
    ),
    "two who post to one": ((0, ["read other", "mail"]), (0, ["mail", "read"])),
    "values of several flows": ((0, ["choose"]), (None, ["choose", ("lock", ["write"])])),
    "timers before a block": ((1, ["softirq", "write"]), (0, ["sleep", "write"]), (1, [("preemption off", ["read"])])),
}
"""Programs of which an earlier version of the search missed an outcome."""


@pytest.mark.parametrize("flows", PLANS.values(), ids=list(PLANS))
def test_an_outcome_that_was_once_missed_is_found(flows: tuple[tuple[int | None, Script], ...]) -> None:
    assert compare(Plan(flows)) > 1


def deadlocks(plan: Plan, search: Dfs | Dpor) -> set[Outcome]:
    return {outcome for _, outcome in outcomes(plan, search, most=MOST) if "deadlock" in outcome.flaws}


def test_a_handler_that_spins_for_a_lock_of_its_cpu_is_found() -> None:
    """A softirq interrupts the holder of a lock that is not softirq-safe, and spins for it for ever."""
    plan = Plan(((0, [("lock", ["read", "softirq", "read"])]),), softirq=[("lock", ["read"])])

    found = deadlocks(plan, Dpor())

    assert found
    assert found <= deadlocks(plan, Dfs())


def test_a_deadlock_with_preemption_off_is_found_from_every_position_of_the_other_flow() -> None:
    """Flow 0 spins with preemption off for the lock of flow 1, which is before its choice, or behind it."""
    plan = Plan(((0, [("spinlock", [("lock", ["read"])])]), (0, [("lock", ["choose", "poke"])])))

    assert set() < deadlocks(plan, Dpor()) == deadlocks(plan, Dfs())


def test_a_deadlock_with_preemption_off_is_found_although_the_other_flow_can_move_away() -> None:
    """As above, but flow 1 moves to another CPU before it unlocks, so most schedules have no deadlock."""
    plan = Plan(((0, [("preemption off", [("lock", ["read"])])]), (0, [("lock", ["choose", "migrate"])])))

    assert set() < deadlocks(plan, Dpor()) == deadlocks(plan, Dfs())


# -- values -----------------------------------------------------------------------------------------------------------


def test_every_value_that_the_environment_may_choose_is_tried() -> None:
    seen: list[tuple[int, int]] = []

    def program(world: World) -> Sequence[Body]:
        (x,) = cells(world, 1)

        async def choose(flow: Flow) -> None:
            one = await flow.choose(3)
            other = await flow.choose(2)
            await flow.ask(x.write, 2 * one + other)
            seen.append((one, other))

        return [choose]

    _, classes = run_dpor(program)

    assert sorted(seen) == [(one, other) for one in range(3) for other in range(2)]
    assert len(classes) == len(set(classes)) == 6


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_values_of_flows_that_share_nothing_are_tried_in_all_combinations(count: int) -> None:
    def program(_world: World) -> Sequence[Body]:
        async def choose(flow: Flow) -> None:
            await flow.choose(2)

        return [choose] * count

    _, classes = run_dpor(program)

    assert len(classes) == len(set(classes)) == 2**count


def test_what_follows_from_a_value_is_explored_too() -> None:
    """The flow writes twice if it chooses 1: then the read is before, between or after; else before or after."""

    def program(world: World) -> Sequence[Body]:
        (x,) = cells(world, 1)

        async def write(flow: Flow) -> None:
            for _ in range(1 + await flow.choose(2)):
                await flow.ask(x.write, 1)

        async def read(flow: Flow) -> None:
            await flow.ask(x.read)

        return [write, read]

    _, classes = run_dpor(program)

    assert len(classes) == len(set(classes)) == 2 + 3


# -- findings ---------------------------------------------------------------------------------------------------------


def signatures_of(program: Program, search: Any) -> set[str]:
    """The signatures of all findings in all schedules of *search* (a Dfs or a Dpor)."""
    found: set[str] = set()
    while (schedule := search.next_schedule()) is not None:
        world, _ = run(program, schedule)
        search.learn(schedule, JobReport())
        found |= set(world.findings)
    return found


def test_both_ends_of_a_deadlock_are_found() -> None:
    """Two flows take two locks in opposite orders: they may deadlock, and each may be the first to hold both."""

    def program(world: World) -> Sequence[Body]:
        locks = [Lock(Actor(world, f"owner of lock {i}"), f"lock {i}") for i in range(2)]

        def crosswise(first: Lock, second: Lock) -> Body:
            async def body(flow: Flow) -> None:
                await flow.ask(first.lock, flow)
                await flow.ask(second.lock, flow)
                await flow.ask(second.unlock)
                await flow.ask(first.unlock)

            return body

        return [crosswise(*locks), crosswise(*reversed(locks))]

    _, classes = run_dpor(program)

    assert len(classes) == len(set(classes)) == 3
    assert {signature.partition(":")[0] for signature in signatures_of(program, Dpor())} == {"deadlock"}


def test_what_comes_after_a_fatal_finding_in_other_schedules_is_found_too() -> None:
    """A use after free ends the run; if the using flow is slower, another flow warns first."""

    def program(world: World) -> Sequence[Body]:
        x, y = cells(world, 2)

        async def free(flow: Flow) -> None:
            await flow.ask(x.read)
            x.freed = "free()"

        async def use(flow: Flow) -> None:
            await flow.ask(x.read)

        async def warn(flow: Flow) -> None:
            await flow.ask(y.write, 1)
            world.report("warn", "late", "WARNING: late", flow=flow)

        return [free, use, warn]

    found = signatures_of(program, Dpor())

    assert found == signatures_of(program, Dfs())
    assert {signature.partition(":")[0] for signature in found} == {"use-after-free", "warn"}
