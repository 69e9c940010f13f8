"""SLUB of 7.2: arrays of free objects, the sheaves, in place of CPU slabs. mm/slub.c @7.2; KERNEL-7.2 N1, N2.1, N2.2.

A CPU allocates from its main sheaf and frees to it. It has a spare one, too; each node has a barn with full and empty
sheaves for its CPUs. The lock of a CPU's sheaves is a local_trylock: its holder has preemption off and interrupts on.
An interrupt that comes between trylock and unlock does not get it, and takes objects from slabs, or frees to slabs.

No slab belongs to a CPU. A slab with free objects is on its node's list, and its flag says so (`Slab.slab_list`). A
full one is on no list; nor is one from which a refill takes objects at the moment. A free that finds a full slab puts
it on the list. Objects in sheaves are in use as far as their slab can tell.

An object that is given to kfree_rcu() goes to a third sheaf. When that is full, RCU calls back after a grace period;
only then the objects are uncharged, and the sheaf is a full one of the barn.

Left out: allocations for a wanted node, pfmemalloc slabs, kfree_nolock(), prefilled sheaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from actors.linux.include.memcontrol import memcg_slab_free_hook, memcg_slab_post_alloc_hook
from actors.linux.include.slab import kmalloc
from actors.linux.kernel.locking.locks import (
    MutexHeld,
    SpinLockIrqHeld,
    local_lock,
    local_trylock,
    local_unlock,
    spin_lock_irqsave,
    spin_trylock,
    spin_unlock_irqrestore,
)
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu, rcu_barrier
from actors.linux.kernel.workqueue import Work, WorkFunc, flush_work, queue_work_on
from actors.linux.mm.kmem_cache import (
    Chain,
    KmemCache,
    KmemCacheNode,
    NodeBarn,
    Slab,
    SlabCounters,
    SlabObject,
    SlabSheaf,
    SlubFlushWork,
    SlubPercpuSheaves,
)
from actors.linux.mm.slab_h import mark_allocated, mark_freed
from actors.linux.mm.slub import (
    LOOKAHEAD,
    __kmem_cache_do_shrink,
    discard_slab,
    flush_all_6_12,
    flush_all_cpus_locked,
    free_partial,
    indices,
    is_enough,
    joined,
    new_slab_6_12,
)
from actors.machine.context import WARN_ON, Context, deref
from actors.machine.gfp import GFP_KERNEL, GFP_NOWAIT, Gfp, gfpflags_allow_blocking
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, UPDATE, OperationInfo

if TYPE_CHECKING:
    from actors.linux.mm.list_lru import ListLru

MAX_FULL_SHEAVES = MAX_EMPTY_SHEAVES = 10
PCS_BATCH_MAX = 32

THIS_CPU_SHEAF = OperationInfo("this_cpu_sheaf", cost=ATOMIC_NS)


# -- the lock of a CPU's sheaves --------------------------------------------------------------------------------------


def this_cpu_sheaves(ctx: Context, s: KmemCache) -> SlubPercpuSheaves:
    """this_cpu_ptr(s->cpu_sheaves)."""
    if s.freed is not None:
        ctx.world.raise_use_after_free(s)
    pcs = s.cpu_sheaves[ctx.smp_processor_id]
    ctx.use(pcs)
    return pcs


async def trylock_sheaves(ctx: Context, s: KmemCache) -> SlubPercpuSheaves | None:
    """local_trylock(): this CPU's sheaves, with preemption off; None if the code that this flow interrupts has them."""
    return this_cpu_sheaves(ctx, s) if await local_trylock(ctx, s.sheaf_locks) else None


async def lock_sheaves(ctx: Context, s: KmemCache) -> SlubPercpuSheaves:
    """local_lock(), in a task: no task that is preempted holds it."""
    await local_lock(ctx, s.sheaf_locks)
    return this_cpu_sheaves(ctx, s)


def unlock_sheaves(ctx: Context, pcs: SlubPercpuSheaves) -> None:
    """local_unlock(). It belongs to the step before it, as nobody on this CPU can come in between."""
    local_unlock(ctx, pcs.cache.sheaf_locks)


async def use_sheaves(ctx: Context, pcs: SlubPercpuSheaves) -> None:
    """The moment between the trylock and the access to the main sheaf, at which an interrupt may come."""
    await ctx.this_cpu(pcs, THIS_CPU_SHEAF)
    ctx.use(pcs)


# -- sheaves and barns ------------------------------------------------------------------------------------------------


@kernel_fn("alloc_empty_sheaf", "mm/slub.c", profiles="7.2..")
async def alloc_empty_sheaf(ctx: Context, s: KmemCache, gfp: Gfp) -> SlabSheaf | None:
    """kmalloc() of an empty sheaf, whose memory the model does not count; None if there is none."""
    if not kmalloc(ctx, gfp, "cache_parts"):
        return None
    if ctx.machine.buddy.is_short and not gfpflags_allow_blocking(gfp) and await ctx.choose(2):
        return None
    return SlabSheaf(s.actor, s)


@kernel_fn("free_empty_sheaf", "mm/slub.c", profiles="7.2..")
def free_empty_sheaf(ctx: Context, sheaf: SlabSheaf) -> None:
    """kfree() of a sheaf without objects."""
    WARN_ON(ctx, sheaf.objects, "free_empty_sheaf: sheaf->size > 0")
    ctx.kfree(sheaf)


def get_barn(ctx: Context, s: KmemCache) -> NodeBarn | None:
    """The barn of this CPU's node."""
    return s.node[ctx.numa_node].barn


@kernel_fn("barn_get_empty_sheaf", "mm/slub.c", profiles="7.2..")
async def barn_get_empty_sheaf(ctx: Context, barn: NodeBarn) -> SlabSheaf | None:
    """Take an empty sheaf, if a look without the lock says that there is one."""
    if not await ctx.ask(barn.read_nr_empty):
        return None
    async with SpinLockIrqHeld(ctx, barn.lock):
        return await ctx.ask(barn.take_empty)


@kernel_fn("barn_put_empty_sheaf", "mm/slub.c", profiles="7.2..")
async def barn_put_empty_sheaf(ctx: Context, barn: NodeBarn, sheaf: SlabSheaf) -> None:
    """Put an empty sheaf back; the limit is the caller's affair."""
    async with SpinLockIrqHeld(ctx, barn.lock):
        await ctx.ask(barn.put_empty, sheaf)


@kernel_fn("barn_put_full_sheaf", "mm/slub.c", profiles="7.2..")
async def barn_put_full_sheaf(ctx: Context, barn: NodeBarn, sheaf: SlabSheaf) -> None:
    """Put a full sheaf into the barn; the limit is the caller's affair."""
    async with SpinLockIrqHeld(ctx, barn.lock):
        await ctx.ask(barn.put_full, sheaf)


@kernel_fn("barn_replace_empty_sheaf", "mm/slub.c", profiles="7.2..")
async def barn_replace_empty_sheaf(ctx: Context, barn: NodeBarn, empty: SlabSheaf) -> SlabSheaf | None:
    """KERNEL-7.2 N1.2, step 4: a full sheaf for an *empty* one; there may be more empty ones than the limit."""
    if not await ctx.ask(barn.read_nr_full):
        return None
    async with SpinLockIrqHeld(ctx, barn.lock):
        return await ctx.ask(barn.swap_for_full, empty)


@kernel_fn("barn_replace_full_sheaf", "mm/slub.c", profiles="7.2..")
async def barn_replace_full_sheaf(ctx: Context, barn: NodeBarn, full: SlabSheaf) -> tuple[SlabSheaf | None, bool]:
    """KERNEL-7.2 N1.8, step 4: an empty sheaf for a *full* one; else None, and whether there are too many full ones."""
    if await ctx.ask(barn.read_nr_full) >= MAX_FULL_SHEAVES:
        return None, True
    if not await ctx.ask(barn.read_nr_empty):
        return None, False
    async with SpinLockIrqHeld(ctx, barn.lock):
        return await ctx.ask(barn.swap_for_empty, full), False


@kernel_fn("barn_shrink", "mm/slub.c", profiles="7.2..")
async def barn_shrink(ctx: Context, s: KmemCache, barn: NodeBarn) -> None:
    """KERNEL-7.2 N1.9: free all sheaves of a barn; their objects go back to their slabs."""
    async with SpinLockIrqHeld(ctx, barn.lock):
        full, empty = await ctx.ask(barn.take_all)
    for sheaf in reversed(full):
        await sheaf_flush_unused(ctx, s, sheaf)
        free_empty_sheaf(ctx, sheaf)
    for sheaf in reversed(empty):
        free_empty_sheaf(ctx, sheaf)


async def shrink_barns(ctx: Context, s: KmemCache) -> None:
    """barn_shrink() of each node."""
    for n in s.node:
        if n.barn is not None:
            await barn_shrink(ctx, s, n.barn)


@kernel_fn("sheaf_flush_unused", "mm/slub.c", profiles="7.2..")
async def sheaf_flush_unused(ctx: Context, s: KmemCache, sheaf: SlabSheaf) -> None:
    """Free the objects of a sheaf that nobody else has to their slabs."""
    objects, sheaf.objects = sheaf.objects, []
    await __kmem_cache_free_bulk(ctx, s, objects)


# -- allocation -------------------------------------------------------------------------------------------------------


@kernel_fn("kmem_cache_alloc", "mm/slub.c", profiles="7.2..")
async def kmem_cache_alloc_7_2(ctx: Context, s: KmemCache, gfp: Gfp = GFP_KERNEL) -> SlabObject | None:
    """Allocate an object of *s* and charge it if it is accounted; None is -ENOMEM."""
    return await slab_alloc_node_7_2(ctx, s, None, gfp)


@kernel_fn("kmem_cache_alloc_lru", "mm/slub.c", profiles="7.2..")
async def kmem_cache_alloc_lru_7_2(
    ctx: Context, s: KmemCache, lru: ListLru, gfp: Gfp = GFP_KERNEL
) -> SlabObject | None:
    """Allocate an object that will be on *lru*, whose lists for the object's memcg are made first."""
    return await slab_alloc_node_7_2(ctx, s, lru, gfp)


@kernel_fn("slab_alloc_node", "mm/slub.c", profiles="7.2..")
async def slab_alloc_node_7_2(ctx: Context, s: KmemCache, lru: ListLru | None, gfp: Gfp) -> SlabObject | None:
    """KERNEL-7.2 N1.1: an object of this CPU's main sheaf, else one of a slab; then charge it."""
    if gfpflags_allow_blocking(gfp):
        ctx.might_sleep("slab_pre_alloc_hook")
    obj = await alloc_from_pcs(ctx, s, gfp) or await ___slab_alloc_7_2(ctx, s, gfp)
    if obj is None:
        return None
    mark_allocated(obj)
    if await memcg_slab_post_alloc_hook(ctx, s, lru, gfp, (obj,)):
        return obj
    await memcg_alloc_abort_single_7_2(ctx, s, obj)
    return None


@kernel_fn("alloc_from_pcs", "mm/slub.c", profiles="7.2..")
async def alloc_from_pcs(ctx: Context, s: KmemCache, gfp: Gfp) -> SlabObject | None:
    """KERNEL-7.2 N1.1, steps 2 to 5: the last object of this CPU's main sheaf; None: take it from a slab."""
    pcs = await trylock_sheaves(ctx, s)
    if pcs is not None and not pcs.main.objects:
        pcs = await __pcs_replace_empty_main(ctx, s, pcs, gfp)
    if pcs is None:
        return None
    await use_sheaves(ctx, pcs)
    obj = pcs.main.objects.pop()
    unlock_sheaves(ctx, pcs)
    return obj


@kernel_fn("__pcs_replace_empty_main", "mm/slub.c", profiles="7.2..")
async def __pcs_replace_empty_main(
    ctx: Context, s: KmemCache, pcs: SlubPercpuSheaves, gfp: Gfp
) -> SlubPercpuSheaves | None:
    """KERNEL-7.2 N1.2: have a main sheaf with objects. The lock is held, and held again, perhaps on another CPU.

    None: it is not held, and there is no sheaf. A sheaf that is filled meanwhile is in no place where a flush looks.
    """
    barn = get_barn(ctx, s)
    if not s.sheaf_capacity or barn is None:
        unlock_sheaves(ctx, pcs)
        return None
    if await refill_from_spare_or_barn(ctx, pcs, barn):
        return pcs
    empty, pcs.spare = pcs.spare, None
    if empty is None:
        empty = await barn_get_empty_sheaf(ctx, barn)
    unlock_sheaves(ctx, pcs)
    full = await fill_sheaf(ctx, s, empty, gfp)
    if full is None:
        return None
    now = await trylock_sheaves(ctx, s)
    if now is None:
        await barn_put_full_sheaf(ctx, barn, full)
        return None
    await install_full_sheaf(ctx, now, barn, full)
    return now


async def refill_from_spare_or_barn(ctx: Context, pcs: SlubPercpuSheaves, barn: NodeBarn) -> bool:
    """KERNEL-7.2 N1.2, steps 2 to 4: replace an empty main sheaf by the spare one, or by a full one of the barn."""
    if pcs.spare is not None and pcs.spare.objects:
        pcs.main, pcs.spare = pcs.spare, pcs.main
        return True
    full = await barn_replace_empty_sheaf(ctx, barn, pcs.main)
    if full is None:
        return False
    pcs.main = full
    return True


async def fill_sheaf(ctx: Context, s: KmemCache, sheaf: SlabSheaf | None, gfp: Gfp) -> SlabSheaf | None:
    """KERNEL-7.2 N1.2, steps 7 and 8: fill *sheaf*, or a new one, from slabs; None if it cannot be filled."""
    if sheaf is None:
        sheaf = await alloc_empty_sheaf(ctx, s, gfp)
    if sheaf is None:
        return None
    objects = await refill_objects(ctx, s, gfp, s.sheaf_capacity)
    sheaf.touch(UPDATE)
    if len(objects) == s.sheaf_capacity:
        sheaf.objects = objects
        return sheaf
    await __kmem_cache_free_bulk(ctx, s, objects)
    free_empty_sheaf(ctx, sheaf)
    return None


async def install_full_sheaf(ctx: Context, pcs: SlubPercpuSheaves, barn: NodeBarn, full: SlabSheaf) -> None:
    """KERNEL-7.2 N1.2, step 10: use the *full* sheaf here, or put it into *barn*, that of the CPU before."""
    if not pcs.main.objects:
        if pcs.spare is None:
            pcs.spare = pcs.main
        else:
            await barn_put_empty_sheaf(ctx, barn, pcs.main)
        pcs.main = full
    elif pcs.spare is None:
        pcs.spare = full
    elif not pcs.spare.objects:
        await barn_put_empty_sheaf(ctx, barn, pcs.spare)
        pcs.spare = full
    else:
        await barn_put_full_sheaf(ctx, barn, full)


@kernel_fn("___slab_alloc", "mm/slub.c", profiles="7.2..")
async def ___slab_alloc_7_2(ctx: Context, s: KmemCache, gfp: Gfp) -> SlabObject | None:
    """KERNEL-7.2 N1.4: an object of a slab on a node's list, else of a new slab."""
    obj = await get_from_partial(ctx, s)
    if obj is not None:
        return obj
    slab = await new_slab_6_12(ctx, s, gfp)
    if slab is None:
        return None
    return (await alloc_from_new_slab(ctx, s, slab, 1))[0]


@kernel_fn("get_from_partial", "mm/slub.c", profiles="7.2..")
async def get_from_partial(ctx: Context, s: KmemCache) -> SlabObject | None:
    """An object from a slab of this CPU's node; sometimes of another node with more than min_partial."""
    obj = await get_from_partial_node(ctx, s.node[ctx.numa_node])
    if obj is not None or len(s.node) == 1 or not await ctx.choose(2):
        return obj
    for n in s.node:
        if n.nid != ctx.numa_node and await ctx.ask(n.read_nr_partial) > s.min_partial.value:
            obj = await get_from_partial_node(ctx, n)
            if obj is not None:
                return obj
    return None


@kernel_fn("get_from_partial_node", "mm/slub.c", profiles="7.2..")
async def get_from_partial_node(ctx: Context, n: KmemCacheNode) -> SlabObject | None:
    """Take one object of the first slab on the list; if it was the last free one, the slab leaves the list."""
    if not await ctx.ask(n.read_nr_partial):
        return None
    async with SpinLockIrqHeld(ctx, n.list_lock):
        for slab in await ctx.ask(n.list_partial):
            while True:
                old = await ctx.ask(slab.read_counters)
                at, rest = deref(old.freelist, "get_from_partial_node(): object")
                if await ctx.ask(slab.cmpxchg_double, old, SlabCounters(rest, old.inuse + 1, frozen=False)):
                    break
            if rest is None:
                await ctx.ask(n.remove_partial, slab)
            return SlabObject(slab, at)
    return None


@kernel_fn("alloc_from_new_slab", "mm/slub.c", profiles="7.2..")
async def alloc_from_new_slab(ctx: Context, s: KmemCache, slab: Slab, count: int) -> list[SlabObject]:
    """Take the first *count* objects of a slab that nobody else knows; with free objects left, it goes on the list."""
    n = s.node[slab.nid]
    chain = list(indices(slab.freelist))
    taken = [SlabObject(slab, at) for at in chain[:count]]
    slab.frozen = False
    slab.inuse = len(taken)
    slab.freelist = joined(chain[count], tuple(chain[count + 1 :]), None) if len(chain) > count else None
    if slab.freelist is not None:
        async with SpinLockIrqHeld(ctx, n.list_lock):
            await ctx.ask(n.add_partial, slab, tail=False)
    await ctx.ask(n.add_nr_slabs, 1, slab.objects)
    return taken


# -- many objects at once ---------------------------------------------------------------------------------------------


@kernel_fn("refill_objects", "mm/slub.c", profiles="7.2..")
async def refill_objects(ctx: Context, s: KmemCache, gfp: Gfp, count: int) -> list[SlabObject]:
    """KERNEL-7.2 N1.5: *count* objects of slabs: of this node, of other nodes, of new slabs; fewer without memory."""
    objects = await __refill_objects_node(ctx, s, s.node[ctx.numa_node], count, tries=False)
    if len(objects) < count and len(s.node) > 1:
        objects += await __refill_objects_any(ctx, s, count - len(objects))
    while len(objects) < count:
        slab = await new_slab_6_12(ctx, s, gfp)
        if slab is None:
            break
        objects += await alloc_from_new_slab(ctx, s, slab, count - len(objects))
    return objects


@kernel_fn("__refill_objects_any", "mm/slub.c", profiles="7.2..")
async def __refill_objects_any(ctx: Context, s: KmemCache, count: int) -> list[SlabObject]:
    """KERNEL-7.2 N1.5, part D: as in N1.4, sometimes, and of nodes with more than min_partial.

    46dea1744498 has both conditions; KERNEL-7.2 does not say them again.
    """
    objects: list[SlabObject] = []
    if not await ctx.choose(2):
        return objects
    for n in s.node:
        if n.nid != ctx.numa_node and await ctx.ask(n.read_nr_partial) > s.min_partial.value:
            objects += await __refill_objects_node(ctx, s, n, count - len(objects), tries=True)
            if len(objects) >= count:
                break
    return objects


@kernel_fn("__refill_objects_node", "mm/slub.c", profiles="7.2..")
async def __refill_objects_node(
    ctx: Context, s: KmemCache, n: KmemCacheNode, count: int, *, tries: bool
) -> list[SlabObject]:
    """KERNEL-7.2 N1.5, parts A to C: up to *count* objects of slabs on a node's list.

    A slab that is taken off the list is on none until its objects are taken. A free that comes meanwhile leaves it
    alone; one that comes afterwards finds it full, and puts it on the list.
    """
    slabs = await get_partial_node_bulk(ctx, n, count, tries=tries)
    objects: list[SlabObject] = []
    while slabs and len(objects) < count:
        slab = slabs.pop(0)
        chain = await get_freelist_nofreeze(ctx, slab)
        wanted = count - len(objects)
        found = [SlabObject(slab, at) for at in indices(chain)]
        objects += found[:wanted]
        if len(found) > wanted:
            await give_back_rest(ctx, s, n, found[wanted:])
    if slabs:
        async with SpinLockIrqHeld(ctx, n.list_lock):
            for slab in slabs:
                await ctx.ask(n.add_partial, slab, tail=True)
    return objects


@kernel_fn("get_partial_node_bulk", "mm/slub.c", profiles="7.2..")
async def get_partial_node_bulk(ctx: Context, n: KmemCacheNode, count: int, *, tries: bool) -> list[Slab]:
    """KERNEL-7.2 N1.5, part A: take slabs off the list until they have *count* free objects, which may become more."""
    taken: list[Slab] = []
    if not await ctx.ask(n.read_nr_partial):
        return taken
    if tries:
        flags = ctx.local_irq_save()
        if not await spin_trylock(ctx, n.list_lock):
            ctx.local_irq_restore(flags)
            return taken
    else:
        flags = await spin_lock_irqsave(ctx, n.list_lock)
    total = 0
    for slab in await ctx.ask(n.list_partial):
        total += slab.objects - (await ctx.ask(slab.read_counters)).inuse
        await ctx.ask(n.remove_partial, slab)
        taken.append(slab)
        if total >= count:
            break
    await spin_unlock_irqrestore(ctx, n.list_lock, flags)
    return taken


@kernel_fn("get_freelist_nofreeze", "mm/slub.c", profiles="7.2..")
async def get_freelist_nofreeze(ctx: Context, slab: Slab) -> Chain:
    """KERNEL-7.2 N1.5, step B2: take all free objects of a slab that is on no list: it is a full one from now on."""
    while True:
        old = await ctx.ask(slab.read_counters)
        WARN_ON(ctx, old.frozen, "get_freelist_nofreeze: VM_WARN_ON_ONCE(new.frozen)")
        if await ctx.ask(slab.cmpxchg_double, old, SlabCounters(None, slab.objects, frozen=False)):
            return old.freelist


async def give_back_rest(ctx: Context, s: KmemCache, n: KmemCacheNode, rest: Sequence[SlabObject]) -> None:
    """KERNEL-7.2 N1.5, step B4, as in 7.2.12: the objects that a refill does not need; under list_lock if none came."""
    slab = rest[0].slab
    head, others = rest[0].at, tuple(obj.at for obj in rest[1:])
    async with SpinLockIrqHeld(ctx, n.list_lock):
        old = await ctx.ask(slab.read_counters)
        new = SlabCounters(joined(head, others, None), old.inuse - len(rest), frozen=False)
        if old.freelist is None and await ctx.ask(slab.cmpxchg_double, old, new):
            await ctx.ask(n.add_partial, slab, tail=True)
            return
    await __slab_free_7_2(ctx, s, rest[0], others)


@kernel_fn("kmem_cache_alloc_bulk", "mm/slub.c", profiles="7.2..")
async def kmem_cache_alloc_bulk_7_2(ctx: Context, s: KmemCache, size: int, gfp: Gfp = GFP_KERNEL) -> list[SlabObject]:
    """KERNEL-7.2 N1.3: *size* objects of this CPU's sheaves, the rest of slabs; then charge them. Empty is -ENOMEM."""
    if gfpflags_allow_blocking(gfp):
        ctx.might_sleep("slab_pre_alloc_hook")
    objects = await alloc_from_pcs_bulk(ctx, s, size) if s.sheaf_capacity else []
    if len(objects) < size:
        objects += await refill_objects(ctx, s, gfp, size - len(objects))
        if len(objects) < size:
            await __kmem_cache_free_bulk(ctx, s, objects)
            return []
    for obj in objects:
        mark_allocated(obj)
    if not objects or await memcg_slab_post_alloc_hook(ctx, s, None, gfp, objects):
        return objects
    if size == 1:
        await memcg_alloc_abort_single_7_2(ctx, s, objects[0])
    else:
        await kmem_cache_free_bulk_7_2(ctx, s, objects)
    return []


@kernel_fn("alloc_from_pcs_bulk", "mm/slub.c", profiles="7.2..")
async def alloc_from_pcs_bulk(ctx: Context, s: KmemCache, size: int) -> list[SlabObject]:
    """Up to *size* objects of the main sheaf and of those that replace it; no sheaf is filled for this."""
    objects: list[SlabObject] = []
    while len(objects) < size:
        pcs = await trylock_sheaves(ctx, s)
        if pcs is None:
            break
        barn = get_barn(ctx, s)
        if not pcs.main.objects and (barn is None or not await refill_from_spare_or_barn(ctx, pcs, barn)):
            unlock_sheaves(ctx, pcs)
            break
        await use_sheaves(ctx, pcs)
        count = min(size - len(objects), len(pcs.main.objects))
        objects += pcs.main.objects[-count:]
        del pcs.main.objects[-count:]
        unlock_sheaves(ctx, pcs)
    return objects


# -- free -------------------------------------------------------------------------------------------------------------


@kernel_fn("kmem_cache_free", "mm/slub.c", profiles="7.2..")
async def kmem_cache_free_7_2(ctx: Context, s: KmemCache, obj: SlabObject) -> None:
    """KERNEL-7.2 N1.6: uncharge *obj*, then put it into this CPU's main sheaf; else free it to its slab.

    An object of another cache stays where it is (CONFIG_SLAB_FREELIST_HARDENED).
    """
    if obj.slab.slab_cache is not s:
        warn_free_bad_obj(ctx, s)
        return
    mark_freed(ctx, obj)
    await memcg_slab_free_hook(ctx, s, (obj,))
    if obj.slab.nid != ctx.numa_node or not await free_to_pcs(ctx, s, obj):
        await __slab_free_7_2(ctx, s, obj)


@kernel_fn("warn_free_bad_obj", "mm/slub.c", profiles="7.2..")
def warn_free_bad_obj(ctx: Context, s: KmemCache) -> None:
    """Section 4 of KERNEL-7.2: the cache of the object is not the one that the caller names."""
    WARN_ON(ctx, True, f"kmem_cache_free({s.name}): object belongs to different cache")


@kernel_fn("free_to_pcs", "mm/slub.c", profiles="7.2..")
async def free_to_pcs(ctx: Context, s: KmemCache, obj: SlabObject) -> bool:
    """KERNEL-7.2 N1.6, steps 3 to 5: put *obj* into the main sheaf of this CPU; False: free it to its slab."""
    pcs = await trylock_sheaves(ctx, s)
    if pcs is not None and not pcs.main.has_room:
        pcs = await __pcs_replace_full_main(ctx, s, pcs)
    if pcs is None:
        return False
    await use_sheaves(ctx, pcs)
    pcs.main.objects.append(obj)
    unlock_sheaves(ctx, pcs)
    return True


@kernel_fn("__pcs_replace_full_main", "mm/slub.c", profiles="7.2..")
async def __pcs_replace_full_main(ctx: Context, s: KmemCache, pcs: SlubPercpuSheaves) -> SlubPercpuSheaves | None:
    """KERNEL-7.2 N1.8: have a main sheaf with room. The lock is held, and held again, perhaps on another CPU.

    None: it is not held, and there is no room.
    """
    while True:
        barn = get_barn(ctx, s)
        if not s.sheaf_capacity or barn is None:
            unlock_sheaves(ctx, pcs)
            return None
        has_room, empty = await make_room(ctx, s, pcs, barn)
        if has_room:
            return pcs
        empty = empty or await alloc_empty_sheaf(ctx, s, GFP_NOWAIT)
        if empty is None and not await sheaf_try_flush_main(ctx, s):
            return None
        now = await trylock_sheaves(ctx, s)
        if empty is not None:
            if now is None:
                await barn_put_empty_sheaf(ctx, barn, empty)
            else:
                await __pcs_install_empty_sheaf(ctx, now, empty, barn)
            return now
        if now is None or now.main.has_room:
            return now
        pcs = now


async def make_room(
    ctx: Context, s: KmemCache, pcs: SlubPercpuSheaves, barn: NodeBarn
) -> tuple[bool, SlabSheaf | None]:
    """KERNEL-7.2 N1.8, steps 2 to 4: whether main has room; else unlock, and return an empty sheaf if there is one."""
    empty: SlabSheaf | None = None
    if pcs.spare is None:
        empty = await barn_get_empty_sheaf(ctx, barn)
        if empty is not None:
            pcs.spare, pcs.main = pcs.main, empty
            return True, None
    elif pcs.spare.has_room:
        pcs.main, pcs.spare = pcs.spare, pcs.main
        return True, None
    else:
        empty, are_too_many = await barn_replace_full_sheaf(ctx, barn, pcs.main)
        if empty is not None:
            pcs.main = empty
            return True, None
        if are_too_many:
            empty, pcs.spare = pcs.spare, None
    unlock_sheaves(ctx, pcs)
    if empty is not None:
        await sheaf_flush_unused(ctx, s, empty)
    return False, empty


@kernel_fn("__pcs_install_empty_sheaf", "mm/slub.c", profiles="7.2..")
async def __pcs_install_empty_sheaf(ctx: Context, pcs: SlubPercpuSheaves, empty: SlabSheaf, barn: NodeBarn) -> None:
    """KERNEL-7.2 N1.8, step 6: use the *empty* sheaf here, if it is still wanted; else put it into *barn*."""
    if pcs.spare is None:
        pcs.spare, pcs.main = pcs.main, empty
    elif pcs.main.has_room:
        await barn_put_empty_sheaf(ctx, barn, empty)
    elif pcs.spare.has_room:
        pcs.main, pcs.spare = pcs.spare, pcs.main
        await barn_put_empty_sheaf(ctx, barn, empty)
    else:
        await barn_put_full_sheaf(ctx, barn, pcs.main)
        pcs.main = empty


@kernel_fn("sheaf_try_flush_main", "mm/slub.c", profiles="7.2..")
async def sheaf_try_flush_main(ctx: Context, s: KmemCache) -> bool:
    """KERNEL-7.2 N1.8, step 5: free the objects of the main sheaf to their slabs; False if the lock was never had."""
    has_flushed = False
    while (pcs := await trylock_sheaves(ctx, s)) is not None:
        has_flushed = True
        if not await flush_main_batch(ctx, s, pcs):
            break
    return has_flushed


async def flush_main_batch(ctx: Context, s: KmemCache, pcs: SlubPercpuSheaves) -> int:
    """Free up to 32 objects of the main sheaf, whose lock is dropped first; return the number of those left."""
    await use_sheaves(ctx, pcs)
    objects = pcs.main.objects
    batch = objects[-PCS_BATCH_MAX:]
    del objects[-PCS_BATCH_MAX:]
    left = len(objects)
    unlock_sheaves(ctx, pcs)
    await __kmem_cache_free_bulk(ctx, s, batch)
    return left


@kernel_fn("memcg_alloc_abort_single", "mm/slub.c", profiles="7.2..")
async def memcg_alloc_abort_single_7_2(ctx: Context, s: KmemCache, obj: SlabObject) -> None:
    """Free an object that could not be charged, to its slab."""
    mark_freed(ctx, obj)
    await __slab_free_7_2(ctx, s, obj)


@kernel_fn("__slab_free", "mm/slub.c", profiles="7.2..")
async def __slab_free_7_2(ctx: Context, s: KmemCache, obj: SlabObject, rest: tuple[int, ...] = ()) -> None:
    """KERNEL-7.2 N1.6, step 6: push *obj* and *rest* onto their slab's freelist.

    Under list_lock, if the slab was full or becomes empty. A full one goes on the node's list; an empty one may go. If
    the slab has free objects and is on no list, a refill has it, which will find them.
    """
    slab = obj.slab
    n = s.node[slab.nid]
    is_listed = False
    while True:
        old = await ctx.ask(slab.read_counters)
        new = SlabCounters(joined(obj.at, rest, old.freelist), old.inuse - 1 - len(rest), old.frozen)
        was_full = old.freelist is None
        takes_lock = was_full or not new.inuse
        if takes_lock:
            flags = await spin_lock_irqsave(ctx, n.list_lock)
            is_listed = n.has_partial(slab)
        if await ctx.ask(slab.cmpxchg_double, old, new):
            break
        if takes_lock:
            await spin_unlock_irqrestore(ctx, n.list_lock, flags)
    if not takes_lock:
        return
    is_surplus = False
    if was_full or is_listed:
        is_surplus = not new.inuse and await is_enough(ctx, s, n)
        if is_surplus and not was_full:
            await ctx.ask(n.remove_partial, slab)
        elif was_full and not is_surplus:
            await ctx.ask(n.add_partial, slab, tail=True)
    await spin_unlock_irqrestore(ctx, n.list_lock, flags)
    if is_surplus:
        await discard_slab(ctx, s, slab)


@kernel_fn("kmem_cache_free_bulk", "mm/slub.c", profiles="7.2..")
async def kmem_cache_free_bulk_7_2(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> None:
    """Uncharge and free *objects* of one cache: to this CPU's sheaves if it has them, else to their slabs."""
    p = list(objects)
    if p and s.sheaf_capacity:
        await free_to_pcs_bulk(ctx, s, p)
        return
    while p:
        taken = build_detached_freelist_7_2(ctx, p)
        for obj in taken:
            mark_freed(ctx, obj)
        await memcg_slab_free_hook(ctx, s, taken)
        await free_chain(ctx, s, taken)


@kernel_fn("free_to_pcs_bulk", "mm/slub.c", profiles="7.2..")
async def free_to_pcs_bulk(ctx: Context, s: KmemCache, p: list[SlabObject]) -> None:
    """Uncharge each object; then put those of this CPU's node into its sheaves, as long as there is room in them."""
    for obj in p:
        mark_freed(ctx, obj)
        await memcg_slab_free_hook(ctx, s, (obj,))
    await put_into_sheaves(ctx, s, p)


async def put_into_sheaves(ctx: Context, s: KmemCache, p: list[SlabObject]) -> None:
    """The part of free_to_pcs_bulk() after the hooks; what does not go into a sheaf goes to its slab."""
    node = ctx.numa_node
    local = [obj for obj in p if obj.slab.nid == node]
    while local:
        pcs = await trylock_sheaves(ctx, s)
        if pcs is None:
            break
        if not pcs.main.has_room and not await has_room_for_bulk(ctx, s, pcs):
            unlock_sheaves(ctx, pcs)
            break
        await use_sheaves(ctx, pcs)
        room = s.sheaf_capacity - len(pcs.main.objects)
        pcs.main.objects += local[:room]
        unlock_sheaves(ctx, pcs)
        del local[:room]
    await __kmem_cache_free_bulk(ctx, s, local)
    await __kmem_cache_free_bulk(ctx, s, [obj for obj in p if obj.slab.nid != node])


async def has_room_for_bulk(ctx: Context, s: KmemCache, pcs: SlubPercpuSheaves) -> bool:
    """Replace a full main sheaf, if that takes no new sheaf; the lock stays held."""
    barn = get_barn(ctx, s)
    if barn is None:
        return False
    if pcs.spare is not None and pcs.spare.has_room:
        pcs.main, pcs.spare = pcs.spare, pcs.main
        return True
    if pcs.spare is None:
        empty = await barn_get_empty_sheaf(ctx, barn)
        if empty is not None:
            pcs.spare = pcs.main
    else:
        empty, _ = await barn_replace_full_sheaf(ctx, barn, pcs.main)
    if empty is not None:
        pcs.main = empty
    return empty is not None


@kernel_fn("__kmem_cache_free_bulk", "mm/slub.c", profiles="7.2..")
async def __kmem_cache_free_bulk(ctx: Context, s: KmemCache, objects: Iterable[SlabObject]) -> None:
    """Free objects that are uncharged to their slabs, in chains for each slab."""
    p = list(objects)
    while p:
        await free_chain(ctx, s, build_detached_freelist_7_2(ctx, p))


async def free_chain(ctx: Context, s: KmemCache, taken: Sequence[SlabObject]) -> None:
    """__slab_free() of objects of one slab at once."""
    await __slab_free_7_2(ctx, s, taken[0], tuple(obj.at for obj in taken[1:]))


@kernel_fn("build_detached_freelist", "mm/slub.c", profiles="7.2..")
def build_detached_freelist_7_2(_ctx: Context, p: list[SlabObject]) -> list[SlabObject]:
    """Take the last object of *p* and others of its slab off the list *p*, in the order of their chain.

    The search skips two objects of other slabs and ends at the third. Skipped objects move towards the end.
    """
    last = p[-1]
    taken = [last]
    size = same = len(p) - 1
    lookahead = LOOKAHEAD
    while size and lookahead:
        size -= 1
        obj = p[size]
        if obj.slab is last.slab:
            taken.insert(0, obj)
            same -= 1
            p[size], p[same] = p[same], p[size]
        else:
            lookahead -= 1
    del p[same:]
    return taken


# -- kfree_rcu() ------------------------------------------------------------------------------------------------------


@kernel_fn("__kfree_rcu_sheaf", "mm/slub.c", profiles="7.2..")
async def __kfree_rcu_sheaf(ctx: Context, s: KmemCache, obj: SlabObject) -> bool:
    """KERNEL-7.2 N2.1: put *obj* into this CPU's rcu sheaf; a full one waits for a grace period. False: not done.

    call_rcu() comes before the unlock: a barrier that has had the lock here afterwards waits for the callback.
    """
    pcs = await trylock_sheaves(ctx, s)
    if pcs is not None and pcs.rcu_free is None:
        pcs = await get_rcu_free(ctx, s, pcs)
    if pcs is None:
        return False
    await use_sheaves(ctx, pcs)
    sheaf = deref(pcs.rcu_free, "__kfree_rcu_sheaf(): pcs->rcu_free")
    sheaf.objects.append(obj)
    if not sheaf.has_room:
        pcs.rcu_free = None
        sheaf.nid = ctx.numa_node
        await call_rcu(ctx, RcuHead(sheaf), rcu_free_sheaf)
    unlock_sheaves(ctx, pcs)
    return True


async def get_rcu_free(ctx: Context, s: KmemCache, pcs: SlubPercpuSheaves) -> SlubPercpuSheaves | None:
    """KERNEL-7.2 N2.1, step 2: have an rcu sheaf. The lock is held, and held again, perhaps on another CPU, or None."""
    barn = get_barn(ctx, s)
    if not s.sheaf_capacity or barn is None:
        unlock_sheaves(ctx, pcs)
        return None
    if pcs.spare is not None and not pcs.spare.objects:
        pcs.rcu_free, pcs.spare = pcs.spare, None
        return pcs
    empty = await barn_get_empty_sheaf(ctx, barn)
    if empty is not None:
        pcs.rcu_free = empty
        return pcs
    unlock_sheaves(ctx, pcs)
    empty = await alloc_empty_sheaf(ctx, s, GFP_NOWAIT)
    if empty is None:
        return None
    now = await trylock_sheaves(ctx, s)
    if now is not None and now.rcu_free is None:
        now.rcu_free = empty
    else:
        await barn_put_empty_sheaf(ctx, barn, empty)
    return now


@kernel_fn("rcu_free_sheaf", "mm/slub.c", profiles="7.2..")
async def rcu_free_sheaf(ctx: Context, head: RcuHead) -> None:
    """KERNEL-7.2 N2.2: RCU callback: uncharge the objects; then the sheaf is a full one of the barn."""
    sheaf = sheaf_of(head)
    s = sheaf.cache
    await __rcu_free_sheaf_prepare(ctx, s, sheaf)
    barn = deref(s.node[sheaf.nid].barn, "rcu_free_sheaf(): get_node(s, sheaf->node)->barn")
    if await ctx.ask(barn.read_nr_full) < MAX_FULL_SHEAVES:
        await barn_put_full_sheaf(ctx, barn, sheaf)
        return
    await sheaf_flush_unused(ctx, s, sheaf)
    if await ctx.ask(barn.read_nr_empty) < MAX_EMPTY_SHEAVES:
        await barn_put_empty_sheaf(ctx, barn, sheaf)
    else:
        free_empty_sheaf(ctx, sheaf)


@kernel_fn("rcu_free_sheaf_nobarn", "mm/slub.c", profiles="7.2..")
async def rcu_free_sheaf_nobarn(ctx: Context, head: RcuHead) -> None:
    """KERNEL-7.2 N2.2': RCU callback of a flush: uncharge the objects, and free them to their slabs."""
    sheaf = sheaf_of(head)
    await __rcu_free_sheaf_prepare(ctx, sheaf.cache, sheaf)
    await sheaf_flush_unused(ctx, sheaf.cache, sheaf)
    free_empty_sheaf(ctx, sheaf)


@kernel_fn("__rcu_free_sheaf_prepare", "mm/slub.c", profiles="7.2..")
async def __rcu_free_sheaf_prepare(ctx: Context, s: KmemCache, sheaf: SlabSheaf) -> None:
    """The grace period is over: uncharge each object, which may release its obj_cgroup."""
    if s.freed is not None:
        ctx.world.raise_use_after_free(s)
    for obj in sheaf.objects:
        ctx.machine.objects.take_back(ctx, obj, "kfree_rcu")
        mark_freed(ctx, obj)
        await memcg_slab_free_hook(ctx, s, (obj,))


def sheaf_of(head: RcuHead) -> SlabSheaf:
    """container_of(): the sheaf that contains an rcu_head."""
    assert isinstance(head.container, SlabSheaf)
    return head.container


@kernel_fn("flush_rcu_sheaf", "mm/slub.c", profiles="7.2..")
async def flush_rcu_sheaf(ctx: Context, work: Work) -> None:
    """KERNEL-7.2 N2.4, step 1, on each CPU: its rcu sheaf waits for a grace period, full or not."""
    s = cache_of_flush(work)
    pcs = await lock_sheaves(ctx, s)
    sheaf, pcs.rcu_free = pcs.rcu_free, None
    unlock_sheaves(ctx, pcs)
    if sheaf is not None:
        await call_rcu(ctx, RcuHead(sheaf), rcu_free_sheaf_nobarn)


@kernel_fn("flush_rcu_sheaves_on_cache", "mm/slub.c", profiles="7.2..")
async def flush_rcu_sheaves_on_cache(ctx: Context, s: KmemCache) -> None:
    """KERNEL-7.2 N2.4, step 1: on every CPU, also on those without an rcu sheaf. CPU hotplug is locked out.

    A work that has run on a CPU proves that a kfree_rcu() there, which came before, has done its call_rcu().
    """
    async with MutexHeld(ctx, ctx.machine.flush_lock):
        works = [await queue_flush(ctx, s, pcs.cpu, flush_rcu_sheaf) for pcs in s.cpu_sheaves]
        for work in works:
            await flush_work(ctx, work)


# -- flush, shrink, shutdown ------------------------------------------------------------------------------------------


async def queue_flush(ctx: Context, s: KmemCache, cpu: int, func: WorkFunc) -> Work:
    """Have *func* run for the cache on a CPU, by the work of that CPU, which flush_lock protects."""
    sfw = ctx.machine.slub_flush[cpu]
    sfw.s = s
    sfw.work.init_work(func)
    await queue_work_on(ctx, cpu, ctx.machine.slub_flushwq, sfw.work)
    return sfw.work


def cache_of_flush(work: Work) -> KmemCache:
    """The cache that a work of slub_flushwq is for."""
    sfw = work.container
    assert isinstance(sfw, SlubFlushWork)
    return deref(sfw.s, "flush_cpu_sheaves(): sfw->s")


@kernel_fn("flush_all_cpus_locked", "mm/slub.c", profiles="7.2..")
async def flush_all_cpus_locked_7_2(ctx: Context, s: KmemCache) -> None:
    """KERNEL-7.2 N1.9: let every CPU give its sheaves up that seems to have objects; CPU hotplug is locked out."""
    async with MutexHeld(ctx, ctx.machine.flush_lock):
        works = [
            await queue_flush(ctx, s, pcs.cpu, flush_cpu_sheaves)
            for pcs in s.cpu_sheaves
            if await has_pcs_used(ctx, pcs)  # may be stale from here on
        ]
        for work in works:
            await flush_work(ctx, work)


@kernel_fn("has_pcs_used", "mm/slub.c", profiles="7.2..")
async def has_pcs_used(ctx: Context, pcs: SlubPercpuSheaves) -> bool:
    """Three looks at another CPU's sheaves, without a lock. An allocation or a free may swap them in between."""
    return await ctx.ask(pcs.has_spare) or await ctx.ask(pcs.has_rcu_free) or await ctx.ask(pcs.has_objects)


@kernel_fn("flush_cpu_sheaves", "mm/slub.c", profiles="7.2..")
async def flush_cpu_sheaves(ctx: Context, work: Work) -> None:
    """A work of slub_flushwq: flush the sheaves of this CPU."""
    s = cache_of_flush(work)
    if s.sheaf_capacity:
        await pcs_flush_all(ctx, s)


@kernel_fn("pcs_flush_all", "mm/slub.c", profiles="7.2..")
async def pcs_flush_all(ctx: Context, s: KmemCache) -> None:
    """KERNEL-7.2 N1.9: free the objects of spare and main to their slabs; those of the rcu sheaf wait for RCU."""
    pcs = await lock_sheaves(ctx, s)
    await use_sheaves(ctx, pcs)
    spare, pcs.spare = pcs.spare, None
    rcu_free, pcs.rcu_free = pcs.rcu_free, None
    unlock_sheaves(ctx, pcs)
    if spare is not None:
        await sheaf_flush_unused(ctx, s, spare)
        free_empty_sheaf(ctx, spare)
    if rcu_free is not None:
        await call_rcu(ctx, RcuHead(rcu_free), rcu_free_sheaf_nobarn)
    await sheaf_flush_main(ctx, s)


@kernel_fn("sheaf_flush_main", "mm/slub.c", profiles="7.2..")
async def sheaf_flush_main(ctx: Context, s: KmemCache) -> None:
    """Free the objects of the main sheaf to their slabs, 32 at a time, until none is left."""
    while await flush_main_batch(ctx, s, await lock_sheaves(ctx, s)):
        pass


@kernel_fn("__kmem_cache_shrink", "mm/slub.c", profiles="7.2..")
async def __kmem_cache_shrink_7_2(ctx: Context, s: KmemCache) -> bool:
    """KERNEL-7.2 N1.10: flush the CPUs, empty the barns, free the empty slabs; True if any slab remains.

    A CPU that uses the cache in between has filled its sheaves again.
    """
    await flush_all_6_12(ctx, s)
    await shrink_barns(ctx, s)
    return await __kmem_cache_do_shrink(ctx, s)


@kernel_fn("__kmem_cache_shutdown", "mm/slub.c", profiles="7.2..")
async def __kmem_cache_shutdown_7_2(ctx: Context, s: KmemCache) -> bool:
    """KERNEL-7.2 N1.10: free all sheaves and slabs; True (failure) if objects remain. CPU hotplug is locked out.

    The flush gives the rcu sheaves to RCU: the rcu_barrier() waits for them, with slab_mutex held.
    """
    await flush_all_cpus_locked(ctx, s)
    if s.sheaf_capacity:
        await rcu_barrier(ctx)
    return await free_nodes(ctx, s)


async def free_nodes(ctx: Context, s: KmemCache) -> bool:
    """The end of the shutdown: barns and empty slabs; True if slabs remain."""
    await shrink_barns(ctx, s)
    for n in s.node:
        await free_partial(ctx, s, n)
        if await ctx.ask(n.read_nr_partial) or await ctx.ask(n.read_nr_slabs):
            return True
    return False


@kernel_fn("__kmem_cache_release", "mm/slub.c", profiles="7.2..")
def __kmem_cache_release_7_2(ctx: Context, s: KmemCache) -> None:
    """KERNEL-7.2 N1.10: nothing may be left in the parts, which are freed here with the struct."""
    if s.sheaf_capacity:
        pcs_destroy(ctx, s)
    for barn in (n.barn for n in s.node if n.barn is not None):
        WARN_ON(ctx, barn.full, "free_kmem_cache_nodes: n->barn->nr_full")
        WARN_ON(ctx, barn.empty, "free_kmem_cache_nodes: n->barn->nr_empty")


@kernel_fn("pcs_destroy", "mm/slub.c", profiles="7.2..")
def pcs_destroy(ctx: Context, s: KmemCache) -> None:
    """Free the main sheaf of each CPU; one with objects is leaked."""
    for pcs in s.cpu_sheaves:
        WARN_ON(ctx, pcs.spare is not None, "pcs_destroy: pcs->spare")
        WARN_ON(ctx, pcs.rcu_free is not None, "pcs_destroy: pcs->rcu_free")
        if not WARN_ON(ctx, pcs.main.objects, "pcs_destroy: pcs->main->size"):
            free_empty_sheaf(ctx, pcs.main)
