"""Make the structures of a cache with all its parts, and of a slab. mm/slub.c, mm/slab.c @5.3.1; KERNEL.md 4.2.

In C either allocator's kmem_cache_open() makes the parts. Making them takes no step here: no other task has a pointer
to them yet. A cache becomes an actor of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.linux.include.slab import SlabFlags
from actors.linux.kernel.locking.locks import SpinLock
from actors.linux.mm.kmem_cache import (
    KmemCache,
    KmemCacheCpu,
    KmemCacheNode,
    MemcgCacheArray,
    NodeBarn,
    Slab,
    SlabSheaf,
    SlubPercpuSheaves,
)
from actors.linux.mm.slab_def import (
    ALIEN_LIMIT,
    REAPTIMEOUT_NODE,
    SHARED_FACTOR,
    AlienCache,
    ArrayCache,
    SlabNode,
    array_limit,
)
from actors.machine.context import Context
from actors.machine.lockless import LocklessField
from actors.system.actor import Actor
from actors.versions.profiles import WITH_SHEAVES
from protocol.findings import Oops
from protocol.formats.slabinfo import PAGE_SIZE, SlabinfoRow

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine


def set_cpu_partial(size: int) -> int:
    """The number of free objects that a CPU keeps in partial slabs, by object size in bytes (set_cpu_partial)."""
    for least, objects in ((PAGE_SIZE, 2), (1024, 6), (256, 13)):
        if size >= least:
            return objects
    return 30


def set_cpu_partial_today(size: int) -> int:
    """The same from 6.12 on (KERNEL-today 16.9)."""
    for least, objects in ((PAGE_SIZE, 6), (1024, 24), (256, 52)):
        if size >= least:
            return objects
    return 120


WITHOUT_SHEAVES = ("kmem_cache", "kmem_cache_node")
"""The caches that a sheaf's own allocation would need."""


def calculate_sheaf_capacity(name: str, size: int) -> int:
    """The objects of a sheaf, by object size in bytes: it fills a bucket of kmalloc (KERNEL-7.2 N1.0)."""
    if name in WITHOUT_SHEAVES:
        return 0
    for least, objects in ((PAGE_SIZE, 4), (1024, 12), (256, 28)):
        if size >= least:
            return objects
    return 60


def set_min_partial(size: int) -> int:
    """The number of empty slabs that a node keeps: log2(size)/2, 5 to 10 (set_min_partial)."""
    return min(max((size.bit_length() - 1) // 2, 5), 10)


def new_root_cache(machine: Machine, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool = False) -> KmemCache:
    """The root cache that one row of /proc/slabinfo describes; it is on no list yet."""
    order = (row.pagesperslab - 1).bit_length()
    least = max(1, -(-row.objsize // PAGE_SIZE))
    cache = _new_cache(machine, row.name, (row.objsize, row.objperslab, order), flags, None)
    cache.min_order = min(order, (least - 1).bit_length())
    cache.min_objects = min(row.objperslab, (PAGE_SIZE << cache.min_order) // row.objsize)
    cache.has_ctor = has_ctor
    if not machine.is_without_child_caches:
        cache.memcg_caches = MemcgCacheArray(cache.actor, cache, [None] * machine.memcg_nr_cache_ids)
    return cache


def new_child_cache(machine: Machine, root: KmemCache, name: str) -> KmemCache:
    """A child of *root*, with the same geometry; it is on no list yet."""
    cache = _new_cache(machine, name, (root.object_size, root.objects, root.order), root.flags, root)
    cache.min_order, cache.min_objects = root.min_order, root.min_objects
    cache.has_ctor, cache.has_usercopy = root.has_ctor, root.has_usercopy
    return cache


def _new_cache(
    machine: Machine, name: str, geometry: tuple[int, int, int], flags: SlabFlags, root: KmemCache | None
) -> KmemCache:
    """Allocate a kmem_cache with its per-CPU and per-node parts. *geometry*: object size, objects per slab, order."""
    size, objects, order = geometry
    actor = Actor(machine.world, f"kmem_cache {name}")
    cpu_partial = set_cpu_partial_today(size) if machine.is_without_child_caches else set_cpu_partial(size)
    cache = KmemCache(
        actor,
        name,
        object_size=size,
        objects=objects,
        order=order,
        flags=flags,
        cpu_partial=LocklessField(actor, f"cpu_partial of {name}", cpu_partial),
        min_partial=LocklessField(actor, f"min_partial of {name}", set_min_partial(size)),
        root_cache=root,
    )
    if machine.config.kernel in WITH_SHEAVES:
        add_sheaves(machine, cache)
    elif machine.config.allocator == "slub":
        cache.cpu_slab = tuple(KmemCacheCpu(cpu.actor, cache, cpu.id, tid=cpu.id) for cpu in machine.cpus)
        cache.node = tuple(KmemCacheNode(actor, cache, nid) for nid in range(machine.config.nodes))
    else:
        setup_cpu_cache(machine, cache)
    machine.add_cache(cache)
    return cache


def add_sheaves(machine: Machine, cache: KmemCache) -> None:
    """Make 7.2's parts: an empty main sheaf for each CPU, a barn for each node (KERNEL-7.2 N1.0, row 17.1)."""
    cache.cpu_partial.value = 0
    cache.sheaf_capacity = calculate_sheaf_capacity(cache.name, cache.slot_size)
    cache.cpu_sheaves = tuple(
        SlubPercpuSheaves(cpu.actor, cache, cpu.id, SlabSheaf(cache.actor, cache)) for cpu in machine.cpus
    )
    cache.sheaf_locks = tuple(pcs.lock for pcs in cache.cpu_sheaves)
    has_barns = cache.sheaf_capacity > 0
    cache.node = tuple(
        KmemCacheNode(cache.actor, cache, nid, NodeBarn(cache.actor, cache, nid) if has_barns else None)
        for nid in range(machine.config.nodes)
    )


def setup_cpu_cache(machine: Machine, cache: KmemCache) -> None:
    """Make SLAB's parts of a cache: an array for each CPU; the lists, shared and alien arrays of each node."""
    limit = array_limit(cache.object_size)
    batchcount = (limit + 1) // 2
    shared = SHARED_FACTOR * batchcount if cache.object_size <= PAGE_SIZE and len(machine.cpus) > 1 else 0
    for cpu in machine.cpus:
        name = f"array_cache of {cache.name} on {cpu.label}"
        cache.cpu_cache += (ArrayCache(cpu.actor, name, limit, batchcount),)
    for nid in range(machine.config.nodes):
        cpus = sum(machine.node_of_cpu(cpu.id) == nid for cpu in machine.cpus)
        array = ArrayCache(cache.actor, f"shared array of {cache.name}, node {nid}", shared, 0) if shared else None
        reap = machine.world.now + REAPTIMEOUT_NODE + len(machine.all_caches) * 7_000_000 % REAPTIMEOUT_NODE
        cache.slab_node += (SlabNode(cache.actor, cache, nid, (1 + cpus) * batchcount + cache.objects, reap, array),)
    for node in cache.slab_node:
        for other in range(machine.config.nodes):
            if other != node.nid:
                node.alien[other] = _new_alien(cache, node.nid, other)


def _new_alien(cache: KmemCache, nid: int, other: int) -> AlienCache:
    name = f"alien array of {cache.name}, node {nid} for {other}"
    array = ArrayCache(cache.actor, name, ALIEN_LIMIT, ALIEN_LIMIT)
    return AlienCache(cache.actor, other, array, SpinLock(cache.actor, "&alc->lock"))


def make_slab(ctx: Context, cache: KmemCache, order: int, objects: int, nid: int) -> Slab:
    """Make a slab of *cache* from new pages: all objects are free, and all belong to the CPU that made it."""
    room = cache.objects if order >= cache.order else cache.min_objects
    if objects > room:
        text = f"object {room} of a slab of {cache.name}, in which there is room for {room}"
        raise Oops("bug", "slab-out-of-bounds", f"BUG: KASAN: slab-out-of-bounds: {text}")
    slab = Slab(
        cache.actor,
        ctx.machine.next_slab_serial(),
        cache,
        nid,
        order,
        objects,
        freelist=None,
        inuse=objects,
        frozen=True,
        made_by=(ctx.name, ctx.world.step),
        pfn=ctx.machine.buddy.place(order),
    )
    for index in reversed(range(objects)):
        slab.freelist = (index, slab.freelist)
    return slab
