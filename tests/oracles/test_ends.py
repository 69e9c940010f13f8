"""A task, a work or a softirq that ends holds no lock and is in no section; freed memory contains no held lock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from actors.linux.kernel.locking.locks import (
    Mutex,
    RwSem,
    SpinLock,
    down_read,
    mutex_lock,
    mutex_unlock,
    spin_lock,
    spin_unlock,
)
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.linux.kernel.workqueue import Work, queue_work
from actors.machine.context import Context
from actors.system.actor import Actor
from scenarios.stage import Stage, small_cache
from tests.helpers import make_scenario
from tests.oracles.mutants import signatures

Ends = Callable[[Context, Actor], Awaitable[None]]


async def ends_with_mutex(ctx: Context, actor: Actor) -> None:
    await mutex_lock(ctx, Mutex(actor, "a mutex"))


async def work_ends_with_mutex(ctx: Context, actor: Actor) -> None:
    async def func(worker: Context, _work: Work) -> None:
        await mutex_lock(worker, Mutex(actor, "a mutex"))

    await queue_work(ctx, ctx.machine.system_wq, Work(actor, SpinLock(actor, "a lock"), func))


async def work_ends_as_a_reader(ctx: Context, actor: Actor) -> None:
    async def func(worker: Context, _work: Work) -> None:
        worker.rcu_read_lock()

    await queue_work(ctx, ctx.machine.system_wq, Work(actor, SpinLock(actor, "a lock"), func))


async def callback_ends_with_lock(ctx: Context, actor: Actor) -> None:
    async def func(ctx: Context, _head: RcuHead) -> None:
        await spin_lock(ctx, SpinLock(actor, "a lock"))

    await call_rcu(ctx, RcuHead(SpinLock(actor, "another lock")), func)


async def frees_lock(ctx: Context, actor: Actor) -> None:
    lock = SpinLock(actor, "a lock")
    await spin_lock(ctx, lock)
    ctx.kfree(lock)


async def frees_rwsem(ctx: Context, actor: Actor) -> None:
    sem = RwSem(actor, "a semaphore")
    await down_read(ctx, sem)
    ctx.kfree(sem)


async def ends_well(ctx: Context, actor: Actor) -> None:
    lock, mutex = SpinLock(actor, "a lock"), Mutex(actor, "a mutex")
    await mutex_lock(ctx, mutex)
    await spin_lock(ctx, lock)
    await spin_unlock(ctx, lock)
    await mutex_unlock(ctx, mutex)
    ctx.kfree(lock, mutex)


def found_if(ends: Ends) -> set[str]:
    """The signatures that one schedule of a task that runs *ends* reports."""

    def body(stage: Stage) -> None:
        stage.boot(caches=[small_cache("alpha")])
        stage.task("task", lambda ctx: ends(ctx, Actor(stage.world, "ours")))

    return signatures(make_scenario("ends", body), None, schedules=1)


@pytest.mark.parametrize(
    ("ends", "expect"),
    [
        (ends_with_mutex, "lockdep:a mutex is still held:do_exit"),
        (work_ends_with_mutex, "lockdep:workqueue leaked lock or atomic"),
        (work_ends_as_a_reader, "lockdep:workqueue leaked lock or atomic"),
        (callback_ends_with_lock, "warn:huh, entered softirq"),
        (frees_lock, "lockdep:held a lock freed"),
        (frees_rwsem, "lockdep:held a semaphore freed"),
    ],
)
def test_a_lock_or_section_left_behind_is_found(ends: Ends, expect: str) -> None:
    assert any(signature.startswith(expect) for signature in found_if(ends))


def test_a_task_that_leaves_nothing_behind_is_not_reported() -> None:
    assert not found_if(ends_well)
