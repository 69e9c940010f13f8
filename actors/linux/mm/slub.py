"""SLUB: slabs, free, flush and shrink, allocation, bulk calls. mm/slub.c @5.3.1; KERNEL.md 4.2, 4.5 and 4.6.

The bodies of 6.12 stand beside those of the 2019 kernels. mm/slub.c @6.12.117; KERNEL-today 16.

A slab is *frozen* while it belongs to one CPU, as its cpu slab or on its partial list. A frozen slab is on no node
list, but any CPU may push freed objects onto its freelist. An unfrozen slab is on its node's partial list, under
list_lock; a full one is on no list. Freelist and counters change together, by cmpxchg; if the cmpxchg fails, the code
reads them again and retries.

The fast paths rely on the tid. Code that changes the cpu slab should step the tid, so that a cmpxchg of an older
(freelist, tid) fails. Where the kernel does not step it, the model does not either.

From 6.12 on only the cpu slab is frozen. A slab on a CPU's partial list is not, and it is on no node's list. So a free
that finds an unfrozen slab with free objects cannot tell whether the slab is on the node's list: it takes list_lock and
looks at the slab's flag. The flag is `Slab.slab_list`, which add_partial() and remove_partial() change under that lock.
The slow path of an allocation runs with preemption off. It switches IRQs off (the local lock) for each short section
that changes the cpu slab or its freelist, and each such change steps the tid.

Until 5.4, stage one of deactivate_slab() returns a CPU's objects to their slab one by one. Here it is one cmpxchg: the
intermediate states look like fewer frees in a row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from actors.linux.include.memcontrol import (
    alloc_slab_obj_exts,
    free_slab_obj_exts,
    memcg_slab_free_hook,
    memcg_slab_post_alloc_hook,
)
from actors.linux.include.slab import SlabFlags, kmalloc
from actors.linux.kernel.locking.locks import (
    MutexHeld,
    SpinLockIrqHeld,
    spin_lock,
    spin_lock_irqsave,
    spin_unlock,
    spin_unlock_irqrestore,
)
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.linux.kernel.smp import on_each_cpu_mask
from actors.linux.kernel.workqueue import Work, flush_work, queue_work_on
from actors.linux.mm.kmem_cache import (
    Chain,
    KmemCache,
    KmemCacheCpu,
    KmemCacheNode,
    Slab,
    SlabCounters,
    SlabObject,
    SlubFlushWork,
)
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
    get_online_cpus,
    mark_allocated,
    mark_freed,
    put_online_cpus,
    slab_post_alloc_hook,
    slab_pre_alloc_hook,
    uncharge_slab_page,
)
from actors.linux.mm.slub_sysfs import sysfs_slab_add, sysfs_slab_alias, sysfs_slab_remove
from actors.linux.mm.vmstat import mod_node_page_state
from actors.machine.context import BUG_ON, WARN_ON, Context, bug, deref
from actors.machine.errno import ENOMEM
from actors.machine.gfp import GFP_KERNEL, Gfp, gfpflags_allow_blocking
from actors.machine.list_head import use
from actors.system.flow import Section
from actors.versions.kernel_fn import kernel_fn
from protocol.formats.slabinfo import SlabinfoRow
from protocol.operations import ATOMIC_NS, READ, OperationInfo

if TYPE_CHECKING:
    from actors.linux.mm.list_lru import ListLru

SHRINK_PROMOTE_MAX = 32
LOOKAHEAD = 3

CMPXCHG_FREELIST = OperationInfo("this_cpu_cmpxchg_double", cost=ATOMIC_NS)
THIS_CPU_FREELIST = OperationInfo("this_cpu_freelist", cost=ATOMIC_NS)
THIS_CPU_SLAB = OperationInfo("this_cpu_slab", cost=ATOMIC_NS)
CMPXCHG_PARTIAL = OperationInfo("this_cpu_cmpxchg_partial", cost=ATOMIC_NS)
LOCAL_LOCK = OperationInfo("local_lock", cost=ATOMIC_NS)


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


@kernel_fn("__kmem_cache_release", "mm/slub.c", profiles="..6.12")
def __kmem_cache_release(ctx: Context, s: KmemCache) -> None:
    """Free the per-CPU and per-node parts; here they are freed with the struct."""


@kernel_fn("__kmem_cache_alias", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("__kmem_cache_alias", "mm/slub.c", profiles="6.12..")
async def __kmem_cache_alias_6_12(
    ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool
) -> KmemCache | None:
    """Find an existing cache to share, link the name to it, and count one more user. KERNEL-today 17.1."""
    s = await find_mergeable(ctx, row, flags, has_ctor=has_ctor)
    if s is None or not await sysfs_slab_alias(ctx, s, row.name):
        return None
    await ctx.ask(s.add_refcount, 1)
    s.object_size = max(s.object_size, row.objsize)
    return s


# -- freeing a slab ---------------------------------------------------------------------------------------------------


@kernel_fn("discard_slab", "mm/slub.c")
async def discard_slab(ctx: Context, s: KmemCache, slab: Slab) -> None:
    """Free an empty slab; after a grace period if the cache is SLAB_TYPESAFE_BY_RCU."""
    await ctx.ask(s.node[slab.nid].add_nr_slabs, -1, -slab.objects)
    await free_slab(ctx, s, slab)


async def free_slab(ctx: Context, s: KmemCache, slab: Slab) -> None:
    """Free a slab that is not counted any more."""
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


@kernel_fn("__free_slab", "mm/slub.c", profiles="..5.4-fixed")
async def __free_slab(ctx: Context, s: KmemCache, slab: Slab) -> None:
    """Uncharge the slab, then free its pages; the uncharge may drop the last reference to the cache."""
    if s.freed is not None:
        ctx.world.raise_use_after_free(s)
    forget_slab(slab)
    pages = slab.pages
    await uncharge_slab_page(ctx, slab, s)
    ctx.kfree(slab)
    await __free_pages(ctx, pages)


@kernel_fn("__free_slab", "mm/slub.c", profiles="6.12..")
async def __free_slab_6_12(ctx: Context, s: KmemCache, slab: Slab) -> None:
    """Free the slab's vector and its pages. The pages were never charged. KERNEL-today 16.6, 7.5."""
    if s.freed is not None:
        ctx.world.raise_use_after_free(s)
    forget_slab(slab)
    await free_slab_obj_exts(ctx, slab)
    await mod_node_page_state(ctx, slab.nid, s.stat_item, -slab.pages)
    ctx.kfree(slab)
    await __free_pages(ctx, slab.pages)


# -- unfreezing a slab ------------------------------------------------------------------------------------------------


@kernel_fn("deactivate_slab", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("deactivate_slab", "mm/slub.c", profiles="6.12")
async def deactivate_slab_6_12(ctx: Context, s: KmemCache, slab: Slab, freelist: Chain) -> None:
    """Unfreeze a slab that this CPU has given up with *freelist*, then link it where it belongs. KERNEL-today 16.5.

    Between the cmpxchg and list_lock the slab is unfrozen and on no list. A free leaves the lists alone then.
    """
    n = s.node[slab.nid]
    tail = (await ctx.ask(slab.read_counters)).freelist is not None
    unused = list(indices(freelist))
    while True:
        old = await ctx.ask(slab.read_counters)
        BUG_ON(ctx, not old.frozen, "deactivate_slab: VM_BUG_ON(!old.frozen)")
        first = joined(unused[0], tuple(unused[1:]), old.freelist) if unused else old.freelist
        new = SlabCounters(first, old.inuse - len(unused), frozen=False)
        if await ctx.ask(slab.cmpxchg_double, old, new):
            break
    if not new.inuse and await is_enough(ctx, s, n):
        await discard_slab(ctx, s, slab)
    elif new.freelist is not None:
        async with SpinLockIrqHeld(ctx, n.list_lock):
            await ctx.ask(n.add_partial, slab, tail=tail)


def indices(freelist: Chain) -> Iterator[int]:
    """The objects on *freelist*, the first one first."""
    while freelist is not None:
        index, freelist = freelist
        yield index


async def is_enough(ctx: Context, s: KmemCache, n: KmemCacheNode) -> bool:
    """n->nr_partial >= s->min_partial. In 6.12 nothing changes min_partial during a run, so reading it is no step."""
    nr_partial = await ctx.ask(n.read_nr_partial)
    s.min_partial.touch(READ)
    return nr_partial >= s.min_partial.value


def slub_get_cpu_partial(s: KmemCache) -> int:
    """s->cpu_partial_slabs: slabs, half free, that have cpu_partial free objects. KERNEL-today 16.9."""
    s.cpu_partial.touch(READ)
    return -(-2 * s.cpu_partial.value // s.objects)


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


@kernel_fn("unfreeze_partials", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("put_cpu_partial", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("put_cpu_partial", "mm/slub.c", profiles="6.12")
async def put_cpu_partial_6_12(ctx: Context, s: KmemCache, slab: Slab, *, drain: bool) -> None:
    """Put an unfrozen slab onto this CPU's partial list; a full list goes to the nodes instead. KERNEL-today 16.7."""
    full: Sequence[Slab] = ()
    with ctx.irq_section:
        await ctx.this_cpu(s, THIS_CPU_SLAB)
        c = this_cpu_slab(ctx, s)
        if c.partial:
            use(c.partial[-1])  # which has the length of the list
        if drain and c.partial and len(c.partial) >= slub_get_cpu_partial(s):
            full = detach_partial(c)
        c.partial.append(slab)
    if full:
        await __put_partials(ctx, s, full)


def detach_partial(c: KmemCacheCpu) -> Sequence[Slab]:
    """Take all slabs from a CPU's partial list, the last one first; the local lock is held."""
    detached = c.partial[::-1]
    c.partial.clear()
    return detached


@kernel_fn("put_partials", "mm/slub.c", profiles="6.12")
async def put_partials(ctx: Context, s: KmemCache, c: KmemCacheCpu) -> None:
    """Move this CPU's partial slabs to their nodes' lists. KERNEL-today 16.5."""
    with ctx.irq_section:
        await ctx.this_cpu(c, LOCAL_LOCK)
        ctx.use(c)
        slabs = detach_partial(c)
    if slabs:
        await __put_partials(ctx, s, slabs)


@kernel_fn("__put_partials", "mm/slub.c", profiles="6.12")
async def __put_partials(ctx: Context, s: KmemCache, slabs: Sequence[Slab]) -> None:
    """Link slabs that were on a CPU's partial list to their nodes'; discard empty ones beyond min_partial.

    KERNEL-today 16.7. They are unfrozen, and a free that empties one before it is linked leaves the lists alone.
    """
    discard = []
    for nid, those in itertools.groupby(slabs, key=lambda slab: slab.nid):
        n = s.node[nid]
        async with SpinLockIrqHeld(ctx, n.list_lock):
            for slab in those:
                if not (await ctx.ask(slab.read_counters)).inuse and await is_enough(ctx, s, n):
                    discard.append(slab)
                else:
                    await ctx.ask(n.add_partial, slab, tail=True)
    for slab in reversed(discard):
        await discard_slab(ctx, s, slab)


# -- free -------------------------------------------------------------------------------------------------------------


@kernel_fn("kmem_cache_free", "mm/slub.c", profiles="..5.4-fixed")
async def kmem_cache_free(ctx: Context, s: KmemCache, obj: SlabObject) -> None:
    """Free *obj*, in any context, on any CPU (4.5): to this CPU's freelist if *obj* is from its cpu slab."""
    s = await cache_from_obj(ctx, s, obj)
    await free_detached(ctx, s, obj, ())


@kernel_fn("kmem_cache_free", "mm/slub.c", profiles="6.12")
async def kmem_cache_free_6_12(ctx: Context, s: KmemCache, obj: SlabObject) -> None:
    """Uncharge *obj*, then free it, in any context, on any CPU. KERNEL-today 16.7."""
    s = cache_from_obj_6_12(ctx, s, obj)
    await memcg_slab_free_hook(ctx, s, (obj,))
    await free_detached(ctx, s, obj, ())


@kernel_fn("cache_from_obj", "mm/slub.c", profiles="6.12")
def cache_from_obj_6_12(ctx: Context, s: KmemCache, obj: SlabObject) -> KmemCache:
    """The cache of *obj*'s slab, which should be *s* (CONFIG_SLAB_FREELIST_HARDENED). KERNEL-today 21."""
    mark_freed(ctx, obj)
    cachep = obj.slab.slab_cache
    WARN_ON(ctx, cachep is not s, "cache_from_obj: Wrong slab cache")
    return cachep


@kernel_fn("memcg_alloc_abort_single", "mm/slub.c", profiles="6.12")
async def memcg_alloc_abort_single(ctx: Context, s: KmemCache, obj: SlabObject) -> None:
    """Free an object that could not be charged. KERNEL-today 7.2."""
    mark_freed(ctx, obj)
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


@kernel_fn("__slab_free", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("__slab_free", "mm/slub.c", profiles="6.12")
async def __slab_free_6_12(ctx: Context, s: KmemCache, obj: SlabObject, rest: tuple[int, ...] = ()) -> None:
    """Push *obj* and *rest* onto their slab's freelist. A full slab becomes this CPU's partial, an empty one may go.

    KERNEL-today 16.7. Only list_lock tells whether an empty slab is on the node's list. If it is not, then its CPU, or
    the task that just unfreezes it, will link it or discard it.
    """
    slab = obj.slab
    n = s.node[slab.nid]
    while True:
        old = await ctx.ask(slab.read_counters)
        new = SlabCounters(joined(obj.at, rest, old.freelist), old.inuse - 1 - len(rest), old.frozen)
        takes_lock = not new.inuse and not old.frozen and old.freelist is not None
        if takes_lock:
            flags = await spin_lock_irqsave(ctx, n.list_lock)
        if await ctx.ask(slab.cmpxchg_double, old, new):
            break
        if takes_lock:
            await spin_unlock_irqrestore(ctx, n.list_lock, flags)
    if takes_lock:
        is_surplus = n.has_partial(slab) and await is_enough(ctx, s, n)
        if is_surplus:
            await ctx.ask(n.remove_partial, slab)
        await spin_unlock_irqrestore(ctx, n.list_lock, flags)
        if is_surplus:
            await discard_slab(ctx, s, slab)
    elif old.freelist is None and not old.frozen:
        await put_cpu_partial_6_12(ctx, s, slab, drain=True)


# -- flush, shrink, shutdown (4.6) ------------------------------------------------------------------------------------


@kernel_fn("flush_slab", "mm/slub.c", profiles="..5.4-fixed")
async def flush_slab(ctx: Context, s: KmemCache, c: KmemCacheCpu) -> None:
    await deactivate_slab(ctx, s, c, deref(c.page, "flush_slab(): c->page"), c.freelist)
    c.tid = next_tid(ctx, c.tid)


@kernel_fn("flush_cpu_slab", "mm/slub.c", profiles="..5.4-fixed")
async def flush_cpu_slab(ctx: Context, s: KmemCache) -> None:
    """Unfreeze this CPU's cpu slab and partial slabs; in a hard IRQ, or with IRQs off."""
    c = this_cpu_slab(ctx, s)
    if c.page is not None:
        await flush_slab(ctx, s, c)
    await unfreeze_partials(ctx, s, c)


@kernel_fn("flush_slab", "mm/slub.c", profiles="6.12")
async def flush_slab_6_12(ctx: Context, s: KmemCache, c: KmemCacheCpu) -> None:
    """Take this CPU's slab away from it and deactivate it. KERNEL-today 16.5."""
    with ctx.irq_section:
        await ctx.this_cpu(c, LOCAL_LOCK)
        ctx.use(c)
        slab, freelist = take_cpu_slab(ctx, c)
    if slab is not None:
        await deactivate_slab_6_12(ctx, s, slab, freelist)


def take_cpu_slab(ctx: Context, c: KmemCacheCpu) -> tuple[Slab | None, Chain]:
    """Leave the CPU without a slab; return the slab and its freelist. The local lock is held."""
    slab, freelist = c.page, c.freelist
    c.page = c.freelist = None
    c.tid = next_tid(ctx, c.tid)
    return slab, freelist


@kernel_fn("flush_cpu_slab", "mm/slub.c", profiles="6.12")
async def flush_cpu_slab_6_12(ctx: Context, work: Work) -> None:
    """Deactivate this CPU's slab and put its partial slabs onto their nodes' lists. KERNEL-today 16.5."""
    sfw = work.container
    assert isinstance(sfw, SlubFlushWork)
    s = deref(sfw.s, "flush_cpu_slab(): sfw->s")
    c = this_cpu_slab(ctx, s)
    if c.page is not None:  # may be stale: flush_slab() looks again, under the lock
        await flush_slab_6_12(ctx, s, c)
    await put_partials(ctx, s, c)


@kernel_fn("flush_all", "mm/slub.c", profiles="..5.4-fixed")
async def flush_all(ctx: Context, s: KmemCache) -> None:
    """Send an IPI to every CPU that has slabs of this cache, to unfreeze them; wait for all."""

    async def handler(ctx: Context) -> None:
        await flush_cpu_slab(ctx, s)

    with ctx.preempt_section:
        cpus = [cpu for cpu, c in enumerate(s.cpu_slab) if await ctx.ask(c.has_cpu_slab)]
        if cpus:
            await on_each_cpu_mask(ctx, cpus, handler)


@kernel_fn("flush_all", "mm/slub.c", profiles="6.12..")
async def flush_all_6_12(ctx: Context, s: KmemCache) -> None:
    """Let every CPU that has slabs of this cache give them up, and wait. KERNEL-today 16.5."""
    get_online_cpus(ctx)
    await flush_all_cpus_locked(ctx, s)
    put_online_cpus(ctx)


@kernel_fn("flush_all_cpus_locked", "mm/slub.c", profiles="6.12")
async def flush_all_cpus_locked(ctx: Context, s: KmemCache) -> None:
    """Queue a work on every CPU that has slabs of this cache, and wait for all. CPU hotplug is locked out."""
    machine = ctx.machine
    async with MutexHeld(ctx, machine.flush_lock):
        works = []
        for c, sfw in zip(s.cpu_slab, machine.slub_flush, strict=True):
            if not await ctx.ask(c.has_cpu_slab):  # may be stale from here on
                continue
            sfw.s = s
            sfw.work.init_work(flush_cpu_slab_6_12)
            await queue_work_on(ctx, c.cpu, machine.slub_flushwq, sfw.work)
            works.append(sfw.work)
        for work in works:
            await flush_work(ctx, work)


@kernel_fn("__kmem_cache_shrink", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("__kmem_cache_shrink", "mm/slub.c", profiles="6.12")
async def __kmem_cache_shrink_6_12(ctx: Context, s: KmemCache) -> bool:
    """Discard all empty slabs and sort the others, fullest first; True if any slab remains. KERNEL-today 16.8."""
    await flush_all_6_12(ctx, s)
    return await __kmem_cache_do_shrink(ctx, s)


@kernel_fn("__kmem_cache_do_shrink", "mm/slub.c", profiles="6.12..")
async def __kmem_cache_do_shrink(ctx: Context, s: KmemCache) -> bool:
    """Discard the empty slabs of each node's list; they cease to count under list_lock. KERNEL-today 16.8."""
    remain = False
    for n in s.node:
        discard = []
        async with SpinLockIrqHeld(ctx, n.list_lock):
            keep: list[tuple[int, Slab]] = []
            for slab in await ctx.ask(n.list_partial):
                free = slab.objects - (await ctx.ask(slab.read_counters)).inuse
                BUG_ON(ctx, free <= 0, "__kmem_cache_do_shrink: free <= 0")
                if free == slab.objects:
                    await ctx.ask(n.remove_partial, slab)
                    await ctx.ask(n.add_nr_slabs, -1, -slab.objects)
                    discard.append(slab)
                else:
                    keep.append((free, slab))
            await ctx.ask(n.sort_partial, promote(keep))
        for slab in discard:
            await free_slab(ctx, s, slab)
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


@kernel_fn("__kmem_cache_shutdown", "mm/slub.c", profiles="..5.4-fixed")
async def __kmem_cache_shutdown(ctx: Context, s: KmemCache) -> bool:
    """Free all slabs; True (failure) if objects remain."""
    await flush_all(ctx, s)
    for n in s.node:
        await free_partial(ctx, s, n)
        if await ctx.ask(n.read_nr_partial) or await ctx.ask(n.read_nr_slabs):
            return True
    await sysfs_slab_remove(ctx, s)
    return False


@kernel_fn("__kmem_cache_shutdown", "mm/slub.c", profiles="6.12")
async def __kmem_cache_shutdown_6_12(ctx: Context, s: KmemCache) -> bool:
    """Free all slabs; True (failure) if objects remain. CPU hotplug is locked out. KERNEL-today 16.8."""
    await flush_all_cpus_locked(ctx, s)
    for n in s.node:
        await free_partial(ctx, s, n)
        if await ctx.ask(n.read_nr_partial) or await ctx.ask(n.read_nr_slabs):
            return True
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


@kernel_fn("kmem_cache_alloc", "mm/slub.c", profiles="..5.4-fixed")
async def kmem_cache_alloc(ctx: Context, s: KmemCache, gfp: Gfp = GFP_KERNEL) -> SlabObject | None:
    """Allocate an object of *s* or of its child for the current memcg; None is -ENOMEM."""
    s = await slab_pre_alloc_hook(ctx, s, gfp)
    obj = await slab_alloc_node(ctx, s, gfp)
    await slab_post_alloc_hook(ctx, s)
    return obj


@kernel_fn("slab_alloc_node", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("kmem_cache_alloc", "mm/slub.c", profiles="6.12")
async def kmem_cache_alloc_6_12(ctx: Context, s: KmemCache, gfp: Gfp = GFP_KERNEL) -> SlabObject | None:
    """Allocate an object of *s* and charge it if it is accounted; None is -ENOMEM. KERNEL-today 7.1."""
    return await slab_alloc_node_6_12(ctx, s, None, gfp)


@kernel_fn("kmem_cache_alloc_lru", "mm/slub.c", profiles="6.12")
async def kmem_cache_alloc_lru(ctx: Context, s: KmemCache, lru: ListLru, gfp: Gfp = GFP_KERNEL) -> SlabObject | None:
    """Allocate an object that will be on *lru*, whose lists for the object's memcg are made first. KERNEL-today 7.2."""
    return await slab_alloc_node_6_12(ctx, s, lru, gfp)


@kernel_fn("slab_alloc_node", "mm/slub.c", profiles="6.12")
async def slab_alloc_node_6_12(ctx: Context, s: KmemCache, lru: ListLru | None, gfp: Gfp) -> SlabObject | None:
    """Take an object, from this CPU's freelist if it does not change meanwhile, and then charge it. KERNEL-today 16.3.

    An object that cannot be charged is freed again.
    """
    if gfpflags_allow_blocking(gfp):
        ctx.might_sleep("slab_pre_alloc_hook")
    obj: SlabObject | None
    while True:
        c = this_cpu_slab(ctx, s)
        tid, freelist, slab = c.tid, c.freelist, c.page  # may be stale from here on
        if freelist is None or slab is None:
            obj = await __slab_alloc_6_12(ctx, s, gfp)
            break
        await ctx.this_cpu(c, CMPXCHG_FREELIST)
        c = this_cpu_slab(ctx, s)
        if c.tid == tid and c.freelist is freelist:
            at, c.freelist = freelist
            c.tid = next_tid(ctx, tid)
            obj = mark_allocated(SlabObject(slab, at))
            break
    if obj is None or await memcg_slab_post_alloc_hook(ctx, s, lru, gfp, (obj,)):
        return obj
    await memcg_alloc_abort_single(ctx, s, obj)
    return None


@kernel_fn("__slab_alloc", "mm/slub.c", profiles="..5.4-fixed")
async def __slab_alloc(ctx: Context, s: KmemCache, gfp: Gfp) -> SlabObject | None:
    """S1: the slow path, with IRQs off."""
    with ctx.irq_section:
        await ctx.this_cpu(s, THIS_CPU_SLAB)
        return await ___slab_alloc(ctx, s, gfp)


@kernel_fn("__slab_alloc", "mm/slub.c", profiles="6.12")
async def __slab_alloc_6_12(ctx: Context, s: KmemCache, gfp: Gfp) -> SlabObject | None:
    """The slow path, with preemption off; IRQs are off in its short sections only. KERNEL-today 16.4."""
    with ctx.preempt_section:
        await ctx.this_cpu(s, THIS_CPU_SLAB)
        return await ___slab_alloc_6_12(ctx, s, gfp)


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


@kernel_fn("___slab_alloc", "mm/slub.c", profiles="6.12")
async def ___slab_alloc_6_12(ctx: Context, s: KmemCache, gfp: Gfp) -> SlabObject | None:
    """Find a slab with free objects, the nearest first; the caller has preemption off. KERNEL-today 16.4.

    Interrupts may change this CPU's slabs before each section with the local lock, so each section looks at them again.
    Nothing here asks for a slab of a certain node.
    """
    c = this_cpu_slab(ctx, s)
    while c.page is not None or c.partial:
        obj = await (alloc_from_cpu_partial(ctx, c) if c.page is None else alloc_from_cpu_slab(ctx, c, c.page))
        if obj is not None:
            return obj
    slab = await get_partial_6_12(ctx, s)
    if slab is not None:
        return await load_slab(ctx, s, slab, await freeze_slab(ctx, slab))
    with Section(ctx.preempt_enable, ctx.preempt_disable):
        slab = await new_slab_6_12(ctx, s, gfp)
    if slab is None:
        return None
    freelist, slab.freelist = slab.freelist, None
    await ctx.ask(s.node[slab.nid].add_nr_slabs, 1, slab.objects)
    return await load_slab(ctx, s, slab, freelist)


async def alloc_from_cpu_slab(ctx: Context, c: KmemCacheCpu, slab: Slab) -> SlabObject | None:
    """Steps 3 to 5: from this CPU's *slab*. None if that is full and so leaves the CPU, or if it is not there any more.

    KERNEL-today 16.4.
    """
    with ctx.irq_section:
        await ctx.this_cpu(c, LOCAL_LOCK)
        ctx.use(c)
        if c.page is not slab:
            return None
        freelist = c.freelist or await get_freelist_6_12(ctx, slab)
        if freelist is not None:
            return load_freelist(ctx, c, freelist, "slab")
        c.page = None
        c.tid = next_tid(ctx, c.tid)
        return None


async def alloc_from_cpu_partial(ctx: Context, c: KmemCacheCpu) -> SlabObject | None:
    """Step 7: freeze the first of this CPU's partial slabs, as its slab; None if it is too late. KERNEL-today 16.4."""
    with ctx.irq_section:
        await ctx.this_cpu(c, LOCAL_LOCK)
        ctx.use(c)
        if c.page is not None or not c.partial:
            return None
        c.page = c.partial.pop()
        freelist = await get_freelist_6_12(ctx, c.page)
        if freelist is None:
            bug(ctx, "___slab_alloc: VM_BUG_ON(!freelist)")
        return load_freelist(ctx, c, freelist, "slab")


async def load_slab(ctx: Context, s: KmemCache, slab: Slab, freelist: Chain) -> SlabObject:
    """Step 10: make *slab* this CPU's slab. Another one, which came meanwhile, is deactivated. KERNEL-today 16.4."""
    c = this_cpu_slab(ctx, s)
    while True:
        with ctx.irq_section:
            await ctx.this_cpu(c, LOCAL_LOCK)
            ctx.use(c)
            if c.page is None:
                c.page = slab
                return load_freelist(ctx, c, deref(freelist, "___slab_alloc(): freelist"), "slab")
            other, unused = take_cpu_slab(ctx, c)
        await deactivate_slab_6_12(ctx, s, deref(other, "___slab_alloc(): flush_slab"), unused)


def load_freelist(ctx: Context, c: KmemCacheCpu, freelist: tuple[int, Chain], field: str = "page") -> SlabObject:
    """Return the first object of *freelist*; the rest becomes this CPU's freelist. *field* is C's name of `c.page`."""
    slab = deref(c.page, f"___slab_alloc(): c->{field}")
    BUG_ON(ctx, not slab.frozen, f"___slab_alloc: VM_BUG_ON(!c->{field}->frozen)")
    at, c.freelist = freelist
    c.tid = next_tid(ctx, c.tid)
    return mark_allocated(SlabObject(slab, at))


@kernel_fn("get_freelist", "mm/slub.c", profiles="..5.4-fixed")
async def get_freelist(ctx: Context, slab: Slab) -> Chain:
    """S4: take all free objects of this CPU's slab; a slab without any is full, and leaves the CPU."""
    while True:
        old = await ctx.ask(slab.read_counters)
        BUG_ON(ctx, not old.frozen, "get_freelist: VM_BUG_ON(!new.frozen)")
        new = SlabCounters(None, slab.objects, old.freelist is not None)
        if await ctx.ask(slab.cmpxchg_double, old, new):
            return old.freelist


@kernel_fn("get_freelist", "mm/slub.c", profiles="6.12")
async def get_freelist_6_12(ctx: Context, slab: Slab) -> Chain:
    """Take all free objects of this CPU's slab. It is frozen then; without any, it is full and unfrozen.

    KERNEL-today 16.4. A slab that comes from the CPU's partial list is not frozen yet.
    """
    while True:
        old = await ctx.ask(slab.read_counters)
        new = SlabCounters(None, slab.objects, old.freelist is not None)
        if await ctx.ask(slab.cmpxchg_double, old, new):
            return old.freelist


@kernel_fn("freeze_slab", "mm/slub.c", profiles="6.12")
async def freeze_slab(ctx: Context, slab: Slab) -> Chain:
    """Freeze a slab from a node's list and take all its free objects. KERNEL-today 16.4 (8)."""
    while True:
        old = await ctx.ask(slab.read_counters)
        BUG_ON(ctx, old.frozen, "freeze_slab: VM_BUG_ON(old.frozen)")
        if await ctx.ask(slab.cmpxchg_double, old, SlabCounters(None, slab.objects, frozen=True)):
            return old.freelist


@kernel_fn("new_slab_objects", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("get_partial", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("get_partial_node", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("get_partial", "mm/slub.c", profiles="6.12")
async def get_partial_6_12(ctx: Context, s: KmemCache) -> Slab | None:
    """A slab from this CPU's node; sometimes from another with more than min_partial. KERNEL-today 16.4 (8)."""
    slab = await get_partial_node_6_12(ctx, s, s.node[ctx.numa_node])
    if slab is not None or len(s.node) == 1 or not await ctx.choose(2):
        return slab
    for n in s.node:
        if n.nid != ctx.numa_node and await ctx.ask(n.read_nr_partial) > s.min_partial.value:
            slab = await get_partial_node_6_12(ctx, s, n)
            if slab is not None:
                return slab
    return None


@kernel_fn("get_partial_node", "mm/slub.c", profiles="6.12")
async def get_partial_node_6_12(ctx: Context, s: KmemCache, n: KmemCacheNode) -> Slab | None:
    """Take slabs off the node's list: return the first, put some more onto this CPU's list. KERNEL-today 16.4 (8)."""
    if not await ctx.ask(n.read_nr_partial):
        return None
    found: Slab | None = None
    moved = 0
    async with SpinLockIrqHeld(ctx, n.list_lock):
        for slab in await ctx.ask(n.list_partial):
            await ctx.ask(n.remove_partial, slab)
            if found is None:
                found = slab
                if not slub_get_cpu_partial(s):
                    break
            else:
                await put_cpu_partial_6_12(ctx, s, slab, drain=False)
                moved += 1
                if moved > slub_get_cpu_partial(s) // 2:
                    break
    return found


@kernel_fn("acquire_slab", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("new_slab", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("new_slab", "mm/slub.c", profiles="6.12..")
async def new_slab_6_12(ctx: Context, s: KmemCache, gfp: Gfp) -> Slab | None:
    """Allocate a slab. The caller may sleep and migrate meanwhile, if *gfp* allows it. KERNEL-today 16.4 (9)."""
    WARN_ON(ctx, s.has_ctor and Gfp.ZERO in gfp, "new_slab: s->ctor && (flags & __GFP_ZERO)")
    return await allocate_slab_6_12(ctx, s, gfp)


@kernel_fn("allocate_slab", "mm/slub.c", profiles="..5.4-fixed")
async def allocate_slab(ctx: Context, s: KmemCache, gfp: Gfp) -> Slab | None:
    """Try the preferred order without reclaim; on failure the smallest order that fits an object."""
    return await alloc_some_order(ctx, s, gfp)


@kernel_fn("allocate_slab", "mm/slub.c", profiles="6.12..")
async def allocate_slab_6_12(ctx: Context, s: KmemCache, gfp: Gfp) -> Slab | None:
    """Try the preferred order without reclaim, then the smallest one; count the pages. KERNEL-today 16.6.

    A slab of a cache that accounts all its objects gets the vector of their obj_cgroups now.
    """
    slab = await alloc_some_order(ctx, s, gfp)
    if slab is None:
        return None
    s.slabs[slab] = None
    await account_slab(ctx, slab, s)
    return slab


@kernel_fn("account_slab", "mm/slub.c", profiles="6.12..")
async def account_slab(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """Make the vector if every object will be charged; count the pages, which are charged to nobody.

    KERNEL-today 16.6, 7.4.
    """
    if SlabFlags.ACCOUNT in s.flags and await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        await alloc_slab_obj_exts(ctx, slab, new_slab=True)
    await mod_node_page_state(ctx, slab.nid, s.stat_item, slab.pages)


async def alloc_some_order(ctx: Context, s: KmemCache, gfp: Gfp) -> Slab | None:
    """The two attempts of allocate_slab()."""
    is_higher = s.order > s.min_order
    first = gfp & ~(Gfp.DIRECT_RECLAIM | Gfp.NOFAIL) if is_higher else gfp
    slab = await alloc_slab_page(ctx, s, first, s.order, s.objects)
    if slab is None:
        slab = await alloc_slab_page(ctx, s, gfp, s.min_order, s.min_objects)
    return slab


@kernel_fn("alloc_slab_page", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("alloc_slab_page", "mm/slub.c", profiles="6.12..")
async def alloc_slab_page_6_12(ctx: Context, s: KmemCache, gfp: Gfp, order: int, objects: int) -> Slab | None:
    """Allocate pages of this node as a slab. KERNEL-today 16.6.

    A caller that slept in the allocation may be on another node by now.
    """
    nid = ctx.numa_node
    if not await alloc_pages(ctx, gfp, 1 << order):
        return None
    return make_slab(ctx, s, order, objects, nid)


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


@kernel_fn("kmem_cache_alloc_bulk", "mm/slub.c", profiles="6.12")
async def kmem_cache_alloc_bulk_6_12(ctx: Context, s: KmemCache, size: int, gfp: Gfp = GFP_KERNEL) -> list[SlabObject]:
    """Allocate *size* objects, then charge them all; an empty list is -ENOMEM. KERNEL-today 7.2.

    If not all can be charged, all are freed, and those already charged are uncharged.
    """
    if gfpflags_allow_blocking(gfp):
        ctx.might_sleep("slab_pre_alloc_hook")
    if not size:
        return []
    objects = await alloc_objects(ctx, s, size, gfp)
    if not objects or await memcg_slab_post_alloc_hook(ctx, s, None, gfp, objects):
        return objects
    await kmem_cache_free_bulk_6_12(ctx, s, objects)
    return []


async def alloc_objects(ctx: Context, s: KmemCache, size: int, gfp: Gfp) -> list[SlabObject]:
    """6.12's __kmem_cache_alloc_bulk(): take *size* objects, or none.

    The slow path has sections of its own, in which interrupts may use the freelist: the tid steps before it.
    """
    objects: list[SlabObject] = []
    with ctx.preempt_section:
        while len(objects) < size:
            with ctx.irq_section:
                await ctx.this_cpu(s, THIS_CPU_FREELIST)
                while len(objects) < size and (obj := pop_freelist(ctx, s)) is not None:
                    objects.append(obj)
                c = this_cpu_slab(ctx, s)
                c.tid = next_tid(ctx, c.tid)
            if len(objects) == size:
                return objects
            obj = await ___slab_alloc_6_12(ctx, s, gfp)
            if obj is None:
                break
            objects.append(obj)
        else:
            return objects
    while objects:  # 6.12's __kmem_cache_free_bulk(): they are not charged yet
        df = await build_detached_freelist_6_12(ctx, s, objects)
        await free_detached(ctx, df.s, df.head, df.rest)
    return []


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


@kernel_fn("kmem_cache_free_bulk", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("build_detached_freelist", "mm/slub.c", profiles="..5.4-fixed")
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


@kernel_fn("kmem_cache_free_bulk", "mm/slub.c", profiles="6.12")
async def kmem_cache_free_bulk_6_12(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> None:
    """Uncharge and free *objects*; objects of one slab that are close together in the list at once.

    KERNEL-today 7.3, 16.7.
    """
    p = list(objects)
    while p:
        df = await build_detached_freelist_6_12(ctx, s, p)
        taken = (df.head, *(SlabObject(df.head.slab, at) for at in df.rest))
        await memcg_slab_free_hook(ctx, df.s, taken)
        await free_detached(ctx, df.s, df.head, df.rest)


@kernel_fn("build_detached_freelist", "mm/slub.c", profiles="6.12")
async def build_detached_freelist_6_12(ctx: Context, s: KmemCache, p: list[SlabObject]) -> DetachedFreelist:
    """Take the last object of *p* and others of its slab off the list *p*.

    The search skips two objects of other slabs and ends at the third. Skipped objects move towards the end.
    """
    last = p[-1]
    df_s = cache_from_obj_6_12(ctx, s, last)
    taken = [last]
    size = same = len(p) - 1
    lookahead = LOOKAHEAD
    while size and lookahead:
        size -= 1
        obj = p[size]
        if obj.slab is last.slab:
            mark_freed(ctx, obj)
            taken.insert(0, obj)
            same -= 1
            p[size], p[same] = p[same], p[size]
        else:
            lookahead -= 1
    del p[same:]
    return DetachedFreelist(df_s, taken[0], tuple(obj.at for obj in taken[1:]))
