"""The end of a task. kernel/exit.c @5.3.1."""

from __future__ import annotations

from actors.linux.kernel.cgroup.cgroup import cgroup_exit
from actors.linux.kernel.locking.lockdep import debug_check_no_locks_held
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn


@kernel_fn("do_exit", "kernel/exit.c")
async def do_exit(ctx: Context) -> None:
    """End a task, which must be able to sleep and must hold no lock; remove it from its cgroup."""
    ctx.might_sleep("do_exit")
    ctx.begin_exit()
    await cgroup_exit(ctx)
    debug_check_no_locks_held(ctx)
    ctx.forget_rcu()
