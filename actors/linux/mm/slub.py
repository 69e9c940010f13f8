"""SLUB: slabs, free, flush and shrink, allocation, bulk calls. mm/slub.c @5.3.1; KERNEL.md 4.2, 4.5 and 4.6.

A slab is *frozen* while it belongs to one CPU, as its cpu slab or on its partial list. A frozen slab is on no node
list, but any CPU may push freed objects onto its freelist. An unfrozen slab is on its node's partial list, under
list_lock; a full one is on no list. Freelist and counters change together, by cmpxchg; if the cmpxchg fails, the code
reads them again and retries.

The fast paths rely on the tid. Code that changes the cpu slab should step the tid, so that a cmpxchg of an older
(freelist, tid) fails. Where the kernel does not step it, the model does not either.

Stage one of deactivate_slab() returns a CPU's objects to their slab one by one. Here it is one cmpxchg: the
intermediate states look like fewer frees in a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from actors.linux.include.slab import SlabFlags, kmalloc
from actors.linux.kernel.locking.locks import (
    SpinLockIrqHeld,
    spin_lock,
    spin_lock_irqsave,
    spin_unlock,
    spin_unlock_irqrestore,
)
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.linux.kernel.smp import on_each_cpu_mask
from actors.linux.mm.kmem_cache import Chain, KmemCache, KmemCacheCpu, KmemCacheNode, Slab, SlabCounters, SlabObject
from actors.linux.mm.new_cache import make_slab
from actors.linux.mm.page_alloc import __free_pages, alloc_pages
from actors.linux.mm.slab_common import (
    all_or_none,
    find_mergeable,
    slab_deactivate_memcg_cache_rcu_sched,
)
from actors.linux.mm.slab_h import (
    cache_from_obj,
    charge_slab_page,
    forget_slab,
    mark_allocated,
    mark_freed,
    slab_post_alloc_hook,
    slab_pre_alloc_hook,
    uncharge_slab_page,
)
from actors.linux.mm.slub_sysfs import sysfs_slab_add, sysfs_slab_alias, sysfs_slab_remove
from actors.machine.context import BUG_ON, WARN_ON, Context, deref
from actors.machine.errno import ENOMEM
from actors.machine.gfp import GFP_KERNEL, Gfp, gfpflags_allow_blocking
from actors.machine.list_head import use
from actors.versions.kernel_fn import kernel_fn
from protocol.formats.slabinfo import SlabinfoRow
from protocol.operations import ATOMIC_NS, OperationInfo

SHRINK_PROMOTE_MAX = 32
LOOKAHEAD = 3

CMPXCHG_FREELIST = OperationInfo("this_cpu_cmpxchg_double", cost=ATOMIC_NS)
THIS_CPU_FREELIST = OperationInfo("this_cpu_freelist", cost=ATOMIC_NS)
THIS_CPU_SLAB = OperationInfo("this_cpu_slab", cost=ATOMIC_NS)
CMPXCHG_PARTIAL = OperationInfo("this_cpu_cmpxchg_partial", cost=ATOMIC_NS)


def this_cpu_slab(ctx: Context, s: KmemCache) -> KmemCacheCpu:
    """this_cpu_ptr(s->cpu_slab)."""
    if s.freed is not None:
        ctx.world.raise_use_after_free(s)
    c = s.cpu_slab[ctx.smp_processor_id]
    ctx.use(c)
    return c


def next_tid(ctx: Context, tid: int) -> int:
    """Step by a power of two that no CPU number reaches: a stale (cpu, tid) never matches."""
    return tid + (1 << (len(ctx.machine.cpus) - 1).bit_length())


# -- parts of a cache -------------------------------------------------------------------------------------------------


@kernel_fn("__kmem_cache_create", "mm/slub.c")
async def __kmem_cache_create(ctx: Context, s: KmemCache) -> int:
    """Make the cache's parts and its sysfs directory; 0, or -errno with the parts freed again."""
    err = kmem_cache_open(ctx, s) or await sysfs_slab_add(ctx, s)
    if err:
        __kmem_cache_release(ctx, s)
    return err


@kernel_fn("kmem_cache_open", "mm/slub.c")
def kmem_cache_open(ctx: Context, s: KmemCache) -> int:
    """init_kmem_cache_nodes(), alloc_kmem_cache_cpus(): the parts exist with the struct; their allocation may fail."""
    return 0 if kmalloc(ctx, GFP_KERNEL, "cache_parts") else -ENOMEM


@kernel_fn("__kmem_cache_release", "mm/slub.c")
def __kmem_cache_release(ctx: Context, s: KmemCache) -> None:
    """Free the per-CPU and per-node parts; here they are freed with the struct."""


@kernel_fn("__kmem_cache_alias", "mm/slub.c")
async def __kmem_cache_alias(ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool) -> KmemCache | None:
    """Find an existing root cache to share and count one more user of it; None if there is none.

    If the link in sysfs cannot be made, the cache is not shared.
    """
    s = await find_mergeable(ctx, row, flags, has_ctor=has_ctor)
    if s is None:
        return None
    await ctx.ask(s.add_refcount, 1)
    s.object_size = max(s.object_size, row.objsize)
    for child in await ctx.ask(s.list_children):
        child.object_size = s.object_size
    if not await sysfs_slab_alias(ctx, s, row.name):
        await ctx.ask(s.add_refcount, -1)
        return None
    return s


# -- freeing a slab ---------------------------------------------------------------------------------------------------


@kernel_fn("discard_slab", "mm/slub.c")
async def discard_slab(ctx: Context, s: KmemCache, slab: Slab) -> None:
    """Free an empty slab; after a grace period if the cache is SLAB_TYPESAFE_BY_RCU."""
    await ctx.ask(s.node[slab.nid].add_nr_slabs, -1, -slab.objects)
    if SlabFlags.TYPESAFE_BY_RCU in s.flags:
        await call_rcu(ctx, slab.rcu_head, rcu_free_slab)
    else:
        await __free_slab(ctx, s, slab)


@kernel_fn("rcu_free_slab", "mm/slub.c")
async def rcu_free_slab(ctx: Context, head: RcuHead) -> None:
    """RCU callback: free the slab."""
    slab = head.container
    assert isinstance(slab, Slab)
    await __free_slab(ctx, slab.slab_cache, slab)


@kernel_fn("__free_slab", "mm/slub.c")
async def __free_slab(ctx: Context, s: KmemCache, slab: Slab) -> None:
    """Uncharge the slab, then free its pages; the uncharge may drop the last reference to the cache."""
    if s.freed is not None:
        ctx.world.raise_use_after_free(s)
    forget_slab(slab)
    pages = slab.pages
    await uncharge_slab_page(ctx, slab, s)
    ctx.kfree(slab)
    await __free_pages(ctx, pages)


# -- unfreezing a slab ------------------------------------------------------------------------------------------------


@kernel_fn("deactivate_slab", "mm/slub.c")
async def deactivate_slab(ctx: Context, s: KmemCache, c: KmemCacheCpu, slab: Slab, freelist: Chain) -> None:
    """Unfreeze this CPU's slab with its unused objects, and link it to the list it belongs on; IRQs are off."""
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
        elif on_list and not wants_list:
            await ctx.ask(n.remove_partial, slab)
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


async def return_freelist(ctx: Context, slab: Slab, freelist: Chain) -> None:
    """Stage one of deactivate_slab(): push this CPU's unused objects onto the slab's own freelist."""
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


async def has_enough_partial(ctx: Context, s: KmemCache, n: KmemCacheNode) -> bool:
    """n->nr_partial >= s->min_partial: an empty slab is not worth keeping."""
    nr_partial = await ctx.ask(n.read_nr_partial)
    return nr_partial >= await ctx.ask(s.min_partial.read, ctx.smp_processor_id)


@kernel_fn("unfreeze_partials", "mm/slub.c")
async def unfreeze_partials(ctx: Context, s: KmemCache, c: KmemCacheCpu) -> None:
    """Move this CPU's partial slabs to their nodes' lists; discard empty ones beyond min_partial. IRQs are off."""
    n: KmemCacheNode | None = None
    discard = []
    while c.partial:
        slab = c.partial.pop()
        if s.node[slab.nid] is not n:
            if n is not None:
                await spin_unlock(ctx, n.list_lock)
            n = s.node[slab.nid]
            await spin_lock(ctx, n.list_lock)
        new = await unfreeze(ctx, slab)
        if not new.inuse and await has_enough_partial(ctx, s, n):
            discard.append(slab)
        else:
            await ctx.ask(n.add_partial, slab, tail=True)
    if n is not None:
        await spin_unlock(ctx, n.list_lock)
    for slab in reversed(discard):
        await discard_slab(ctx, s, slab)


async def unfreeze(ctx: Context, slab: Slab) -> SlabCounters:
    """The cmpxchg loop of unfreeze_partials()."""
    while True:
        old = await ctx.ask(slab.read_counters)
        BUG_ON(ctx, not old.frozen, "unfreeze_partials: VM_BUG_ON(!old.frozen)")
        new = old._replace(frozen=False)
        if await ctx.ask(slab.cmpxchg_double, old, new):
            return new


async def unfreeze_this_cpu(ctx: Context, s: KmemCache) -> None:
    """unfreeze_partials() in its own section with IRQs off."""
    with ctx.irq_section:
        await ctx.this_cpu(s, THIS_CPU_SLAB)
        await unfreeze_partials(ctx, s, this_cpu_slab(ctx, s))


@kernel_fn("put_cpu_partial", "mm/slub.c")
async def put_cpu_partial(ctx: Context, s: KmemCache, slab: Slab, *, drain: bool) -> None:
    """Put a frozen slab onto this CPU's partial list; with cpu_partial 0 the whole list is unfrozen at once."""
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
        if not await ctx.ask(s.cpu_partial.read, c.cpu):
            await unfreeze_this_cpu(ctx, s)


# -- free -------------------------------------------------------------------------------------------------------------


@kernel_fn("kmem_cache_free", "mm/slub.c")
async def kmem_cache_free(ctx: Context, s: KmemCache, obj: SlabObject) -> None:
    """Free *obj*, in any context, on any CPU (4.5): to this CPU's freelist if *obj* is from its cpu slab."""
    s = await cache_from_obj(ctx, s, obj)
    await free_detached(ctx, s, obj, ())


async def free_detached(ctx: Context, s: KmemCache, obj: SlabObject, rest: tuple[int, ...]) -> None:
    """slab_free(): free *obj* and *rest*, all of one slab, at once."""
    while True:
        c = this_cpu_slab(ctx, s)
        tid, freelist = c.tid, c.freelist  # may be stale from here on
        if c.page is not obj.slab:
            await __slab_free(ctx, s, obj, rest)
            return
        await ctx.this_cpu(c, CMPXCHG_FREELIST)
        c = this_cpu_slab(ctx, s)
        if c.tid == tid and c.freelist is freelist:
            c.freelist = joined(obj.at, rest, freelist)
            c.tid = next_tid(ctx, tid)
            return


def joined(head: int, rest: tuple[int, ...], freelist: Chain) -> tuple[int, Chain]:
    """Prepend *head* and *rest* to *freelist*."""
    for at in reversed(rest):
        freelist = (at, freelist)
    return head, freelist


@kernel_fn("__slab_free", "mm/slub.c")
async def __slab_free(ctx: Context, s: KmemCache, obj: SlabObject, rest: tuple[int, ...] = ()) -> None:
    """Push *obj* and *rest* onto their slab's freelist. A full slab becomes this CPU's partial, an empty one may go."""
    slab = obj.slab
    n = s.node[slab.nid]
    while True:
        old = await ctx.ask(slab.read_counters)
        inuse = old.inuse - 1 - len(rest)
        new = SlabCounters(joined(obj.at, rest, old.freelist), inuse, old.frozen or old.freelist is None)
        takes_lock = not new.frozen and not new.inuse
        if takes_lock:
            flags = await spin_lock_irqsave(ctx, n.list_lock)
        if await ctx.ask(slab.cmpxchg_double, old, new):
            break
        if takes_lock:
            await spin_unlock_irqrestore(ctx, n.list_lock, flags)
    if takes_lock:
        await keep_or_discard_empty(ctx, s, n, slab, flags=flags)
    elif new.frozen and not old.frozen:
        await put_cpu_partial(ctx, s, slab, drain=True)


async def keep_or_discard_empty(ctx: Context, s: KmemCache, n: KmemCacheNode, slab: Slab, *, flags: bool) -> None:
    """Keep an empty slab of the partial list if the node has few, else discard it; list_lock is held."""
    is_surplus = await has_enough_partial(ctx, s, n)
    if is_surplus:
        await ctx.ask(n.remove_partial, slab)
    await spin_unlock_irqrestore(ctx, n.list_lock, flags)
    if is_surplus:
        await discard_slab(ctx, s, slab)


# -- flush, shrink, shutdown (4.6) ------------------------------------------------------------------------------------


@kernel_fn("flush_slab", "mm/slub.c")
async def flush_slab(ctx: Context, s: KmemCache, c: KmemCacheCpu) -> None:
    await deactivate_slab(ctx, s, c, deref(c.page, "flush_slab(): c->page"), c.freelist)
    c.tid = next_tid(ctx, c.tid)


@kernel_fn("flush_cpu_slab", "mm/slub.c")
async def flush_cpu_slab(ctx: Context, s: KmemCache) -> None:
    """Unfreeze this CPU's cpu slab and partial slabs; in a hard IRQ, or with IRQs off."""
    c = this_cpu_slab(ctx, s)
    if c.page is not None:
        await flush_slab(ctx, s, c)
    await unfreeze_partials(ctx, s, c)


@kernel_fn("flush_all", "mm/slub.c")
async def flush_all(ctx: Context, s: KmemCache) -> None:
    """Send an IPI to every CPU that has slabs of this cache, to unfreeze them; wait for all."""

    async def handler(ctx: Context) -> None:
        await flush_cpu_slab(ctx, s)

    with ctx.preempt_section:
        cpus = [cpu for cpu, c in enumerate(s.cpu_slab) if await ctx.ask(c.has_cpu_slab)]
        if cpus:
            await on_each_cpu_mask(ctx, cpus, handler)


@kernel_fn("__kmem_cache_shrink", "mm/slub.c")
async def __kmem_cache_shrink(ctx: Context, s: KmemCache) -> bool:
    """Discard all empty slabs and sort the others, fullest first; True if any slab remains."""
    await flush_all(ctx, s)
    remain = False
    for n in s.node:
        discard = []
        async with SpinLockIrqHeld(ctx, n.list_lock):
            keep: list[tuple[int, Slab]] = []
            for slab in await ctx.ask(n.list_partial):
                free = slab.objects - (await ctx.ask(slab.read_counters)).inuse
                BUG_ON(ctx, free <= 0, "__kmem_cache_shrink: free <= 0")
                if free == slab.objects:
                    await ctx.ask(n.remove_partial, slab)
                    discard.append(slab)
                else:
                    keep.append((free, slab))
            await ctx.ask(n.sort_partial, promote(keep))
        for slab in discard:
            await discard_slab(ctx, s, slab)
        remain |= bool(await ctx.ask(n.read_nr_slabs))
    return remain


def promote(slabs: list[tuple[int, Slab]]) -> tuple[Slab, ...]:
    """Order of the partial list after a shrink: fullest first, then, in their old order, those with much free space."""
    promoted = sorted((pair for pair in reversed(slabs) if pair[0] <= SHRINK_PROMOTE_MAX), key=lambda pair: pair[0])
    rest = [pair for pair in slabs if pair[0] > SHRINK_PROMOTE_MAX]
    return tuple(slab for _, slab in promoted + rest)


@kernel_fn("__kmemcg_cache_deactivate", "mm/slub.c", profiles="v1..5.4-fixed,v4#2..")
async def __kmemcg_cache_deactivate(ctx: Context, s: KmemCache) -> None:
    """Set cpu_partial and min_partial to 0: each CPU that sees the stores stops caching empty and partial slabs."""
    await ctx.ask(s.cpu_partial.store, ctx, 0)
    await ctx.ask(s.min_partial.store, ctx, 0)


@kernel_fn("__kmemcg_cache_deactivate", "mm/slub.c", profiles="original..v4#1")
async def __kmemcg_cache_deactivate_original(ctx: Context, s: KmemCache) -> None:
    """[O]: the same stores; then SLUB, unlike SLAB, continues after a grace period."""
    await ctx.ask(s.cpu_partial.store, ctx, 0)
    await ctx.ask(s.min_partial.store, ctx, 0)
    await slab_deactivate_memcg_cache_rcu_sched(ctx, s)


@kernel_fn("__kmemcg_cache_deactivate_after_rcu", "mm/slub.c", profiles="v6..5.4-fixed,v4#2..v4#4")
async def __kmemcg_cache_deactivate_after_rcu(ctx: Context, s: KmemCache) -> None:
    """Every CPU sees the stores: free the empty slabs; a cache without slabs leaves sysfs now."""
    if not await __kmem_cache_shrink(ctx, s):
        await sysfs_slab_remove(ctx, s)


@kernel_fn("__kmemcg_cache_deactivate_after_rcu", "mm/slub.c", profiles="v1..v5,v4#5..")
async def __kmemcg_cache_deactivate_after_rcu_v1(ctx: Context, s: KmemCache) -> None:
    """[v1] to [v5]: the cache leaves sysfs only when it is shut down."""
    await __kmem_cache_shrink(ctx, s)


@kernel_fn(
    "kmemcg_cache_deactivate_after_rcu",
    "mm/slub.c",
    profiles="original..v4#1",
    known_as="kmemcg_cache_deact_after_rcu",
)
async def kmemcg_cache_deact_after_rcu(ctx: Context, s: KmemCache) -> None:
    """[O]: free the empty slabs; the cache itself stays until its memcg is freed."""
    if not await __kmem_cache_shrink(ctx, s):
        await sysfs_slab_remove(ctx, s)


@kernel_fn("__kmem_cache_shutdown", "mm/slub.c")
async def __kmem_cache_shutdown(ctx: Context, s: KmemCache) -> bool:
    """Free all slabs; True (failure) if objects remain."""
    await flush_all(ctx, s)
    for n in s.node:
        await free_partial(ctx, s, n)
        if await ctx.ask(n.read_nr_partial) or await ctx.ask(n.read_nr_slabs):
            return True
    await sysfs_slab_remove(ctx, s)
    return False


@kernel_fn("free_partial", "mm/slub.c")
async def free_partial(ctx: Context, s: KmemCache, n: KmemCacheNode) -> None:
    """Discard the empty slabs of a node's list."""
    BUG_ON(ctx, ctx.irqs_off, "free_partial: irqs_disabled()")
    discard = []
    async with SpinLockIrqHeld(ctx, n.list_lock):
        for slab in await ctx.ask(n.list_partial):
            if not (await ctx.ask(slab.read_counters)).inuse:
                await ctx.ask(n.remove_partial, slab)
                discard.append(slab)
    for slab in discard:
        await discard_slab(ctx, s, slab)


# -- allocation (KERNEL.md 4.3) ---------------------------------------------------------------------------------------


@kernel_fn("kmem_cache_alloc", "mm/slub.c")
async def kmem_cache_alloc(ctx: Context, s: KmemCache, gfp: Gfp = GFP_KERNEL) -> SlabObject | None:
    """Allocate an object of *s* or of its child for the current memcg; None is -ENOMEM."""
    s = await slab_pre_alloc_hook(ctx, s, gfp)
    obj = await slab_alloc_node(ctx, s, gfp)
    await slab_post_alloc_hook(ctx, s)
    return obj


@kernel_fn("slab_alloc_node", "mm/slub.c")
async def slab_alloc_node(ctx: Context, s: KmemCache, gfp: Gfp) -> SlabObject | None:
    """F2 and F3: take the head of this CPU's freelist, unless the freelist changed after it was read."""
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
    """S3 to S6: find a slab with free objects, the nearest first. The tid steps when a full slab leaves the CPU."""
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
    """Return the first object of *freelist*; the rest becomes this CPU's freelist."""
    slab = deref(c.page, "___slab_alloc(): c->page")
    BUG_ON(ctx, not slab.frozen, "___slab_alloc: VM_BUG_ON(!c->page->frozen)")
    at, c.freelist = freelist
    c.tid = next_tid(ctx, c.tid)
    return mark_allocated(SlabObject(slab, at))


@kernel_fn("get_freelist", "mm/slub.c")
async def get_freelist(ctx: Context, slab: Slab) -> Chain:
    """S4: take all free objects of this CPU's slab; a slab without any is full, and leaves the CPU."""
    while True:
        old = await ctx.ask(slab.read_counters)
        BUG_ON(ctx, not old.frozen, "get_freelist: VM_BUG_ON(!new.frozen)")
        new = SlabCounters(None, slab.objects, old.freelist is not None)
        if await ctx.ask(slab.cmpxchg_double, old, new):
            return old.freelist


@kernel_fn("new_slab_objects", "mm/slub.c")
async def new_slab_objects(ctx: Context, s: KmemCache, gfp: Gfp) -> tuple[KmemCacheCpu, Chain]:
    """S6 to S8: make a node's slab, or a new one, the cpu slab. The task may be on another CPU by then."""
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
    """S6: a slab from this CPU's node; sometimes from another node that has more than min_partial."""
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
    """Take slabs from the node's partial list: the first becomes the cpu slab, others this CPU's partial slabs."""
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
    """Freeze a slab and take it off its node's list; return its counters before that. None if the cmpxchg fails."""
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
    """S7: allocate and charge pages. If the caller may sleep, IRQs are on meanwhile, and the task may migrate."""
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
    """Try the preferred order without reclaim; on failure the smallest order that fits an object."""
    is_higher = s.order > s.min_order
    first = gfp & ~(Gfp.DIRECT_RECLAIM | Gfp.NOFAIL) if is_higher else gfp
    slab = await alloc_slab_page(ctx, s, first, s.order, s.objects)
    if slab is None:
        slab = await alloc_slab_page(ctx, s, gfp, s.min_order, s.min_objects)
    return slab


@kernel_fn("alloc_slab_page", "mm/slub.c")
async def alloc_slab_page(ctx: Context, s: KmemCache, gfp: Gfp, order: int, objects: int) -> Slab | None:
    """Allocate pages of this node and charge them. They become a slab if the charge succeeds, else they are freed.

    A caller that slept in the allocation may be on another node by now.
    """
    nid = ctx.numa_node
    if not await alloc_pages(ctx, gfp, 1 << order):
        return None
    slab = make_slab(ctx, s, order, objects, nid)
    if not await charge_slab_page(ctx, slab, gfp, s):
        await __free_pages(ctx, slab.pages)
        return None
    return slab


# -- bulk allocation and free (KERNEL.md 4) ---------------------------------------------------------------------------
# The cache is chosen once for all objects, and one reference pins it until they are allocated. Either all objects are
# allocated or none. On failure the objects allocated so far are freed, after that reference has been dropped.


@kernel_fn("kmem_cache_alloc_bulk", "mm/slub.c", profiles="5.4-fixed")
async def kmem_cache_alloc_bulk(ctx: Context, s: KmemCache, size: int, gfp: Gfp = GFP_KERNEL) -> list[SlabObject]:
    """Allocate *size* objects of *s* or of its child; an empty list is -ENOMEM. The tid steps before the slow path.

    Objects are taken from this CPU's freelist with IRQs off. The slow path may enable IRQs, so the tid must step
    first.
    """
    s = await slab_pre_alloc_hook(ctx, s, gfp)
    objects: list[SlabObject] = []
    with ctx.irq_section:
        await ctx.this_cpu(s, THIS_CPU_FREELIST)
        while len(objects) < size:
            obj = pop_freelist(ctx, s)
            if obj is None:
                c = this_cpu_slab(ctx, s)
                c.tid = next_tid(ctx, c.tid)
                obj = await ___slab_alloc(ctx, s, gfp)
            if obj is None:
                break
            objects.append(obj)
        else:
            c = this_cpu_slab(ctx, s)
            c.tid = next_tid(ctx, c.tid)
    return await all_or_none(ctx, s, objects, size)


@kernel_fn("kmem_cache_alloc_bulk", "mm/slub.c", profiles="..5.3")
async def kmem_cache_alloc_bulk_until_5_3(
    ctx: Context, s: KmemCache, size: int, gfp: Gfp = GFP_KERNEL
) -> list[SlabObject]:
    """[O] to [M]: the tid steps only at the end, on the CPU that the task runs on by then, and not on failure."""
    s = await slab_pre_alloc_hook(ctx, s, gfp)
    objects: list[SlabObject] = []
    with ctx.irq_section:
        await ctx.this_cpu(s, THIS_CPU_FREELIST)
        while len(objects) < size:
            obj = pop_freelist(ctx, s) or await ___slab_alloc(ctx, s, gfp)
            if obj is None:
                break
            objects.append(obj)
        else:
            c = this_cpu_slab(ctx, s)
            c.tid = next_tid(ctx, c.tid)
    return await all_or_none(ctx, s, objects, size)


def pop_freelist(ctx: Context, s: KmemCache) -> SlabObject | None:
    """Take the head of this CPU's freelist. IRQs are off, so a plain store suffices and the tid does not step."""
    c = this_cpu_slab(ctx, s)
    if c.freelist is None or c.page is None:
        return None
    at, c.freelist = c.freelist
    return mark_allocated(SlabObject(c.page, at))


class DetachedFreelist(NamedTuple):
    """struct detached_freelist: objects of one slab of cache `s`, already linked: `head`, then `rest`."""

    s: KmemCache
    head: SlabObject
    rest: tuple[int, ...]


@kernel_fn("kmem_cache_free_bulk", "mm/slub.c")
async def kmem_cache_free_bulk(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> None:
    """Free *objects*; objects of one slab that are close together in the list are freed at once."""
    p: list[SlabObject | None] = list(objects)
    size = len(p)
    if WARN_ON(ctx, not size, "kmem_cache_free_bulk: !size"):
        return
    while size:
        size, df = await build_detached_freelist(ctx, s, size, p)
        if df is not None:
            await free_detached(ctx, df.s, df.head, df.rest)


@kernel_fn("build_detached_freelist", "mm/slub.c")
async def build_detached_freelist(
    ctx: Context, s: KmemCache, size: int, p: list[SlabObject | None]
) -> tuple[int, DetachedFreelist | None]:
    """Take the last object of p[:size] and others of its slab; return the length of *p* that is still to be searched.

    The search skips two objects of other slabs and ends at the third.
    """
    while size and p[size - 1] is None:
        size -= 1
    last = p[size - 1] if size else None
    if last is None:
        return 0, None
    size -= 1
    df_s = await cache_from_obj(ctx, s, last)
    p[size], taken = None, [last]
    skipped, lookahead = 0, LOOKAHEAD
    while size:
        size -= 1
        obj = p[size]
        if obj is None:
            continue
        if obj.slab is last.slab:
            mark_freed(ctx, obj)
            p[size], taken = None, [obj, *taken]
            continue
        lookahead -= 1
        if not lookahead:
            break
        skipped = skipped or size + 1
    return skipped, DetachedFreelist(df_s, taken[0], tuple(obj.at for obj in taken[1:]))
