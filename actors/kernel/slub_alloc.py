"""SLUB's allocation paths. mm/slub.c @5.3.1; KERNEL.md 4.3."""

from __future__ import annotations

from actors.kernel.context import BUG_ON, WARN_ON, Context, deref
from actors.kernel.gfp import GFP_KERNEL, Gfp, gfpflags_allow_blocking
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.kmem_cache import Chain, KmemCache, KmemCacheCpu, KmemCacheNode, Slab, SlabCounters, SlabObject
from actors.kernel.locks import spin_lock, spin_unlock
from actors.kernel.page_alloc import __free_pages, alloc_pages
from actors.kernel.slab_h import charge_slab_page, mark_allocated
from actors.kernel.slab_hooks import slab_post_alloc_hook, slab_pre_alloc_hook
from actors.kernel.slub import (
    CMPXCHG_FREELIST,
    THIS_CPU_SLAB,
    flush_slab,
    next_tid,
    put_cpu_partial,
    this_cpu_slab,
)


@kernel_fn("kmem_cache_alloc", "mm/slub.c")
async def kmem_cache_alloc(ctx: Context, s: KmemCache, gfp: Gfp = GFP_KERNEL) -> SlabObject | None:
    """Allocate an object of *s* or of its child for the current memcg; None is -ENOMEM."""
    s = await slab_pre_alloc_hook(ctx, s, gfp)
    obj = await slab_alloc_node(ctx, s, gfp)
    await slab_post_alloc_hook(ctx, s)
    return obj


@kernel_fn("slab_alloc_node", "mm/slub.c")
async def slab_alloc_node(ctx: Context, s: KmemCache, gfp: Gfp) -> SlabObject | None:
    """F2 and F3: take the head of this CPU's freelist, unless it changed since it was read."""
    while True:
        c = this_cpu_slab(ctx, s)
        tid, freelist, slab = c.tid, c.freelist, c.page  # may be stale from here on
        if freelist is None or slab is None:
            return await __slab_alloc(ctx, s, gfp)
        await ctx.this_cpu(c, CMPXCHG_FREELIST)
        c = this_cpu_slab(ctx, s)
        if c.tid == tid and c.freelist is freelist:
            at, c.freelist = freelist
            c.tid = next_tid(ctx, tid)
            return mark_allocated(SlabObject(slab, at))


@kernel_fn("__slab_alloc", "mm/slub.c")
async def __slab_alloc(ctx: Context, s: KmemCache, gfp: Gfp) -> SlabObject | None:
    """S1: the slow path, with IRQs off."""
    with ctx.irq_section:
        await ctx.this_cpu(s, THIS_CPU_SLAB)
        return await ___slab_alloc(ctx, s, gfp)


@kernel_fn("___slab_alloc", "mm/slub.c", profiles="5.4-fixed")
async def ___slab_alloc(ctx: Context, s: KmemCache, gfp: Gfp) -> SlabObject | None:
    """S3 to S6: find a slab with free objects for this CPU, from near to far. The tid steps when a full slab leaves."""
    c = this_cpu_slab(ctx, s)
    while True:
        if c.page is not None:
            freelist = c.freelist or await get_freelist(ctx, c.page)
            if freelist is not None:
                return load_freelist(ctx, c, freelist)
            c.page = None
            c.tid = next_tid(ctx, c.tid)
        if c.partial:
            c.page = c.partial.pop()
            continue
        c, freelist = await new_slab_objects(ctx, s, gfp)
        if freelist is None:
            return None
        return load_freelist(ctx, c, freelist)


@kernel_fn("___slab_alloc", "mm/slub.c", profiles="..5.3")
async def ___slab_alloc_until_5_3(ctx: Context, s: KmemCache, gfp: Gfp) -> SlabObject | None:
    """[O] to [M]: only load_freelist steps the tid."""
    c = this_cpu_slab(ctx, s)
    while True:
        if c.page is not None:
            freelist = c.freelist or await get_freelist(ctx, c.page)
            if freelist is not None:
                return load_freelist(ctx, c, freelist)
            c.page = None
        if c.partial:
            c.page = c.partial.pop()
            continue
        c, freelist = await new_slab_objects(ctx, s, gfp)
        if freelist is None:
            return None
        return load_freelist(ctx, c, freelist)


def load_freelist(ctx: Context, c: KmemCacheCpu, freelist: tuple[int, Chain]) -> SlabObject:
    """Hand out the first object of *freelist*; the rest is this CPU's from now on."""
    slab = deref(c.page, "___slab_alloc(): c->page")
    BUG_ON(ctx, not slab.frozen, "___slab_alloc: VM_BUG_ON(!c->page->frozen)")
    at, c.freelist = freelist
    c.tid = next_tid(ctx, c.tid)
    return mark_allocated(SlabObject(slab, at))


@kernel_fn("get_freelist", "mm/slub.c")
async def get_freelist(ctx: Context, slab: Slab) -> Chain:
    """S4: take over all free objects of this CPU's slab; if there are none it is full and leaves the CPU."""
    while True:
        old = await ctx.ask(slab.read_counters)
        BUG_ON(ctx, not old.frozen, "get_freelist: VM_BUG_ON(!new.frozen)")
        new = SlabCounters(None, slab.objects, old.freelist is not None)
        if await ctx.ask(slab.cmpxchg_double, old, new):
            return old.freelist


@kernel_fn("new_slab_objects", "mm/slub.c")
async def new_slab_objects(ctx: Context, s: KmemCache, gfp: Gfp) -> tuple[KmemCacheCpu, Chain]:
    """S6 to S8: a slab of a node, or a new one, becomes the cpu slab of whatever CPU the task is on afterwards."""
    WARN_ON(ctx, s.has_ctor and Gfp.ZERO in gfp, "new_slab_objects: s->ctor && (flags & __GFP_ZERO)")
    c = this_cpu_slab(ctx, s)
    freelist = await get_partial(ctx, s, c)
    if freelist is not None:
        return c, freelist
    slab = await new_slab(ctx, s, gfp)
    if slab is None:
        return this_cpu_slab(ctx, s), None
    c = this_cpu_slab(ctx, s)
    if c.page is not None:
        await flush_slab(ctx, s, c)
    freelist, slab.freelist = slab.freelist, None
    c.page = slab
    return c, freelist


@kernel_fn("get_partial", "mm/slub.c")
async def get_partial(ctx: Context, s: KmemCache, c: KmemCacheCpu) -> Chain:
    """S6: from this CPU's node; or, now and then, from another that has plenty."""
    freelist = await get_partial_node(ctx, s, s.node[ctx.numa_node], c)
    if freelist is not None or len(s.node) == 1 or not await ctx.choose(2):
        return freelist
    for n in s.node:
        plenty = await ctx.ask(s.min_partial.read, c.cpu)
        if n.nid != ctx.numa_node and await ctx.ask(n.read_nr_partial) > plenty:
            freelist = await get_partial_node(ctx, s, n, c)
            if freelist is not None:
                return freelist
    return None


@kernel_fn("get_partial_node", "mm/slub.c")
async def get_partial_node(ctx: Context, s: KmemCache, n: KmemCacheNode, c: KmemCacheCpu) -> Chain:
    """Take slabs from the node's partial list: the first becomes the cpu slab, some more this CPU's partials."""
    if not await ctx.ask(n.read_nr_partial):
        return None
    found: Chain = None
    available = 0
    await spin_lock(ctx, n.list_lock)
    for slab in await ctx.ask(n.list_partial):
        taken = await acquire_slab(ctx, n, slab, as_cpu_slab=found is None)
        if taken is None:
            break
        available += slab.objects - taken.inuse
        if found is None:
            c.page, found = slab, taken.freelist
        else:
            await put_cpu_partial(ctx, s, slab, drain=False)
        if available > await ctx.ask(s.cpu_partial.read, c.cpu) // 2:
            break
    await spin_unlock(ctx, n.list_lock)
    return found


@kernel_fn("acquire_slab", "mm/slub.c")
async def acquire_slab(ctx: Context, n: KmemCacheNode, slab: Slab, *, as_cpu_slab: bool) -> SlabCounters | None:
    """Freeze a slab of the node's list and take it off; None if somebody was faster. Returns what it was."""
    old = await ctx.ask(slab.read_counters)
    BUG_ON(ctx, old.frozen, "acquire_slab: VM_BUG_ON(new.frozen)")
    new = SlabCounters(None, slab.objects, frozen=True) if as_cpu_slab else old._replace(frozen=True)
    if not await ctx.ask(slab.cmpxchg_double, old, new):
        return None
    await ctx.ask(n.remove_partial, slab)
    WARN_ON(ctx, old.freelist is None, "acquire_slab: !freelist")
    return old


@kernel_fn("new_slab", "mm/slub.c")
async def new_slab(ctx: Context, s: KmemCache, gfp: Gfp) -> Slab | None:
    """S7: allocate and charge pages. If the caller may sleep, IRQs are on meanwhile, and it may wake up elsewhere."""
    may_sleep = gfpflags_allow_blocking(gfp)
    if may_sleep:
        ctx.local_irq_enable()
    slab = await allocate_slab(ctx, s, gfp)
    if may_sleep:
        ctx.local_irq_disable()
    if slab is None:
        return None
    s.slabs[slab] = None
    await ctx.ask(s.node[slab.nid].add_nr_slabs, 1, slab.objects)
    return slab


@kernel_fn("allocate_slab", "mm/slub.c")
async def allocate_slab(ctx: Context, s: KmemCache, gfp: Gfp) -> Slab | None:
    """The preferred order, for which nobody reclaims; if that fails, the least that an object needs."""
    is_higher = s.order > s.min_order
    first = gfp & ~(Gfp.DIRECT_RECLAIM | Gfp.NOFAIL) if is_higher else gfp
    slab = await alloc_slab_page(ctx, s, first, s.order, s.objects)
    if slab is None:
        slab = await alloc_slab_page(ctx, s, gfp, s.min_order, s.min_objects)
    return slab


@kernel_fn("alloc_slab_page", "mm/slub.c")
async def alloc_slab_page(ctx: Context, s: KmemCache, gfp: Gfp, order: int, objects: int) -> Slab | None:
    """Pages of this node from the buddy allocator, charged; they become a slab only now, or go back uncharged.

    Who has slept for them may be on another node by now.
    """
    nid = ctx.numa_node
    if not await alloc_pages(ctx, gfp, 1 << order):
        return None
    slab = ctx.machine.new_slab(ctx, s, order, objects, nid)
    if not await charge_slab_page(ctx, slab, gfp, s):
        await __free_pages(ctx, slab.pages)
        return None
    return slab
