"""mm/slab_common.c: type-safe caches are released while slabs of them still wait for a grace period."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import MutexHeld
from actors.linux.kernel.workqueue import Work
from actors.linux.mm.slab_common import release_cache
from actors.machine.context import Context


@kernel_fn("slab_caches_to_rcu_destroy_workfn", "mm/slab_common.c")
async def destroy(ctx: Context, work: Work) -> None:  # noqa: ARG001 -- the function's own parameter
    """No rcu_barrier()."""
    machine = ctx.machine
    async with MutexHeld(ctx, machine.slab_mutex):
        to_destroy = await ctx.ask(machine.slab_caches_to_rcu_destroy.take_all)
    for s in to_destroy:
        await release_cache(ctx, s)
