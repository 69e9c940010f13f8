"""kernel/cgroup/cgroup.c: cgroup_mkdir() does not destroy the cgroup again when its css cannot be created."""

from actors.api import kernel_fn
from actors.linux.kernel.cgroup.cgroup import Cgroup, cgroup_create, css_create
from actors.linux.kernel.locking.locks import MutexHeld
from actors.machine.context import Context


@kernel_fn("cgroup_mkdir", "kernel/cgroup/cgroup.c")
async def mkdir(ctx: Context, parent: Cgroup, name: str) -> Cgroup | None:
    """No cgroup_destroy_locked()."""
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        if await ctx.ask(ctx.machine.cgroup_tree.is_at_limit, parent):
            return None
        cgroup = await cgroup_create(ctx, parent, name)
        if cgroup is not None and not await css_create(ctx, cgroup):
            return None
        return cgroup
