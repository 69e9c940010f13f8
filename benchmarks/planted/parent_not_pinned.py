"""mm/slab_common.c: the caches that a parent inherits hold no references to it."""

from actors.api import kernel_fn
from actors.linux.kernel.cgroup.cgroup import css_put
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.slab_common import deactivate_entries
from actors.linux.mm.slab_h import SlabMutexHeld
from actors.machine.context import Context, deref


@kernel_fn("memcg_deactivate_kmem_caches", "mm/slab_common.c")
async def deactivate(ctx: Context, memcg: Memcg, parent: Memcg | None) -> None:
    """No css_get_many()."""
    heir = deref(parent, "memcg_deactivate_kmem_caches(): parent")
    async with SlabMutexHeld(ctx):
        await deactivate_entries(ctx, memcg)
        for s in await ctx.ask(memcg.list_kmem_caches):
            await ctx.ask(s.set_memcg, heir)
            await css_put(ctx, memcg.css)
        await ctx.ask(heir.splice_kmem_caches, await ctx.ask(memcg.take_kmem_caches))
