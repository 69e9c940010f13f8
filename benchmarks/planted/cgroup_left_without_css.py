"""kernel/cgroup/cgroup.c: cgroup_mkdir() does not destroy the cgroup again when its css cannot be created."""

from actors.kernel.cgroup import Cgroup, cgroup_create, css_create
from actors.kernel.context import Context
from actors.kernel.locks import MutexHeld
from actors.kernel.patching import kernel_fn


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
