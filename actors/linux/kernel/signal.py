"""Signals: the queue of a task, and what they have to do with its end. kernel/signal.c @6.12, @7.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.include.slab import kmem_cache_alloc, kmem_cache_free
from actors.linux.kernel.locking.locks import SpinLock, SpinLockIrqHeld, down_read, up_read
from actors.machine.context import Context
from actors.machine.gfp import GFP_ATOMIC
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.mm.kmem_cache import KmemCache, SlabObject


@attrs.define(eq=False)
class Sighand(Shared):
    """struct sighand_struct of a task, with the signals that are queued: objects of the cache of sigqueues.

    None is a signal for which there was no object; it comes without the sender's name.
    """

    task: Context
    siglock: SpinLock = attrs.field(init=False)
    pending: list[SlabObject | None] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.siglock = SpinLock(self.actor, "&sighand->siglock")

    @property
    def label(self) -> str:
        return f"signals of {self.task.name}"

    def has_pending(self, _ctx: Context) -> bool:
        return bool(self.pending)

    @operation(UPDATE)
    def add(self, sigqueue: SlabObject | None) -> None:
        self.pending.append(sigqueue)

    @operation(READ, when=has_pending, sleeps=True)
    def wait(self, _ctx: Context) -> None:
        """Sleep until there is a signal."""

    @operation(UPDATE)
    def take(self) -> SlabObject | None:
        """The oldest signal."""
        return self.pending.pop(0)


def sighand_of(task: Context) -> Sighand:
    """task->sighand, made when it is first asked for."""
    if task.sighand is None:
        task.sighand = Sighand(task.machine.cgroup_tree.actor, task)
    return task.sighand


@kernel_fn("do_send_sig_info", "kernel/signal.c", profiles="6.12..")
async def do_send_sig_info(ctx: Context, task: Context, sigqueue_cachep: KmemCache) -> None:
    """Queue a signal for *task* under its lock. The object is charged to the sender (since 5.15)."""
    sighand = sighand_of(task)
    async with SpinLockIrqHeld(ctx, sighand.siglock):
        sigqueue = await kmem_cache_alloc(ctx, sigqueue_cachep, GFP_ATOMIC)
        await ctx.ask(sighand.add, sigqueue)


@kernel_fn("dequeue_signal", "kernel/signal.c", profiles="6.12..")
async def dequeue_signal(ctx: Context) -> None:
    """Wait for a signal, as sigtimedwait() does; then take it and free its object under the lock."""
    sighand = sighand_of(ctx)
    await ctx.ask(sighand.wait, ctx)
    async with SpinLockIrqHeld(ctx, sighand.siglock):
        sigqueue = await ctx.ask(sighand.take)
        if sigqueue is not None:
            await kmem_cache_free(ctx, sigqueue.slab.slab_cache, sigqueue)


@kernel_fn("exit_signals", "kernel/signal.c", profiles="7.2..")
async def exit_signals(ctx: Context) -> None:
    """Set PF_EXITING, which cgroup_threadgroup_change_begin() puts before or after a migration."""
    await down_read(ctx, ctx.machine.cgroup_threadgroup_rwsem)
    ctx.begin_exit()
    await up_read(ctx, ctx.machine.cgroup_threadgroup_rwsem)
