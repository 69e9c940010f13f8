"""SLAB, the other allocator: array caches, shared and alien arrays, slab lists. mm/slab.c @5.3.1; KERNEL.md 4.7.

Each CPU has an array of free objects per cache; it is filled from, and flushed to, a shared array of the node or the
node's lists of partial, full and free slabs, under list_lock. Objects of another node go to an alien array first. So a
free never gives pages back by itself: a slab goes only when it is on the free list and that is too long, when the
cache is shrunk, or when cache_reap() comes by (`slab_reap`).

What one section under list_lock does is one access here: nobody else sees its middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import attrs

from actors.kernel.context import BUG_ON, Context, list_del
from actors.kernel.gfp import GFP_KERNEL, Gfp, gfpflags_allow_blocking
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.kmem_cache import KmemCache, Slab, SlabFlags, SlabObject
from actors.kernel.locks import SpinLock, SpinLockHeld, SpinLockIrqHeld
from actors.kernel.page_alloc import __free_pages, alloc_pages
from actors.kernel.rcu import RcuHead, call_rcu
from actors.kernel.slab_h import cache_from_obj, charge_slab_page, mark_allocated, uncharge_slab_page
from actors.kernel.slab_hooks import slab_post_alloc_hook, slab_pre_alloc_hook
from actors.kernel.slab_merge import find_mergeable
from actors.kernel.smp import on_each_cpu_mask
from actors.system.actor import Shared
from protocol.operations import ATOMIC_NS, READ, UPDATE, OperationInfo, operation

if TYPE_CHECKING:
    from protocol.slabinfo import SlabinfoRow

BATCHREFILL_LIMIT = 16
ALIEN_LIMIT = 12
SHARED_FACTOR = 8
THIS_CPU_ARRAY = OperationInfo("this_cpu_array", cost=ATOMIC_NS)


def array_limit(size: int) -> int:
    """How many free objects a CPU keeps, by object size in bytes (enable_cpucache)."""
    for more_than, limit in ((131_072, 1), (4096, 8), (1024, 24), (256, 54)):
        if size > more_than:
            return limit
    return 120


@attrs.define(eq=False)
class ArrayCache(Shared):
    """struct array_cache: free objects, the one freed last at the end."""

    name: str
    limit: int
    batchcount: int
    entries: list[SlabObject] = attrs.field(factory=list, init=False)
    touched: bool = attrs.field(default=False, init=False)

    @property
    def label(self) -> str:
        return self.name

    @operation(READ)
    def read_avail(self) -> int:
        return len(self.entries)

    def take_oldest(self, count: int) -> list[SlabObject]:
        """Remove the objects that have been here longest."""
        oldest, self.entries[:] = self.entries[:count], self.entries[count:]
        return oldest


@attrs.define(eq=False)
class AlienCache(Shared):
    """struct alien_cache: objects of one other node, on their way home."""

    nid: int
    array: ArrayCache
    lock: SpinLock

    @property
    def label(self) -> str:
        return self.array.name


class SlabNodeCounts(NamedTuple):
    """Slabs, those that are all free, free objects in slabs, and objects in the shared array of one node."""

    total_slabs: int
    free_slabs: int
    free_objects: int
    shared_avail: int


@attrs.define(eq=False)
class SlabNode(Shared):
    """struct kmem_cache_node of SLAB. The lists are ordered, head first; `alien` is by node.

    invariant: `free_objects` counts the free objects of all listed slabs, not those in arrays.
    """

    cache: KmemCache
    nid: int
    free_limit: int
    next_reap: int
    shared: ArrayCache | None
    alien: dict[int, AlienCache] = attrs.field(factory=dict)
    list_lock: SpinLock = attrs.field(init=False)
    slabs_partial: list[Slab] = attrs.field(factory=list, init=False)
    slabs_full: list[Slab] = attrs.field(factory=list, init=False)
    slabs_free: list[Slab] = attrs.field(factory=list, init=False)
    free_objects: int = attrs.field(default=0, init=False)
    total_slabs: int = attrs.field(default=0, init=False)
    free_touched: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.list_lock = SpinLock(self.actor, "&(&n->list_lock)->rlock")

    @property
    def label(self) -> str:
        return f"kmem_cache_node {self.nid} of {self.cache.name}"

    def all_slabs(self) -> list[Slab]:
        """Every slab that is on a list."""
        return [*self.slabs_partial, *self.slabs_full, *self.slabs_free]

    def parked(self) -> Iterator[SlabObject]:
        """The free objects in the node's own arrays."""
        for array in (self.shared, *(alien.array for alien in self.alien.values())):
            if array is not None:
                yield from array.entries

    def parts(self) -> Iterator[Shared | None]:
        """The struct with everything inside it."""
        yield from (self, self.list_lock, self.shared)
        for alien in self.alien.values():
            yield from (alien, alien.array, alien.lock)

    @operation(READ)
    def read_counts(self) -> SlabNodeCounts:
        """What get_slabinfo() adds up; list_lock is held."""
        shared_avail = len(self.shared.entries) if self.shared is not None else 0
        return SlabNodeCounts(self.total_slabs, len(self.slabs_free), self.free_objects, shared_avail)

    @operation(READ)
    def has_free_objects(self) -> bool:
        """What cache_alloc_refill() looks at before it takes the lock."""
        return bool(self.free_objects or (self.shared and self.shared.entries))

    @operation(UPDATE)
    def refill(self, array: ArrayCache, batchcount: int) -> None:
        """From the shared array, or from partial and free slabs; list_lock is held."""
        if self.shared is not None and self.shared.entries:
            array.entries += self.shared.entries[-batchcount:]
            del self.shared.entries[-batchcount:]
            self.shared.touched = True
            return
        while batchcount > 0 and (slab := self._first_slab()) is not None:
            batchcount = alloc_block(array, slab, batchcount)
            self._link(slab)
        self.free_objects -= len(array.entries)

    def _first_slab(self) -> Slab | None:
        if self.slabs_partial:
            return self.slabs_partial.pop(0)
        self.free_touched = True
        return self.slabs_free.pop(0) if self.slabs_free else None

    def _link(self, slab: Slab) -> None:
        """fixup_slab_list()."""
        (self.slabs_full if slab.inuse == slab.objects else self.slabs_partial).insert(0, slab)

    @operation(UPDATE)
    def add_slab(self, slab: Slab) -> None:
        """cache_grow_end(): a new slab, some of whose objects may be out already; list_lock is held."""
        self.total_slabs += 1
        if slab.inuse:
            self._link(slab)
        else:
            self.slabs_free.append(slab)
        self.free_objects += slab.objects - slab.inuse

    @operation(UPDATE)
    def take_shared(self, array: ArrayCache) -> bool:
        """cache_flusharray(): a batch goes to the shared array, as far as there is room; list_lock is held."""
        room = self.shared.limit - len(self.shared.entries) if self.shared is not None else 0
        if not room or self.shared is None:
            return False
        self.shared.entries += array.take_oldest(min(array.batchcount, room))
        return True

    @operation(UPDATE)
    def free_block(self, objects: list[SlabObject]) -> list[Slab]:
        """Put *objects* back into their slabs; return the free slabs that are too many. list_lock is held."""
        self.free_objects += len(objects)
        for obj in objects:
            self._put_object(obj)
        surplus = []
        while self.free_objects > self.free_limit and self.slabs_free:
            surplus.append(self.slabs_free.pop())
            self.free_objects -= surplus[-1].objects
            self.total_slabs -= 1
        return surplus

    def _put_object(self, obj: SlabObject) -> None:
        slab = obj.slab
        list_del(self.slabs_full if slab.inuse == slab.objects else self.slabs_partial, slab)
        slab.freelist = (obj.at, slab.freelist)
        slab.inuse -= 1
        if slab.inuse:
            self.slabs_partial.append(slab)
        else:
            self.slabs_free.insert(0, slab)

    @operation(UPDATE)
    def take_free_slab(self) -> Slab | None:
        """drain_freelist(): the last of the free slabs; list_lock is held."""
        if not self.slabs_free:
            return None
        slab = self.slabs_free.pop()
        self.free_objects -= slab.objects
        self.total_slabs -= 1
        return slab

    @operation(READ)
    def is_in_use(self) -> bool:
        return bool(self.slabs_full or self.slabs_partial)


def alloc_block(array: ArrayCache, slab: Slab, batchcount: int) -> int:
    """Move up to *batchcount* free objects of *slab* into *array*; return how many are still wanted."""
    while batchcount > 0 and slab.freelist is not None:
        at, slab.freelist = slab.freelist
        slab.inuse += 1
        array.entries.append(SlabObject(slab, at))
        batchcount -= 1
    return batchcount


def cpu_cache_get(ctx: Context, cachep: KmemCache) -> ArrayCache:
    """The array of the CPU that we are on."""
    if cachep.freed is not None:
        ctx.world.raise_use_after_free(cachep)
    array = cachep.cpu_cache[ctx.smp_processor_id]
    ctx.use(array)
    return array


# -- a cache comes and goes -------------------------------------------------------------------------------------------


@kernel_fn("__kmem_cache_create", "mm/slab.c")
async def __kmem_cache_create(ctx: Context, s: KmemCache) -> None:
    """Its arrays and nodes are there (setup_cpu_cache); SLAB has no sysfs directory."""


@kernel_fn("__kmem_cache_release", "mm/slab.c")
def __kmem_cache_release(ctx: Context, s: KmemCache) -> None:
    """Free the arrays and nodes: they go with the struct."""


@kernel_fn("__kmem_cache_alias", "mm/slab.c")
async def __kmem_cache_alias(ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool) -> KmemCache | None:
    """An existing root cache that may serve instead of a new one, with one more user; None if there is none."""
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
    """The last object of this CPU's array; IRQs are off."""
    await ctx.this_cpu(cachep, THIS_CPU_ARRAY)
    ac = cpu_cache_get(ctx, cachep)
    if ac.entries:
        ac.touched = True
        return ac.entries.pop()
    return await cache_alloc_refill(ctx, cachep, gfp)


@kernel_fn("cache_alloc_refill", "mm/slab.c")
async def cache_alloc_refill(ctx: Context, cachep: KmemCache, gfp: Gfp) -> SlabObject | None:
    """Fill the array from the node, or by one new slab; IRQs may be on in between."""
    ac = cpu_cache_get(ctx, cachep)
    batchcount = ac.batchcount if ac.touched else min(ac.batchcount, BATCHREFILL_LIMIT)
    BUG_ON(ctx, ac.entries, "cache_alloc_refill: ac->avail > 0")
    n = cachep.slab_node[ctx.numa_node]
    if await ctx.ask(n.has_free_objects):
        async with SpinLockHeld(ctx, n.list_lock):
            await ctx.ask(n.refill, ac, batchcount)
    if not ac.entries:
        slab = await cache_grow_begin(ctx, cachep, gfp)
        ac = cpu_cache_get(ctx, cachep)
        if slab is not None:
            if not ac.entries:
                BUG_ON(ctx, slab.inuse >= slab.objects, "alloc_block: page->active >= cachep->num")
                alloc_block(ac, slab, batchcount)
            await cache_grow_end(ctx, cachep, slab)
        if not ac.entries:
            return None
    ac.touched = True
    return ac.entries.pop()


@kernel_fn("cache_grow_begin", "mm/slab.c")
async def cache_grow_begin(ctx: Context, cachep: KmemCache, gfp: Gfp) -> Slab | None:
    """A new slab, on no list yet. If the caller may sleep, IRQs are on meanwhile, and it may wake up elsewhere."""
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
    """Pages from the buddy allocator, charged; they become a slab only now. Without a charge they go back."""
    if not await alloc_pages(ctx, gfp, 1 << cachep.order):
        return None
    slab = ctx.machine.new_slab(ctx, cachep, cachep.order, cachep.objects)
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
    ac.entries.append(obj)


@kernel_fn("cache_flusharray", "mm/slab.c")
async def cache_flusharray(ctx: Context, cachep: KmemCache, ac: ArrayCache) -> None:
    """The array is full: a batch goes to the shared array, or back into the slabs."""
    n = cachep.slab_node[ctx.numa_node]
    surplus: list[Slab] = []
    async with SpinLockHeld(ctx, n.list_lock):
        if not await ctx.ask(n.take_shared, ac):
            surplus = await ctx.ask(n.free_block, ac.take_oldest(ac.batchcount))
    await slabs_destroy(ctx, cachep, surplus)


@kernel_fn("cache_free_alien", "mm/slab.c")
async def cache_free_alien(ctx: Context, cachep: KmemCache, obj: SlabObject) -> bool:
    """Collect an object of another node; False if it is of this node."""
    node, page_node = ctx.numa_node, obj.slab.nid
    if node == page_node:
        return False
    alien = cachep.slab_node[node].alien[page_node]
    surplus: list[Slab] = []
    async with SpinLockHeld(ctx, alien.lock):
        if await ctx.ask(alien.array.read_avail) == alien.array.limit:
            surplus = await __drain_alien_cache(ctx, cachep, alien)
        alien.array.entries.append(obj)
    await slabs_destroy(ctx, cachep, surplus)
    return True


@kernel_fn("__drain_alien_cache", "mm/slab.c")
async def __drain_alien_cache(ctx: Context, cachep: KmemCache, alien: AlienCache) -> list[Slab]:
    """Send the objects home: to the shared array there, what does not fit back into the slabs."""
    n = cachep.slab_node[alien.nid]
    if not alien.array.entries:
        return []
    async with SpinLockHeld(ctx, n.list_lock):
        room = n.shared.limit - len(n.shared.entries) if n.shared is not None else 0
        if n.shared is not None:
            n.shared.entries += alien.array.take_oldest(room)
        return await ctx.ask(n.free_block, alien.array.take_oldest(ALIEN_LIMIT))


@kernel_fn("slabs_destroy", "mm/slab.c")
async def slabs_destroy(ctx: Context, cachep: KmemCache, slabs: list[Slab]) -> None:
    for slab in slabs:
        await slab_destroy(ctx, cachep, slab)


@kernel_fn("slab_destroy", "mm/slab.c")
async def slab_destroy(ctx: Context, cachep: KmemCache, slab: Slab) -> None:
    """Give a free slab back, after a grace period if its objects are type-safe by RCU."""
    if SlabFlags.TYPESAFE_BY_RCU in cachep.flags:
        await call_rcu(ctx, slab.rcu_head, kmem_rcu_free)
    else:
        await kmem_freepages(ctx, cachep, slab)


@kernel_fn("kmem_rcu_free", "mm/slab.c")
async def kmem_rcu_free(ctx: Context, head: RcuHead) -> None:
    """The grace period is over."""
    slab = head.container
    assert isinstance(slab, Slab)
    await kmem_freepages(ctx, slab.slab_cache, slab)


@kernel_fn("kmem_freepages", "mm/slab.c")
async def kmem_freepages(ctx: Context, cachep: KmemCache, slab: Slab) -> None:
    """Uncharge, then give the pages back; after the uncharge the cache may be gone."""
    if cachep.freed is not None:
        ctx.world.raise_use_after_free(cachep)
    BUG_ON(ctx, slab.freed is not None, "kmem_freepages: !PageSlab(page)")
    del cachep.slabs[slab]
    pages = slab.pages
    await uncharge_slab_page(ctx, slab, cachep)
    ctx.kfree(slab)
    await __free_pages(ctx, pages)


# -- drain, shrink, shutdown ------------------------------------------------------------------------------------------


@kernel_fn("do_drain", "mm/slab.c")
async def do_drain(ctx: Context, cachep: KmemCache) -> None:
    """Give up this CPU's array; in a hard IRQ, or with IRQs off."""
    ac = cpu_cache_get(ctx, cachep)
    n = cachep.slab_node[ctx.numa_node]
    async with SpinLockHeld(ctx, n.list_lock):
        surplus = await ctx.ask(n.free_block, ac.take_oldest(len(ac.entries)))
    await slabs_destroy(ctx, cachep, surplus)


@kernel_fn("drain_cpu_caches", "mm/slab.c")
async def drain_cpu_caches(ctx: Context, cachep: KmemCache) -> None:
    """Empty the arrays of every CPU, by IPI; then the alien and shared arrays of every node."""

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
    """Put all objects of *ac* back into their slabs, or a fifth of its size, or half of what is left."""
    if ac is None or not ac.entries:
        return []
    avail = len(ac.entries)
    tofree = avail if free_all else (ac.limit + 4) // 5
    if tofree > avail:
        tofree = (avail + 1) // 2
    return await ctx.ask(n.free_block, ac.take_oldest(tofree))


@kernel_fn("drain_freelist", "mm/slab.c")
async def drain_freelist(ctx: Context, cachep: KmemCache, n: SlabNode, tofree: int | None) -> int:
    """Destroy up to *tofree* free slabs (None: all), one after the other; how many it were."""
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
    """At once; what comes back later waits in the arrays for cache_reap()."""
    await __kmem_cache_shrink(ctx, s)


@kernel_fn("__kmemcg_cache_deactivate_after_rcu", "mm/slab.c", profiles="v1..")
async def __kmemcg_cache_deactivate_after_rcu(ctx: Context, s: KmemCache) -> None:
    """Nothing is left to do."""
