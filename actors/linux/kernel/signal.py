"""What signals have to do with the end of a task. kernel/signal.c @7.2."""

from __future__ import annotations

from actors.linux.kernel.locking.locks import down_read, up_read
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn


@kernel_fn("exit_signals", "kernel/signal.c", profiles="7.2..")
async def exit_signals(ctx: Context) -> None:
    """Set PF_EXITING, which cgroup_threadgroup_change_begin() puts before or after a migration."""
    await down_read(ctx, ctx.machine.cgroup_threadgroup_rwsem)
    ctx.begin_exit()
    await up_read(ctx, ctx.machine.cgroup_threadgroup_rwsem)
