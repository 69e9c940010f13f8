"""The end of a task. kernel/exit.c @5.3.1, @7.2."""

from __future__ import annotations

from actors.linux.kernel.cgroup.cgroup import cgroup_exit, cgroup_task_dead, cgroup_task_exit
from actors.linux.kernel.locking.lockdep import debug_check_no_locks_held
from actors.linux.kernel.signal import exit_signals
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn


@kernel_fn("do_exit", "kernel/exit.c", profiles="..6.12")
async def do_exit(ctx: Context) -> None:
    """End a task, which must be able to sleep and must hold no lock; remove it from its cgroup."""
    ctx.might_sleep("do_exit")
    ctx.begin_exit()
    await cgroup_exit(ctx)
    debug_check_no_locks_held(ctx)
    ctx.forget_rcu()


@kernel_fn("do_exit", "kernel/exit.c", profiles="7.2..")
async def do_exit_7_2(ctx: Context) -> None:
    """KERNEL-7.2 N3.4: the task stays in its cgroup to the last context switch; rmdir does not see it any more.

    In between its parent is told, which may remove the cgroup at once.
    """
    ctx.might_sleep("do_exit")
    await exit_signals(ctx)
    if ctx.memcg is not None:
        await ctx.ask(ctx.machine.cgroup_tree.drop_live, ctx)
    await cgroup_task_exit(ctx)
    await exit_notify(ctx)
    debug_check_no_locks_held(ctx)
    ctx.forget_rcu()
    await cgroup_task_dead(ctx)


@kernel_fn("exit_notify", "kernel/exit.c", profiles="7.2..")
async def exit_notify(ctx: Context) -> None:
    """Wake the parent, whose wait(2) returns."""
    waiting, ctx.parent_waits = ctx.parent_waits, None
    if waiting is not None:
        await ctx.ask(waiting.complete)
