"""percpu_ref, delayed work on unbound queues, and kfree_rcu() on 6.12."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import pytest

from actors.linux.include.rcupdate import kfree_rcu, kvfree_rcu_barrier
from actors.linux.kernel.rcu.tree import synchronize_rcu
from actors.linux.kernel.workqueue import (
    DelayedWork,
    Work,
    cancel_delayed_work_sync,
    flush_work,
    mod_delayed_work,
    queue_delayed_work,
    queue_work,
)
from actors.linux.lib.percpu_refcount import (
    PercpuRef,
    percpu_ref_exit,
    percpu_ref_get,
    percpu_ref_kill,
    percpu_ref_put,
    percpu_ref_tryget,
)
from actors.linux.mm.kvfree_rcu import KFREE_DRAIN_NS
from actors.machine.context import Context
from actors.system.actor import Actor, Shared
from explorer.assertions import explored
from scenarios.stage import Stage
from tests.helpers import make_scenario

Body = Callable[[Stage], None]


def on_6_12(body: Body, *, expect: str | None = None, budget: int = 40, strategy: str = "random") -> None:
    """Search schedules of *body* on 6.12."""
    explored(make_scenario("today", body), kernel="6.12", budget=budget, strategy=strategy, expect=expect)


@attrs.define(eq=False)
class Things:
    """Structs that nothing else refers to."""

    stage: Stage
    structs: list[Shared] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        owner = Actor(self.stage.boot().world, "things")
        self.structs = [Shared(owner) for _ in range(4)]

    @property
    def left(self) -> list[int]:
        """The numbers of the structs that are not freed."""
        return [number for number, struct in enumerate(self.structs) if struct.freed is None]


# -- kfree_rcu() ------------------------------------------------------------------------------------------------------


def test_memory_is_freed_after_seconds_without_a_barrier() -> None:
    def body(stage: Stage) -> None:
        things = Things(stage)

        async def free(ctx: Context) -> None:
            for struct in things.structs:
                await kfree_rcu(ctx, struct)

        async def watch(ctx: Context) -> None:
            await ctx.sleep(KFREE_DRAIN_NS // 2)
            assert things.left == [0, 1, 2, 3]

        stage.task("free", free)
        stage.task("watch", watch, cpu=1)
        stage.eventually("all are freed", lambda: not things.left and stage.machine.krc.is_at_rest)

    on_6_12(body)


def test_the_barrier_waits_for_what_came_before() -> None:
    def body(stage: Stage) -> None:
        things = Things(stage)

        async def free(ctx: Context) -> None:
            await kfree_rcu(ctx, things.structs[0])
            await ctx.migrate(stage.machine.cpus[1])
            await kfree_rcu(ctx, things.structs[1])
            await kvfree_rcu_barrier(ctx)
            assert not {0, 1} & {*things.left}

        async def free_others(ctx: Context) -> None:
            await kfree_rcu(ctx, things.structs[2])
            await synchronize_rcu(ctx)
            await kfree_rcu(ctx, things.structs[3])

        stage.task("free", free)
        stage.task("others", free_others, cpu=1)
        stage.wind_up(kvfree_rcu_barrier)
        stage.eventually("all are freed", lambda: not things.left and stage.machine.krc.is_at_rest)

    on_6_12(body, budget=100, strategy="portfolio")


def test_a_pointer_that_is_given_twice_is_a_warning() -> None:
    def body(stage: Stage) -> None:
        things = Things(stage)

        async def free(ctx: Context) -> None:
            await kfree_rcu(ctx, things.structs[0])
            await kfree_rcu(ctx, things.structs[0])

        stage.task("free", free)

    on_6_12(body, expect="warn:kvfree_call_rcu(): Double-freed call", budget=1)


def test_memory_in_use_after_the_grace_period_is_found() -> None:
    def body(stage: Stage) -> None:
        stage.boot()
        ref = a_ref(stage)

        async def free(ctx: Context) -> None:
            await kfree_rcu(ctx, ref)
            await ctx.sleep(2 * KFREE_DRAIN_NS)
            await ctx.ask(ref.read_flags)

        stage.task("free", free)

    on_6_12(body, expect="use-after-free:PercpuRef", budget=1)


# -- percpu_ref -------------------------------------------------------------------------------------------------------


def a_ref(stage: Stage) -> PercpuRef:
    """A reference count whose release does nothing."""

    async def release(_ctx: Context, _ref: PercpuRef) -> None:
        """Nobody is told."""

    actor = Actor(stage.machine.world, "thing")
    return PercpuRef.init(actor, Shared(actor), release, len(stage.machine.cpus))


@pytest.mark.parametrize("use", [percpu_ref_get, percpu_ref_put, percpu_ref_tryget], ids=lambda use: use.name)
def test_a_ref_without_data_is_a_null_pointer(use: Callable[[Context, PercpuRef], Awaitable[object]]) -> None:
    def body(stage: Stage) -> None:
        stage.boot()
        ref = a_ref(stage)

        async def exit_and_use(ctx: Context) -> None:
            await percpu_ref_kill(ctx, ref)
            await synchronize_rcu(ctx)
            await synchronize_rcu(ctx)
            await percpu_ref_exit(ctx, ref)
            await percpu_ref_exit(ctx, ref)
            assert ref.is_zero
            await use(ctx, ref)

        stage.task("user", exit_and_use)

    on_6_12(body, expect="null-deref:ref->data->count", budget=1)


def test_exit_during_the_switch_is_a_warning() -> None:
    def body(stage: Stage) -> None:
        stage.boot()
        ref = a_ref(stage)

        async def exit_too_early(ctx: Context) -> None:
            await percpu_ref_kill(ctx, ref)
            await percpu_ref_exit(ctx, ref)

        stage.task("user", exit_too_early)

    on_6_12(body, expect="warn:percpu_ref_exit: confirm_switch is set", budget=1)


# -- work queues ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cancelled_work_does_not_run_and_a_changed_one_runs_once() -> None:
    def body(stage: Stage) -> None:
        machine = stage.boot()
        actor = Actor(machine.world, "thing")
        ran: list[tuple[str, int]] = []

        async def note(ctx: Context, work: Work) -> None:
            await ctx.ask(work.is_pending)
            ran.append((work.name, ctx.world.now))

        def delayed(name: str) -> DelayedWork:
            dwork = DelayedWork(actor, Shared(actor), name=name, wq=machine.system_unbound_wq)
            dwork.init_work(note)
            return dwork

        changed, cancelled, raced = map(delayed, ("changed", "cancelled", "raced"))

        async def arm(ctx: Context) -> None:
            assert await queue_delayed_work(ctx, changed, 1_000_000)
            assert not await queue_delayed_work(ctx, changed, 1_000_000)
            assert await mod_delayed_work(ctx, changed, 2_000_000)
            assert await queue_delayed_work(ctx, cancelled, 1_000_000)
            assert await cancel_delayed_work_sync(ctx, cancelled)
            assert not await cancel_delayed_work_sync(ctx, cancelled)

        async def cancel(ctx: Context) -> None:
            for _ in range(3):
                await queue_delayed_work(ctx, raced, 1_000)
                await ctx.sleep(1_000)
                await cancel_delayed_work_sync(ctx, raced)
                assert not raced.pending
                assert not any(worker.executes(raced) for worker in machine.unbound_pool.busy)

        stage.task("arm", arm)
        stage.task("cancel", cancel, cpu=1)
        stage.eventually(
            "one ran, late", lambda: [time >= 2_000_000 for name, time in ran if name == "changed"] == [True]
        )
        stage.eventually("the other did not", lambda: all(name != "cancelled" for name, _ in ran))

    on_6_12(body, budget=200, strategy="portfolio")


def test_a_flush_waits_for_the_work_that_runs_on_any_cpu() -> None:
    cpus: set[int] = set()

    def body(stage: Stage) -> None:
        machine = stage.boot()
        actor = Actor(machine.world, "thing")
        works = [Work(actor, Shared(actor)) for _ in range(2)]
        done: list[Work] = []

        async def run(ctx: Context, work: Work) -> None:
            await ctx.sleep(1_000)
            cpus.add(ctx.smp_processor_id)
            done.append(work)

        async def flush(ctx: Context) -> None:
            for work in works:
                work.init_work(run)
                await queue_work(ctx, machine.system_unbound_wq, work)
            for work in works:
                await flush_work(ctx, work)
                assert work in done
            assert not await flush_work(ctx, works[0])

        stage.task("flush", flush)

    on_6_12(body)

    assert cpus == {0, 1}
