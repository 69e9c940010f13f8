"""mm/slub.c: put_cpu_partial() puts slabs back onto the node's list without its list_lock."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache, KmemCacheCpu
from actors.linux.mm.slub import discard_slab, has_enough_partial, unfreeze
from actors.machine.context import Context


@kernel_fn("unfreeze_partials", "mm/slub.c")
async def unfreeze_all(ctx: Context, s: KmemCache, c: KmemCacheCpu) -> None:
    """The partial list changes while other CPUs walk it."""
    discard = []
    while c.partial:
        slab = c.partial.pop()
        n = s.node[slab.nid]
        new = await unfreeze(ctx, slab)
        if not new.inuse and await has_enough_partial(ctx, s, n):
            discard.append(slab)
        else:
            await ctx.ask(n.add_partial, slab, tail=True)
    for slab in reversed(discard):
        await discard_slab(ctx, s, slab)
