"""mm/slub.c: deactivate_slab() leaves a slab on the node's list that became empty in the meantime."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import spin_lock, spin_unlock
from actors.linux.mm.kmem_cache import Chain, KmemCache, KmemCacheCpu, Slab
from actors.linux.mm.slub import discard_slab, has_enough_partial, return_freelist, this_cpu_slab
from actors.machine.context import BUG_ON, Context


@kernel_fn("deactivate_slab", "mm/slub.c")
async def deactivate(ctx: Context, s: KmemCache, c: KmemCacheCpu, slab: Slab, freelist: Chain) -> None:
    """No remove_partial() if the cmpxchg fails and the second try finds the slab empty."""
    n = s.node[slab.nid]
    tail = (await ctx.ask(slab.read_counters)).freelist is not None
    if freelist is not None:
        await return_freelist(ctx, slab, freelist)
    locked = on_list = False
    while True:
        old = await ctx.ask(slab.read_counters)
        BUG_ON(ctx, not old.frozen, "deactivate_slab: VM_BUG_ON(!old.frozen)")
        is_free = not old.inuse and await has_enough_partial(ctx, s, n)
        wants_list = not is_free and old.freelist is not None
        if wants_list and not locked:
            await spin_lock(ctx, n.list_lock)
            locked = True
        if wants_list and not on_list:
            await ctx.ask(n.add_partial, slab, tail=tail)
        on_list = wants_list
        if await ctx.ask(slab.cmpxchg_double, old, old._replace(frozen=False)):
            break
    if locked:
        await spin_unlock(ctx, n.list_lock)
    if is_free:
        await discard_slab(ctx, s, slab)
    c = this_cpu_slab(ctx, s)
    c.page = None
    c.freelist = None
