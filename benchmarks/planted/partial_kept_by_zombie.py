"""mm/slub.c: put_cpu_partial() leaves a slab on the CPU's list although cpu_partial is 0."""

from actors.api import kernel_fn
from actors.linux.mm.kmem_cache import KmemCache, Slab
from actors.linux.mm.slub import CMPXCHG_PARTIAL, THIS_CPU_SLAB, this_cpu_slab, unfreeze_this_cpu
from actors.machine.context import Context
from actors.machine.list_head import use


@kernel_fn("put_cpu_partial", "mm/slub.c")
async def put_partial(ctx: Context, s: KmemCache, slab: Slab, *, drain: bool) -> None:
    """No unfreeze_partials() at the end for cpu_partial 0."""
    with ctx.preempt_section:
        while True:
            await ctx.this_cpu(s, THIS_CPU_SLAB)
            c = this_cpu_slab(ctx, s)
            oldpage = c.partial[-1] if c.partial else None
            if oldpage is not None:
                use(oldpage)
            pobjects = oldpage.pobjects if oldpage is not None else 0
            if oldpage is not None and drain and pobjects > await ctx.ask(s.cpu_partial.read, c.cpu):
                await unfreeze_this_cpu(ctx, s)
                oldpage, pobjects = None, 0
            counters = await ctx.ask(slab.read_counters)
            await ctx.this_cpu(c, CMPXCHG_PARTIAL)
            if (c.partial[-1] if c.partial else None) is oldpage:
                break
        slab.pobjects = pobjects + slab.objects - counters.inuse
        c.partial.append(slab)
