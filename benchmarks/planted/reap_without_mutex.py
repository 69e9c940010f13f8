"""mm/slab.c: cache_reap() releases slab_mutex before it walks the caches."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import mutex_trylock, mutex_unlock
from actors.linux.kernel.workqueue import Work, queue_delayed_work_on
from actors.linux.mm.slab import REAPTIMEOUT_AC, reap_one
from actors.machine.context import Context


@kernel_fn("cache_reap", "mm/slab.c")
async def reap(ctx: Context, work: Work) -> None:
    """mutex_unlock() is called too early."""
    machine = ctx.machine
    if await mutex_trylock(ctx, machine.slab_mutex):
        started, walked = ctx.world.now, 0
        caches = await ctx.ask(machine.slab_caches.list)
        await mutex_unlock(ctx, machine.slab_mutex)
        for cachep in caches:
            await reap_one(ctx, cachep)
            walked += 1
        machine.reaps.append((started, ctx.world.now, walked))
    if machine.is_reaping:
        await queue_delayed_work_on(ctx, ctx.smp_processor_id, machine.system_wq, work, REAPTIMEOUT_AC)
