"""SLAB, the other allocator: arrays of free objects, slab lists, shrink, cache_reap(). mm/slab.c @5.3.1; KERNEL.md 4.7.

Each CPU has an array of free objects for each cache. It is filled from, and flushed to, the node's shared array or the
node's lists of partial, full and free slabs, under list_lock. Objects of another node go to an alien array first. So a
free alone never frees pages. A slab is freed only from the free list: when that is too long, when the cache is shrunk,
or when cache_reap() runs.

A section under list_lock is one access here: no other execution context sees its intermediate states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from actors.linux.include.slab import SlabFlags, kmalloc
from actors.linux.kernel.locking.locks import SpinLockHeld, SpinLockIrqHeld, mutex_trylock, mutex_unlock
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.linux.kernel.smp import on_each_cpu_mask
from actors.linux.kernel.workqueue import Work, delayed_work_timer, queue_delayed_work_on
from actors.linux.mm.kmem_cache import KmemCache, Slab, SlabObject
from actors.linux.mm.new_cache import make_slab
from actors.linux.mm.page_alloc import __free_pages, alloc_pages
from actors.linux.mm.slab_common import all_or_none, find_mergeable
from actors.linux.mm.slab_def import (
    ALIEN_LIMIT,
    BATCHREFILL_LIMIT,
    REAPTIMEOUT_NODE,
    THIS_CPU_ARRAY,
    AlienCache,
    ArrayCache,
    SlabNode,
    alloc_block,
)
from actors.linux.mm.slab_h import (
    cache_from_obj,
    charge_slab_page,
    forget_slab,
    mark_allocated,
    slab_post_alloc_hook,
    slab_pre_alloc_hook,
    uncharge_slab_page,
)
from actors.machine.context import BUG_ON, WARN_ON, Context
from actors.machine.errno import ENOMEM
from actors.machine.gfp import GFP_KERNEL, Gfp, gfpflags_allow_blocking
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import UPDATE

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from protocol.formats.slabinfo import SlabinfoRow

SECOND = 1_000_000_000  # ns
SPREAD = 12_000_000  # ns
REAPTIMEOUT_AC = 2 * SECOND


# -- the array of this CPU --------------------------------------------------------------------------------------------


def cpu_cache_get(ctx: Context, cachep: KmemCache) -> ArrayCache:
    """The array of the current CPU."""
    if cachep.freed is not None:
        ctx.world.raise_use_after_free(cachep)
    array = cachep.cpu_cache[ctx.smp_processor_id]
    ctx.use(array)
    return array


# -- parts of a cache -------------------------------------------------------------------------------------------------


@kernel_fn("__kmem_cache_create", "mm/slab.c")
async def __kmem_cache_create(ctx: Context, s: KmemCache) -> int:
    """setup_cpu_cache(): make the arrays and nodes; 0, or -ENOMEM and none of them. SLAB has no sysfs directory."""
    if not kmalloc(ctx, GFP_KERNEL, "cache_parts"):
        __kmem_cache_release(ctx, s)
        return -ENOMEM
    return 0


@kernel_fn("__kmem_cache_release", "mm/slab.c")
def __kmem_cache_release(ctx: Context, s: KmemCache) -> None:
    """Free the arrays and nodes; here they are freed with the struct."""


@kernel_fn("__kmem_cache_alias", "mm/slab.c")
async def __kmem_cache_alias(ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool) -> KmemCache | None:
    """Find an existing root cache to share and count one more user of it; None if there is none."""
    s = await find_mergeable(ctx, row, flags, has_ctor=has_ctor)
    if s is not None:
        await ctx.ask(s.add_refcount, 1)
        s.object_size = max(s.object_size, row.objsize)
    return s


# -- alloc ------------------------------------------------------------------------------------------------------------


@kernel_fn("kmem_cache_alloc", "mm/slab.c")
async def kmem_cache_alloc(ctx: Context, s: KmemCache, gfp: Gfp = GFP_KERNEL) -> SlabObject | None:
    """Allocate an object of *s* or of its child for the current memcg; None is -ENOMEM."""
    s = await slab_pre_alloc_hook(ctx, s, gfp)
    with ctx.irq_section:
        obj = await ____cache_alloc(ctx, s, gfp)
    await slab_post_alloc_hook(ctx, s)
    return None if obj is None else mark_allocated(obj)


@kernel_fn("____cache_alloc", "mm/slab.c")
async def ____cache_alloc(ctx: Context, cachep: KmemCache, gfp: Gfp) -> SlabObject | None:
    """Take the last object of this CPU's array; IRQs are off."""
    await ctx.this_cpu(cachep, THIS_CPU_ARRAY)
    ac = cpu_cache_get(ctx, cachep)
    if ac.entries:
        ac.touched = True
        return ac.pop()
    return await cache_alloc_refill(ctx, cachep, gfp)


@kernel_fn("cache_alloc_refill", "mm/slab.c")
async def cache_alloc_refill(ctx: Context, cachep: KmemCache, gfp: Gfp) -> SlabObject | None:
    """Refill the array from the node, or from a new slab; IRQs may be enabled in between."""
    ac = cpu_cache_get(ctx, cachep)
    batchcount = ac.batchcount if ac.touched else min(ac.batchcount, BATCHREFILL_LIMIT)
    BUG_ON(ctx, ac.entries, "cache_alloc_refill: ac->avail > 0")
    n = cachep.slab_node[ctx.numa_node]
    if await ctx.ask(n.has_free_objects):
        async with SpinLockHeld(ctx, n.list_lock):
            await ctx.ask(n.refill, ac, batchcount)
    if not ac.entries:
        slab = await cache_grow_begin(ctx, cachep, gfp)
        await ctx.this_cpu(cachep, THIS_CPU_ARRAY)  # the task may have migrated, or the array changed
        ac = cpu_cache_get(ctx, cachep)
        if slab is not None:
            if not ac.entries:
                alloc_block(ac, slab, batchcount)
            await cache_grow_end(ctx, cachep, slab)
        if not ac.entries:
            return None
    ac.touched = True
    return ac.pop()


@kernel_fn("cache_grow_begin", "mm/slab.c")
async def cache_grow_begin(ctx: Context, cachep: KmemCache, gfp: Gfp) -> Slab | None:
    """Make a slab, on no list yet. If the caller may sleep, IRQs are on meanwhile, and the task may migrate."""
    WARN_ON(ctx, cachep.has_ctor and Gfp.ZERO in gfp, "cache_grow_begin: cachep->ctor && (flags & __GFP_ZERO)")
    may_sleep = gfpflags_allow_blocking(gfp)
    if may_sleep:
        ctx.local_irq_enable()
    slab = await kmem_getpages(ctx, cachep, gfp)
    if may_sleep:
        ctx.local_irq_disable()
    return slab


@kernel_fn("cache_grow_end", "mm/slab.c")
async def cache_grow_end(ctx: Context, cachep: KmemCache, slab: Slab) -> None:
    n = cachep.slab_node[slab.nid]
    async with SpinLockHeld(ctx, n.list_lock):
        await ctx.ask(n.add_slab, slab)


@kernel_fn("kmem_getpages", "mm/slab.c")
async def kmem_getpages(ctx: Context, cachep: KmemCache, gfp: Gfp) -> Slab | None:
    """Allocate pages of this node and charge them. They become a slab if the charge succeeds, else they are freed.

    A caller that slept in the allocation may be on another node by now.
    """
    nid = ctx.numa_node
    if not await alloc_pages(ctx, gfp, 1 << cachep.order):
        return None
    slab = make_slab(ctx, cachep, cachep.order, cachep.objects, nid)
    slab.inuse, slab.frozen = 0, False
    if not await charge_slab_page(ctx, slab, gfp, cachep):
        await __free_pages(ctx, slab.pages)
        return None
    cachep.slabs[slab] = None
    return slab


# -- free -------------------------------------------------------------------------------------------------------------


@kernel_fn("kmem_cache_free", "mm/slab.c")
async def kmem_cache_free(ctx: Context, s: KmemCache, obj: SlabObject) -> None:
    """Free *obj*, in any context, on any CPU: to this CPU's array, or to the alien array of its node."""
    cachep = await cache_from_obj(ctx, s, obj)
    with ctx.irq_section:
        await ___cache_free(ctx, cachep, obj)


@kernel_fn("___cache_free", "mm/slab.c")
async def ___cache_free(ctx: Context, cachep: KmemCache, obj: SlabObject) -> None:
    if len(cachep.slab_node) > 1 and await cache_free_alien(ctx, cachep, obj):
        return
    await ctx.this_cpu(cachep, THIS_CPU_ARRAY)
    ac = cpu_cache_get(ctx, cachep)
    if len(ac.entries) >= ac.limit:
        await cache_flusharray(ctx, cachep, ac)
    ac.put(obj)


@kernel_fn("cache_flusharray", "mm/slab.c")
async def cache_flusharray(ctx: Context, cachep: KmemCache, ac: ArrayCache) -> None:
    """Make room in a full array: move a batch to the shared array, or back into the slabs."""
    n = cachep.slab_node[ctx.numa_node]
    surplus: list[Slab] = []
    async with SpinLockHeld(ctx, n.list_lock):
        if not await ctx.ask(n.take_shared, ac):
            surplus = await ctx.ask(n.free_block, ac.take_oldest(ac.batchcount))
    await slabs_destroy(ctx, cachep, surplus)


@kernel_fn("cache_free_alien", "mm/slab.c")
async def cache_free_alien(ctx: Context, cachep: KmemCache, obj: SlabObject) -> bool:
    """Put an object of another node into the alien array; False if it is of this node."""
    node, page_node = ctx.numa_node, obj.slab.nid
    if node == page_node:
        return False
    alien = cachep.slab_node[node].alien[page_node]
    surplus: list[Slab] = []
    async with SpinLockHeld(ctx, alien.lock):
        if await ctx.ask(alien.array.read_avail) == alien.array.limit:
            surplus = await __drain_alien_cache(ctx, cachep, alien)
        alien.array.put(obj)
    await slabs_destroy(ctx, cachep, surplus)
    return True


@kernel_fn("__drain_alien_cache", "mm/slab.c")
async def __drain_alien_cache(ctx: Context, cachep: KmemCache, alien: AlienCache) -> list[Slab]:
    """Return objects to their node: to the shared array there, the rest to their slabs."""
    n = cachep.slab_node[alien.nid]
    if not alien.array.entries:
        return []
    async with SpinLockHeld(ctx, n.list_lock):
        room = n.shared.limit - len(n.shared.entries) if n.shared is not None else 0
        if n.shared is not None:
            n.shared.put(*alien.array.take_oldest(room))
        return await ctx.ask(n.free_block, alien.array.take_oldest(ALIEN_LIMIT))


@kernel_fn("slabs_destroy", "mm/slab.c")
async def slabs_destroy(ctx: Context, cachep: KmemCache, slabs: list[Slab]) -> None:
    for slab in slabs:
        await slab_destroy(ctx, cachep, slab)


@kernel_fn("slab_destroy", "mm/slab.c")
async def slab_destroy(ctx: Context, cachep: KmemCache, slab: Slab) -> None:
    """Free an empty slab; after a grace period if the cache is SLAB_TYPESAFE_BY_RCU."""
    if SlabFlags.TYPESAFE_BY_RCU in cachep.flags:
        await call_rcu(ctx, slab.rcu_head, kmem_rcu_free)
    else:
        await kmem_freepages(ctx, cachep, slab)


@kernel_fn("kmem_rcu_free", "mm/slab.c")
async def kmem_rcu_free(ctx: Context, head: RcuHead) -> None:
    """RCU callback: free the slab."""
    slab = head.container
    assert isinstance(slab, Slab)
    await kmem_freepages(ctx, slab.slab_cache, slab)


@kernel_fn("kmem_freepages", "mm/slab.c")
async def kmem_freepages(ctx: Context, cachep: KmemCache, slab: Slab) -> None:
    """Uncharge the slab, then free its pages; the uncharge may drop the last reference to the cache."""
    if cachep.freed is not None:
        ctx.world.raise_use_after_free(cachep)
    BUG_ON(ctx, slab.freed is not None, "kmem_freepages: !PageSlab(page)")
    forget_slab(slab)
    pages = slab.pages
    await uncharge_slab_page(ctx, slab, cachep)
    ctx.kfree(slab)
    await __free_pages(ctx, pages)


# -- bulk allocation and free (KERNEL.md 4) ---------------------------------------------------------------------------


@kernel_fn("kmem_cache_alloc_bulk", "mm/slab.c")
async def kmem_cache_alloc_bulk_slab(ctx: Context, s: KmemCache, size: int, gfp: Gfp = GFP_KERNEL) -> list[SlabObject]:
    """Allocate *size* objects with IRQs off, except while a new slab is allocated; an empty list is -ENOMEM."""
    s = await slab_pre_alloc_hook(ctx, s, gfp)
    objects: list[SlabObject] = []
    with ctx.irq_section:
        while len(objects) < size:
            obj = await ____cache_alloc(ctx, s, gfp)
            if obj is None:
                break
            objects.append(mark_allocated(obj))
    return await all_or_none(ctx, s, objects, size)


@kernel_fn("kmem_cache_free_bulk", "mm/slab.c")
async def kmem_cache_free_bulk_slab(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> None:
    """Free *objects* in one section with IRQs off."""
    with ctx.irq_section:
        for obj in objects:
            await ___cache_free(ctx, await cache_from_obj(ctx, s, obj), obj)


# -- drain, shrink, shutdown ------------------------------------------------------------------------------------------


@kernel_fn("do_drain", "mm/slab.c")
async def do_drain(ctx: Context, cachep: KmemCache) -> None:
    """Empty this CPU's array; in a hard IRQ, or with IRQs off."""
    ac = cpu_cache_get(ctx, cachep)
    n = cachep.slab_node[ctx.numa_node]
    async with SpinLockHeld(ctx, n.list_lock):
        surplus = await ctx.ask(n.free_block, ac.take_oldest(len(ac.entries)))
    await slabs_destroy(ctx, cachep, surplus)


@kernel_fn("drain_cpu_caches", "mm/slab.c")
async def drain_cpu_caches(ctx: Context, cachep: KmemCache) -> None:
    """Empty every CPU's array by IPI, then the alien and shared arrays of every node."""

    async def handler(ctx: Context) -> None:
        await do_drain(ctx, cachep)

    with ctx.preempt_section:
        await on_each_cpu_mask(ctx, range(len(ctx.machine.cpus)), handler)
    for n in cachep.slab_node:
        for alien in n.alien.values():
            async with SpinLockIrqHeld(ctx, alien.lock):
                surplus = await __drain_alien_cache(ctx, cachep, alien)
            await slabs_destroy(ctx, cachep, surplus)
    for n in cachep.slab_node:
        async with SpinLockIrqHeld(ctx, n.list_lock):
            surplus = await drain_array_locked(ctx, n, n.shared, free_all=True)
        await slabs_destroy(ctx, cachep, surplus)


@kernel_fn("drain_array_locked", "mm/slab.c")
async def drain_array_locked(ctx: Context, n: SlabNode, ac: ArrayCache | None, *, free_all: bool) -> list[Slab]:
    """Return objects of *ac* to their slabs: all, or a fifth of its limit, or half of the rest if that is less."""
    if ac is None or not ac.entries:
        return []
    avail = len(ac.entries)
    tofree = avail if free_all else (ac.limit + 4) // 5
    if tofree > avail:
        tofree = (avail + 1) // 2
    return await ctx.ask(n.free_block, ac.take_oldest(tofree))


@kernel_fn("drain_freelist", "mm/slab.c")
async def drain_freelist(ctx: Context, cachep: KmemCache, n: SlabNode, tofree: int | None) -> int:
    """Destroy up to *tofree* free slabs (None: all), one after the other; return their number."""
    freed = 0
    while tofree is None or freed < tofree:
        async with SpinLockIrqHeld(ctx, n.list_lock):
            slab = await ctx.ask(n.take_free_slab)
        if slab is None:
            break
        await slab_destroy(ctx, cachep, slab)
        freed += 1
    return freed


@kernel_fn("__kmem_cache_shrink", "mm/slab.c")
async def __kmem_cache_shrink(ctx: Context, s: KmemCache) -> bool:
    """Empty all arrays and destroy all free slabs; True if any slab remains."""
    await drain_cpu_caches(ctx, s)
    remain = False
    for n in s.slab_node:
        await drain_freelist(ctx, s, n, None)
        remain |= await ctx.ask(n.is_in_use)
    return remain


@kernel_fn("__kmem_cache_shutdown", "mm/slab.c")
async def __kmem_cache_shutdown(ctx: Context, s: KmemCache) -> bool:
    return await __kmem_cache_shrink(ctx, s)


@kernel_fn("__kmemcg_cache_deactivate", "mm/slab.c")
async def __kmemcg_cache_deactivate(ctx: Context, s: KmemCache) -> None:
    """Shrink at once; objects that are freed later stay in the arrays until cache_reap()."""
    await __kmem_cache_shrink(ctx, s)


@kernel_fn("__kmemcg_cache_deactivate_after_rcu", "mm/slab.c", profiles="v1..5.4-fixed,v4#2..")
async def __kmemcg_cache_deactivate_after_rcu(ctx: Context, s: KmemCache) -> None:
    """SLAB has nothing left to do after the grace period."""


# -- cache_reap() (KERNEL.md 4.8) -------------------------------------------------------------------------------------
# Every two seconds each CPU tries to take slab_mutex. If the trylock succeeds, the CPU walks all caches, children and
# deactivated ones included. Nothing else empties the arrays of a deactivated cache.


def start_cpu_timer(machine: Machine, cpu: int) -> None:
    """Start cache_reap() on *cpu*, at boot: the first run is a second later, plus a small offset for each CPU."""
    work = Work(machine.cpus[cpu].actor, machine.timer_bases[cpu])
    work.init_work(cache_reap)
    work.pending = True
    timer = delayed_work_timer(cpu, machine.system_wq, work)
    base = machine.timer_bases[cpu]
    base.add_timer(machine.world.now + SECOND + SPREAD * cpu, timer)
    base.reconsider()


@kernel_fn("cache_reap", "mm/slab.c")
async def cache_reap(ctx: Context, work: Work) -> None:
    """Walk all caches, unless slab_mutex is held; run again in two seconds while `is_reaping` is set.

    `is_reaping` cleared stands for an idle CPU, whose deferrable timer does not fire.
    """
    machine = ctx.machine
    if await mutex_trylock(ctx, machine.slab_mutex):
        started, walked = ctx.world.now, 0
        for cachep in await ctx.ask(machine.slab_caches.list):
            await reap_one(ctx, cachep)
            walked += 1
        machine.reaps.append((started, ctx.world.now, walked))
        await mutex_unlock(ctx, machine.slab_mutex)
    if machine.is_reaping:
        await queue_delayed_work_on(ctx, ctx.smp_processor_id, machine.system_wq, work, REAPTIMEOUT_AC)


async def reap_one(ctx: Context, cachep: KmemCache) -> None:
    """Reap one cache on this CPU's node: alien arrays, this CPU's array, every 4 s the shared array and free slabs."""
    n = cachep.slab_node[ctx.numa_node]
    await reap_alien(ctx, cachep, n)
    await drain_array(ctx, cachep, n, lambda: cpu_cache_get(ctx, cachep))
    if n.next_reap > ctx.world.now:
        return
    n.next_reap = ctx.world.now + REAPTIMEOUT_NODE
    await drain_array(ctx, cachep, n, lambda: n.shared)
    n.touch_part("free_touched", UPDATE)
    if n.free_touched:
        n.free_touched = False
    else:
        await drain_freelist(ctx, cachep, n, (n.free_limit + 5 * cachep.objects - 1) // (5 * cachep.objects))


@kernel_fn("reap_alien", "mm/slab.c")
async def reap_alien(ctx: Context, cachep: KmemCache, n: SlabNode) -> None:
    """Return the objects gathered for other nodes, unless an alien array's lock is held."""
    for alien in n.alien.values():
        if await ctx.ask(alien.array.read_avail) and alien.lock.holder is None:
            async with SpinLockIrqHeld(ctx, alien.lock):
                surplus = await __drain_alien_cache(ctx, cachep, alien)
            await slabs_destroy(ctx, cachep, surplus)


@kernel_fn("drain_array", "mm/slab.c")
async def drain_array(ctx: Context, cachep: KmemCache, n: SlabNode, array: Callable[[], ArrayCache | None]) -> None:
    """Drain an array partly, but only unmark one that was used since the last visit."""
    await ctx.this_cpu(cachep, THIS_CPU_ARRAY)
    ac = array()
    if ac is None or not ac.entries:
        return
    if ac.touched:
        ac.touched = False
        return
    surplus: list[Slab] = []
    async with SpinLockIrqHeld(ctx, n.list_lock):
        surplus = await drain_array_locked(ctx, n, ac, free_all=False)
    await slabs_destroy(ctx, cachep, surplus)
