"""mm/slab_common.c: memcg_slabinfo_show() releases slab_mutex before it walks the caches."""

from actors.api import kernel_fn
from actors.files.seq_file import SeqFile, Whole
from actors.files.slabinfo import memcg_slabinfo_row
from actors.linux.include.slab import SlabFlags
from actors.linux.kernel.cgroup.cgroup import CssFlags
from actors.linux.kernel.locking.locks import MutexHeld
from actors.machine.context import Context, deref
from protocol.formats import memcg_slabinfo


@kernel_fn("memcg_slabinfo_show", "mm/slab_common.c")
async def show(ctx: Context, m: SeqFile[Whole]) -> None:
    """mutex_unlock() is called after the list of root caches is read, not after the children are shown."""
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        m.seq_puts(memcg_slabinfo.HEADER)
        roots = await ctx.ask(ctx.machine.slab_root_caches.list)
    for s in roots:
        children = await ctx.ask(s.list_children)
        if not children:
            continue
        m.seq_puts(await memcg_slabinfo_row(ctx, s, None, ""))
        for c in children:
            css = deref(await ctx.ask(c.read_memcg), "c->memcg_params.memcg").css
            is_online = CssFlags.ONLINE in await ctx.ask(css.read_flags)
            status = "deact" if SlabFlags.DEACTIVATED in c.flags else ""
            m.seq_puts(await memcg_slabinfo_row(ctx, c, css.id, status if is_online else "dead"))
