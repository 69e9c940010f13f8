"""SLUB's allocation paths. mm/slub.c and mm/slab.h @5.3.1; KERNEL.md 4.1 and 4.3."""

from __future__ import annotations

from actors.kernel.context import BUG_ON, WARN_ON, Context
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.locks import spin_lock, spin_unlock
from actors.kernel.memcontrol_kmem import memcg_kmem_get_cache, memcg_kmem_put_cache
from actors.kernel.page_alloc import CONGESTION_WAIT_NS
from actors.kernel.slab import Chain, KmemCache, Slab, SlabCounters, SlabFlags, SlabObject
from actors.kernel.slab_charge import charge_slab_page
from actors.kernel.slub import (
    CMPXCHG_FREELIST,
    flush_slab,
    next_tid,
    put_cpu_partial,
    this_cpu_slab,
)


@kernel_fn("kmem_cache_alloc", "mm/slub.c")
async def kmem_cache_alloc(ctx: Context, cachep: KmemCache) -> SlabObject | None:
    """Allocate an object of *cachep* or of its child for the current memcg; None is -ENOMEM."""
    s = await slab_pre_alloc_hook(ctx, cachep)
    obj = await slab_alloc(ctx, s)
    await slab_post_alloc_hook(ctx, s)
    return obj


@kernel_fn("slab_pre_alloc_hook", "mm/slab.h")
async def slab_pre_alloc_hook(ctx: Context, s: KmemCache) -> KmemCache:
    """Choose the cache: accounted caches serve a task in a cgroup from its child cache (4.1)."""
    enabled = await ctx.ask(ctx.machine.kmem_enabled.is_enabled)
    if enabled and SlabFlags.ACCOUNT in s.flags and ctx.has_mm:
        return await memcg_kmem_get_cache(ctx, s)
    return s


@kernel_fn("slab_post_alloc_hook", "mm/slab.h")
async def slab_post_alloc_hook(ctx: Context, s: KmemCache) -> None:
    if await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        await memcg_kmem_put_cache(ctx, s)


@kernel_fn("slab_alloc", "mm/slub.c")
async def slab_alloc(ctx: Context, s: KmemCache) -> SlabObject | None:
    """F2 and F3: take the head of this CPU's freelist, unless it changed since it was read."""
    while True:
        c = this_cpu_slab(ctx, s)
        tid, freelist = c.tid, c.freelist  # may be stale from here on
        if freelist is None or c.page is None:
            return await __slab_alloc(ctx, s)
        await ctx.this_cpu(s, CMPXCHG_FREELIST)
        c = this_cpu_slab(ctx, s)
        if c.tid == tid and c.freelist is freelist:
            return hand_out(ctx, s)


def hand_out(ctx: Context, s: KmemCache) -> SlabObject:
    """Take the head of this CPU's freelist."""
    c = this_cpu_slab(ctx, s)
    assert c.page is not None
    assert c.freelist is not None
    index, c.freelist = c.freelist
    c.tid = next_tid(ctx, c.tid)
    assert not c.page.live >> index & 1, "an object on a freelist is allocated"
    c.page.live |= 1 << index
    return SlabObject(c.page, index)


@kernel_fn("__slab_alloc", "mm/slub.c")
async def __slab_alloc(ctx: Context, s: KmemCache) -> SlabObject | None:
    """S1 to S6: with IRQs off, find a slab with free objects for this CPU, from near to far."""
    with ctx.irq_section:
        while True:
            c = this_cpu_slab(ctx, s)
            if c.page is not None:
                if c.freelist is None:
                    c.freelist = await get_freelist(ctx, c.page)
                if c.freelist is not None:
                    BUG_ON(ctx, not c.page.frozen, "___slab_alloc: VM_BUG_ON(!c->page->frozen)")
                    return hand_out(ctx, s)
                c.page = None
            if c.partial:
                c.page = c.partial.pop()
                continue
            if not await get_partial_node(ctx, s) and not await new_slab_objects(ctx, s):
                return None


@kernel_fn("get_freelist", "mm/slub.c")
async def get_freelist(ctx: Context, slab: Slab) -> Chain:
    """S4: take over all free objects of this CPU's slab; if there are none it is full and leaves the CPU."""
    while True:
        old = await ctx.ask(slab.read_counters)
        BUG_ON(ctx, not old.frozen, "get_freelist: VM_BUG_ON(!new.frozen)")
        new = SlabCounters(None, slab.objects, old.freelist is not None)
        if await ctx.ask(slab.cmpxchg_double, old, new):
            return old.freelist


@kernel_fn("get_partial_node", "mm/slub.c")
async def get_partial_node(ctx: Context, s: KmemCache) -> bool:
    """S6: take slabs from the node's partial list: the first becomes the cpu slab, some more its partials."""
    n = s.node
    if not await ctx.ask(n.read_nr_partial):
        return False
    found, available = False, 0
    await spin_lock(ctx, n.list_lock)
    for slab in await ctx.ask(n.list_partial):
        taken = await acquire_slab(ctx, s, slab, as_cpu_slab=not found)
        if taken is None:
            break
        available += slab.objects - taken.inuse
        if not found:
            c = this_cpu_slab(ctx, s)
            c.page, c.freelist = slab, taken.freelist
            found = True
        else:
            await put_cpu_partial(ctx, s, slab, drain=False)
        if available > await ctx.ask(s.read_cpu_partial) // 2:
            break
    await spin_unlock(ctx, n.list_lock)
    return found


@kernel_fn("acquire_slab", "mm/slub.c")
async def acquire_slab(ctx: Context, s: KmemCache, slab: Slab, *, as_cpu_slab: bool) -> SlabCounters | None:
    """Freeze a slab of the node's list and take it off; None if somebody was faster."""
    old = await ctx.ask(slab.read_counters)
    BUG_ON(ctx, old.frozen, "acquire_slab: VM_BUG_ON(new.frozen)")
    new = SlabCounters(None, slab.objects, frozen=True) if as_cpu_slab else old._replace(frozen=True)
    if not await ctx.ask(slab.cmpxchg_double, old, new):
        return None
    await ctx.ask(s.node.remove_partial, slab)
    WARN_ON(ctx, old.freelist is None, "acquire_slab: !freelist")
    return old


@kernel_fn("new_slab_objects", "mm/slub.c")
async def new_slab_objects(ctx: Context, s: KmemCache) -> bool:
    """S7 and S8: a new slab becomes the cpu slab of whatever CPU the task is on afterwards."""
    slab = await new_slab(ctx, s)
    if slab is None:
        return False
    c = this_cpu_slab(ctx, s)
    if c.page is not None:
        await flush_slab(ctx, s, c)
    c.page, c.freelist = slab, slab.freelist
    slab.freelist = None
    return True


@kernel_fn("new_slab", "mm/slub.c")
async def new_slab(ctx: Context, s: KmemCache) -> Slab | None:
    """Allocate and charge pages with IRQs on, where the task may sleep and wake up elsewhere."""
    ctx.local_irq_enable()
    await ctx.ask(ctx.machine.buddy.alloc_pages, s.pages)
    await sleep_in_page_allocator(ctx)
    slab = Slab(s.actor, ctx.machine.next_slab(), s, freelist=None, inuse=s.objects, frozen=True)
    if not await charge_slab_page(ctx, slab, s):
        await ctx.ask(ctx.machine.buddy.free_pages, s.pages)
        ctx.local_irq_disable()
        return None
    ctx.local_irq_disable()
    for index in reversed(range(s.objects)):
        slab.freelist = (index, slab.freelist)
    s.slabs[slab] = None
    await ctx.ask(s.node.add_nr_slabs, 1)
    return slab


async def sleep_in_page_allocator(ctx: Context) -> None:
    """The page allocator may have to reclaim, and sleep; the scheduler may wake the task on another CPU.

    Reclaim may be over at once, take any time, or wait for writeback that takes longer than everything here.
    """
    ctx.might_sleep("alloc_pages")
    if ctx.machine.buddy.is_short:
        how = await ctx.choose(3)
        if how == 1:
            await ctx.ask(ctx.machine.buddy.try_to_free_pages)
        elif how:
            await ctx.sleep(CONGESTION_WAIT_NS)
    if len(ctx.cpus_allowed) > 1:
        await ctx.migrate(ctx.cpus_allowed[await ctx.choose(len(ctx.cpus_allowed))])
