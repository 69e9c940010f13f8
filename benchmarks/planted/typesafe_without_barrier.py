"""mm/slab_common.c: type-safe caches are released without waiting for their slabs that wait for a grace period."""

from actors.kernel.context import Context
from actors.kernel.locks import MutexHeld
from actors.kernel.patching import kernel_fn
from actors.kernel.slab_destroy import release_cache
from actors.kernel.workqueue import Work


@kernel_fn("slab_caches_to_rcu_destroy_workfn", "mm/slab_common.c")
async def destroy(ctx: Context, work: Work) -> None:  # noqa: ARG001 -- the function's own parameter
    """No rcu_barrier()."""
    machine = ctx.machine
    async with MutexHeld(ctx, machine.slab_mutex):
        to_destroy = await ctx.ask(machine.slab_caches_to_rcu_destroy.take_all)
    for s in to_destroy:
        await release_cache(ctx, s)
