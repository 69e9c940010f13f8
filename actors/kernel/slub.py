"""SLUB: where slabs live, and how objects come back. mm/slub.c @5.3.1; KERNEL.md 4.2, 4.5 and 4.6.

A slab is *frozen* when it belongs to one CPU (its cpu slab, or on its partial list) and is then on no node
list; anybody may still push frees onto its freelist. Unfrozen slabs are on the node's partial list under
list_lock, or full and on no list. Freelist and counters change together, by cmpxchg; whoever loses reads again.
Allocation is in `slub_alloc`.

Returning a CPU's objects one by one to their slab (stage one of deactivate_slab) is one cmpxchg here: nothing
can tell the intermediate states apart from fewer frees in a row.
"""

from __future__ import annotations

from actors.kernel.context import BUG_ON, Context
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.locks import SpinLockHeld, spin_lock, spin_lock_irqsave, spin_unlock, spin_unlock_irqrestore
from actors.kernel.rcu import RcuHead, call_rcu
from actors.kernel.slab import Chain, KmemCache, KmemCacheCpu, Slab, SlabCounters, SlabFlags, SlabObject
from actors.kernel.slab_charge import uncharge_slab_page
from actors.kernel.smp import on_each_cpu_mask
from protocol.findings import Oops
from protocol.operations import ATOMIC_NS, OperationInfo

CMPXCHG_FREELIST = OperationInfo("this_cpu_cmpxchg_double", cost=ATOMIC_NS)
CMPXCHG_PARTIAL = OperationInfo("this_cpu_cmpxchg_partial", cost=ATOMIC_NS)
SHRINK_PROMOTE_MAX = 32


def this_cpu_slab(ctx: Context, s: KmemCache) -> KmemCacheCpu:
    """this_cpu_ptr(s->cpu_slab)."""
    if s.freed is not None:
        ctx.world.raise_use_after_free(s)
    return s.cpu_slab[ctx.smp_processor_id]


def next_tid(ctx: Context, tid: int) -> int:
    """Step by a power of two that no CPU number reaches: a stale (cpu, tid) never matches."""
    return tid + (1 << (len(ctx.machine.cpus) - 1).bit_length())


# -- slabs come and go ------------------------------------------------------------------------------------------------


@kernel_fn("discard_slab", "mm/slub.c")
async def discard_slab(ctx: Context, s: KmemCache, slab: Slab) -> None:
    """Give an empty slab back, after a grace period if its objects are type-safe by RCU."""
    await ctx.ask(s.node.add_nr_slabs, -1)
    if SlabFlags.TYPESAFE_BY_RCU in s.flags:
        await call_rcu(ctx, slab.rcu_head, rcu_free_slab)
    else:
        await __free_slab(ctx, s, slab)


async def rcu_free_slab(ctx: Context, head: RcuHead) -> None:
    slab = head.container
    assert isinstance(slab, Slab)
    await __free_slab(ctx, slab.slab_cache, slab)


@kernel_fn("__free_slab", "mm/slub.c")
async def __free_slab(ctx: Context, s: KmemCache, slab: Slab) -> None:
    """Uncharge, then give the pages back; after the uncharge the cache may be gone."""
    if s.freed is not None:
        ctx.world.raise_use_after_free(s)
    del s.slabs[slab]
    pages = s.pages
    ctx.kfree(slab)
    await uncharge_slab_page(ctx, slab, s)
    await ctx.ask(ctx.machine.buddy.free_pages, pages)


# -- a slab leaves its CPU --------------------------------------------------------------------------------------------


@kernel_fn("deactivate_slab", "mm/slub.c")
async def deactivate_slab(ctx: Context, s: KmemCache, c: KmemCacheCpu) -> None:
    """Unfreeze this CPU's slab with its unused objects, and put it where it belongs; IRQs are off."""
    slab, freelist = c.page, c.freelist
    assert slab is not None
    n = s.node
    if freelist is not None:
        await return_freelist(ctx, slab, freelist)
    locked = on_list = False
    while True:
        old = await ctx.ask(slab.read_counters)
        BUG_ON(ctx, not old.frozen, "deactivate_slab: VM_BUG_ON(!old.frozen)")
        is_free = not old.inuse and await has_enough_partial(ctx, s)
        wants_list = not is_free and old.freelist is not None
        if wants_list and not locked:
            await spin_lock(ctx, n.list_lock)
            locked = True
        if wants_list != on_list:
            await (ctx.ask(n.add_partial, slab, tail=True) if wants_list else ctx.ask(n.remove_partial, slab))
            on_list = wants_list
        if await ctx.ask(slab.cmpxchg_double, old, old._replace(frozen=False)):
            break
    if locked:
        await spin_unlock(ctx, n.list_lock)
    c.page = None
    c.freelist = None
    if is_free:
        await discard_slab(ctx, s, slab)


@kernel_fn("return_freelist", "mm/slub.c")
async def return_freelist(ctx: Context, slab: Slab, freelist: Chain) -> None:
    """Stage one of deactivate_slab: push this CPU's unused objects onto the slab's own freelist."""
    unused = []
    while freelist is not None:
        index, freelist = freelist
        unused.append(index)
    while True:
        old = await ctx.ask(slab.read_counters)
        BUG_ON(ctx, not old.frozen, "deactivate_slab: VM_BUG_ON(!new.frozen)")
        new = old.freelist
        for index in unused:
            new = (index, new)
        if await ctx.ask(slab.cmpxchg_double, old, SlabCounters(new, old.inuse - len(unused), frozen=True)):
            return


async def has_enough_partial(ctx: Context, s: KmemCache) -> bool:
    """n->nr_partial >= s->min_partial: an empty slab is not worth keeping."""
    nr_partial = await ctx.ask(s.node.read_nr_partial)
    return nr_partial >= await ctx.ask(s.read_min_partial)


@kernel_fn("unfreeze_partials", "mm/slub.c")
async def unfreeze_partials(ctx: Context, s: KmemCache) -> None:
    """Put the slabs on this CPU's partial list onto the node's, empty ones beyond min_partial go; IRQs are off."""
    c = this_cpu_slab(ctx, s)
    n = s.node
    if not c.partial:
        return
    discard = []
    await spin_lock(ctx, n.list_lock)
    while c.partial:
        slab = c.partial.pop()
        while True:
            old = await ctx.ask(slab.read_counters)
            BUG_ON(ctx, not old.frozen, "unfreeze_partials: VM_BUG_ON(!old.frozen)")
            if await ctx.ask(slab.cmpxchg_double, old, old._replace(frozen=False)):
                break
        if not old.inuse and await has_enough_partial(ctx, s):
            discard.append(slab)
        else:
            await ctx.ask(n.add_partial, slab, tail=True)
    c.pobjects = 0
    await spin_unlock(ctx, n.list_lock)
    for slab in discard:
        await discard_slab(ctx, s, slab)


@kernel_fn("put_cpu_partial", "mm/slub.c")
async def put_cpu_partial(ctx: Context, s: KmemCache, slab: Slab, *, drain: bool) -> None:
    """Put a frozen slab onto this CPU's partial list; a cache with cpu_partial 0 keeps none there."""
    with ctx.preempt_section:
        limit = await ctx.ask(s.read_cpu_partial)
        counters = await ctx.ask(slab.read_counters)
        while True:
            c = this_cpu_slab(ctx, s)
            top = c.partial[-1] if c.partial else None
            if top is not None and drain and c.pobjects > limit:
                with ctx.irq_section:
                    await unfreeze_partials(ctx, s)
                top = None
            await ctx.this_cpu(c, CMPXCHG_PARTIAL)
            if (c.partial[-1] if c.partial else None) is top:
                break
        c.partial.append(slab)
        c.pobjects += slab.objects - counters.inuse
        if not await ctx.ask(s.read_cpu_partial):
            with ctx.irq_section:
                await unfreeze_partials(ctx, s)


# -- free -----------------------------------------------------------------------------------------------------------


@kernel_fn("kmem_cache_free", "mm/slub.c")
async def kmem_cache_free(ctx: Context, obj: SlabObject) -> None:
    """Free *obj*, in any context, on any CPU (4.5): to this CPU's slab if it is from there."""
    slab = obj.slab
    s = cache_from_obj(ctx, obj)
    while True:
        c = this_cpu_slab(ctx, s)
        tid, freelist = c.tid, c.freelist  # may be stale from here on
        if c.page is not slab:
            await __slab_free(ctx, s, obj)
            return
        await ctx.this_cpu(s, CMPXCHG_FREELIST)
        c = this_cpu_slab(ctx, s)
        if c.tid == tid and c.freelist is freelist:
            c.freelist = (obj.at, freelist)
            c.tid = next_tid(ctx, tid)
            return


def cache_from_obj(ctx: Context, obj: SlabObject) -> KmemCache:
    """The cache that *obj* belongs to: its slab says so; and the ledger says whether it is allocated at all."""
    slab = obj.slab
    if slab.freed is not None:
        ctx.world.raise_use_after_free(slab)
    if not slab.live >> obj.at & 1:
        raise Oops("double-free", "object", f"BUG: double free of {obj.label}")
    slab.live &= ~(1 << obj.at)
    return slab.slab_cache


@kernel_fn("__slab_free", "mm/slub.c")
async def __slab_free(ctx: Context, s: KmemCache, obj: SlabObject) -> None:
    """Push *obj* onto its slab's freelist; a full slab becomes this CPU's partial, an empty one may go."""
    old, new, locked = await push_object(ctx, s, obj)
    if locked:
        await keep_or_discard_empty(ctx, s, obj.slab)
    elif new.frozen and not old.frozen:
        await put_cpu_partial(ctx, s, obj.slab, drain=True)


async def push_object(ctx: Context, s: KmemCache, obj: SlabObject) -> tuple[SlabCounters, SlabCounters, bool]:
    """The cmpxchg loop of __slab_free(); True: the slab is empty and unfrozen now, and list_lock is held."""
    slab, n = obj.slab, s.node
    while True:
        old = await ctx.ask(slab.read_counters)
        becomes_empty = not old.frozen and old.freelist is not None and old.inuse == 1
        new = SlabCounters((obj.at, old.freelist), old.inuse - 1, old.frozen or old.freelist is None)
        if becomes_empty:
            await spin_lock_irqsave(ctx, n.list_lock)
        if await ctx.ask(slab.cmpxchg_double, old, new):
            return old, new, becomes_empty
        if becomes_empty:
            await spin_unlock_irqrestore(ctx, n.list_lock)


async def keep_or_discard_empty(ctx: Context, s: KmemCache, slab: Slab) -> None:
    """The slab is empty, on the partial list, and list_lock is held: keep it there if the node has few."""
    is_surplus = await has_enough_partial(ctx, s)
    if is_surplus:
        await ctx.ask(s.node.remove_partial, slab)
    await spin_unlock_irqrestore(ctx, s.node.list_lock)
    if is_surplus:
        await discard_slab(ctx, s, slab)


# -- flush, shrink, shutdown (4.6) -----------------------------------------------------------------------------------


@kernel_fn("flush_slab", "mm/slub.c")
async def flush_slab(ctx: Context, s: KmemCache, c: KmemCacheCpu) -> None:
    await deactivate_slab(ctx, s, c)
    c.tid = next_tid(ctx, c.tid)


@kernel_fn("flush_cpu_slab", "mm/slub.c")
async def flush_cpu_slab(ctx: Context, s: KmemCache) -> None:
    """Give up this CPU's slab and partial slabs; in a hard IRQ, or with IRQs off."""
    c = this_cpu_slab(ctx, s)
    if c.page is not None:
        await flush_slab(ctx, s, c)
    await unfreeze_partials(ctx, s)


@kernel_fn("flush_all", "mm/slub.c")
async def flush_all(ctx: Context, s: KmemCache) -> None:
    """Have every CPU that has slabs of this cache give them up, by IPI; wait for all of them."""

    async def handler(ctx: Context) -> None:
        await flush_cpu_slab(ctx, s)

    with ctx.preempt_section:
        cpus = [cpu for cpu, c in enumerate(s.cpu_slab) if await ctx.ask(c.has_cpu_slab)]
        if cpus:
            await on_each_cpu_mask(ctx, cpus, handler)


@kernel_fn("__kmem_cache_shrink", "mm/slub.c")
async def __kmem_cache_shrink(ctx: Context, s: KmemCache) -> bool:
    """Discard all empty slabs, sort the others, fullest first; True if any slab remains."""
    n = s.node
    await flush_all(ctx, s)
    discard = []
    keep: list[tuple[int, Slab]] = []
    async with SpinLockHeld(ctx, n.list_lock):
        for slab in await ctx.ask(n.list_partial):
            counters = await ctx.ask(slab.read_counters)
            free = slab.objects - counters.inuse
            BUG_ON(ctx, free <= 0, "__kmem_cache_shrink: free <= 0")
            if free == slab.objects:
                await ctx.ask(n.remove_partial, slab)
                discard.append(slab)
            else:
                keep.append((free, slab))
        promoted = sorted((pair for pair in keep if pair[0] <= SHRINK_PROMOTE_MAX), key=lambda pair: pair[0])
        rest = [pair for pair in keep if pair[0] > SHRINK_PROMOTE_MAX]
        await ctx.ask(n.sort_partial, tuple(slab for _, slab in promoted + rest))
    for slab in discard:
        await discard_slab(ctx, s, slab)
    return bool(await ctx.ask(n.read_nr_slabs))


@kernel_fn("__kmemcg_cache_deactivate", "mm/slub.c")
async def __kmemcg_cache_deactivate(ctx: Context, s: KmemCache) -> None:
    """From now on, as every CPU gets to know, no empty or partial slab is kept for later."""
    await ctx.ask(s.set_cpu_partial, 0)
    await ctx.ask(s.set_min_partial, 0)


@kernel_fn("__kmem_cache_shutdown", "mm/slub.c")
async def __kmem_cache_shutdown(ctx: Context, s: KmemCache) -> bool:
    """Give everything back; True (failure) if objects remain."""
    n = s.node
    await flush_all(ctx, s)
    discard = []
    async with SpinLockHeld(ctx, n.list_lock):
        for slab in await ctx.ask(n.list_partial):
            if not (await ctx.ask(slab.read_counters)).inuse:
                await ctx.ask(n.remove_partial, slab)
                discard.append(slab)
    for slab in discard:
        await discard_slab(ctx, s, slab)
    return bool(await ctx.ask(n.read_nr_partial) or await ctx.ask(n.read_nr_slabs))
