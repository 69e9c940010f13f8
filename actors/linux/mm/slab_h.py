"""Code shared by both allocators: charging, the way from an object to its cache, hooks, locks. mm/slab.h.

Version by version; KERNEL.md 4.4 and 4.5, Appendices A2 and A3, KERNEL-v1-v3 2.4, 2.5, 3.4, 3.5. Pages are charged
before they become a slab, and uncharged after they stop being one. From v1 on a page pins the cache, and the cache
pins the memcg. Before v1 a page pins the memcg. From 6.12 on pages
are not charged; objects are (`obj_cgroup`).
"""

from __future__ import annotations

import functools

import attrs

from actors.linux.include.slab import SlabFlags
from actors.linux.kernel.cgroup.cgroup import css_put, css_put_many, css_tryget_online
from actors.linux.kernel.locking.locks import down_read, mutex_lock, mutex_unlock, up_read
from actors.linux.lib.percpu_refcount import percpu_ref_get_many, percpu_ref_put_many
from actors.linux.mm.kmem_cache import KmemCache, Slab, SlabObject
from actors.linux.mm.memcontrol import (
    Memcg,
    memcg_kmem_charge_memcg,
    memcg_kmem_get_cache,
    memcg_kmem_put_cache,
    memcg_kmem_uncharge_memcg,
    mod_lruvec_state,
)
from actors.linux.mm.vmstat import mod_node_page_state
from actors.machine.context import BUG_ON, WARN_ON, Context, deref
from actors.machine.gfp import Gfp, gfpflags_allow_blocking
from actors.versions.kernel_fn import extern, kernel_fn
from protocol.findings import Oops
from protocol.formats.slabinfo import SlabinfoRow

CPU_HOTPLUG_LOCK = "cpu_hotplug_lock"

__GFP_ACCOUNT, SLAB_ACCOUNT = Gfp.ACCOUNT, SlabFlags.ACCOUNT

# -- charging ---------------------------------------------------------------------------------------------------------


@kernel_fn("charge_slab_page", "mm/slab.h", profiles="v1..5.4-fixed,v4#5..")
async def charge_slab_page(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache) -> bool:
    """Charge the pages of a future slab; False if the memcg is full. A root cache's pages are only counted."""
    if not s.is_root_cache:
        return await memcg_charge_slab(ctx, slab, gfp, s)
    await mod_node_page_state(ctx, slab.nid, s.stat_item, slab.pages)
    return True


@kernel_fn("charge_slab_page", "mm/slab.h", profiles="v4#4")
async def charge_slab_page_v4_4(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache) -> bool:
    """[v4#4]: charge the pages, then count them, with either allocator."""
    charged = await memcg_charge_slab(ctx, slab, gfp, s)
    if charged:
        await mod_lruvec_page_state(ctx, slab, s, slab.pages)
    return charged


@kernel_fn("charge_slab_page", "mm/slab.h", profiles="original..v4#3", known_as="memcg_charge_slab")
async def charge_slab_page_original(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache) -> bool:
    """[O] to [v4#3]: each page pins the memcg. The allocator's update of the statistics stands here, too."""
    charged = await charge_owner(ctx, slab, gfp, s)
    if charged:
        await mod_lruvec_page_state(ctx, slab, s, slab.pages)
    return charged


@kernel_fn("memcg_charge_slab", "mm/slab.h", profiles="v4#4")
async def memcg_charge_slab_v4_4(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache) -> bool:
    """[v4#4]: as in [O]: each page pins the memcg. A root cache's pages are not charged."""
    return await charge_owner(ctx, slab, gfp, s)


async def charge_owner(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache) -> bool:
    """[O]: charge the memcg that owns the cache, with a css reference for each page; page.mem_cgroup points to it."""
    if s.is_root_cache:
        return True
    memcg = deref(await ctx.ask(s.read_memcg), "memcg_charge_slab(): s->memcg_params.memcg")
    if not await memcg_kmem_charge_memcg(ctx, memcg, gfp, slab.pages):
        return False
    slab.memcg = memcg
    s.charged_pages += slab.pages
    return True


async def mod_lruvec_page_state(ctx: Context, slab: Slab, s: KmemCache, nr_pages: int) -> None:
    """Count slab pages by page.mem_cgroup; without one, only for the node."""
    if slab.memcg is None:
        await mod_node_page_state(ctx, slab.nid, s.stat_item, nr_pages)
    else:
        await mod_lruvec_state(ctx, slab.memcg, slab.nid, s.stat_item, nr_pages)


@kernel_fn("memcg_charge_slab", "mm/slab.h", profiles="5.3..5.4-fixed")
async def memcg_charge_slab(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache) -> bool:
    """A2: charge the cache's memcg, or its first online ancestor; the root memcg is never charged."""
    memcg = await first_online_memcg(ctx, s)
    if memcg is None or memcg.is_root:
        await mod_node_page_state(ctx, slab.nid, s.stat_item, slab.pages)
        await pin_cache(ctx, slab, s)
        return True
    return await charge_memcg(ctx, slab, gfp, s, memcg)


@kernel_fn("memcg_charge_slab", "mm/slab.h", profiles="v4..v7,v4#6..")
async def memcg_charge_slab_v4(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache) -> bool:
    """[v4] to [v7]: the root memcg is charged like any other."""
    memcg = await first_online_memcg(ctx, s)
    return memcg is not None and await charge_memcg(ctx, slab, gfp, s, memcg)


@kernel_fn("memcg_charge_slab", "mm/slab.h", profiles="v4#5")
async def memcg_charge_slab_v4_5(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache) -> bool:
    """[v4#5]: the cache pins its memcg for life, so it is charged without RCU, even after its removal."""
    return await charge_current_memcg(ctx, slab, gfp, s)


async def first_online_memcg(ctx: Context, s: KmemCache) -> Memcg | None:
    """4.4 (1): find the cache's memcg or its first online ancestor; take a css reference to it."""
    with ctx.rcu_read_section:
        memcg = await ctx.ask(s.read_memcg)  # may be stale from here on
        while memcg is not None and not await css_tryget_online(ctx, memcg.css):
            memcg = memcg.parent
    return memcg


async def charge_memcg(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache, memcg: Memcg) -> bool:
    """4.4 (3) to (7): charge *memcg*; from then on the pages pin the cache instead of the memcg."""
    charged = await memcg_kmem_charge_memcg(ctx, memcg, gfp, slab.pages)
    if charged:
        await pin_cache_instead(ctx, slab, s, memcg)
    await css_put(ctx, memcg.css)
    return charged


async def pin_cache_instead(ctx: Context, slab: Slab, s: KmemCache, memcg: Memcg) -> None:
    """Count the charged pages; let them pin the cache, and drop the css references of the charge."""
    await mod_lruvec_state(ctx, memcg, slab.nid, s.stat_item, slab.pages)
    await pin_cache(ctx, slab, s)
    await css_put_many(ctx, memcg.css, slab.pages)


async def pin_cache(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """Take one reference to the cache for each page."""
    await percpu_ref_get_many(ctx, s.percpu_refcnt, slab.pages)
    s.charged_pages += slab.pages


@kernel_fn("memcg_charge_slab", "mm/slab.h", profiles="v2..v3")
async def memcg_charge_slab_v2(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache) -> bool:
    """[v2], [v3]: the whole charge runs under RCU, though it may sleep; the memcg need not be online."""
    with ctx.rcu_read_section:
        return await charge_current_memcg(ctx, slab, gfp, s)


async def charge_current_memcg(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache) -> bool:
    """Charge the memcg that the cache has at this moment; no reference to it is taken."""
    memcg = deref(await ctx.ask(s.read_memcg), "memcg_charge_slab(): s->memcg_params.memcg")
    if not await memcg_kmem_charge_memcg(ctx, memcg, gfp, slab.pages):
        return False
    await pin_cache_instead(ctx, slab, s, memcg)
    return True


@kernel_fn("memcg_charge_slab", "mm/slab.h", profiles="v1")
async def memcg_charge_slab_v1(ctx: Context, slab: Slab, gfp: Gfp, s: KmemCache) -> bool:
    """[v1]: a failed charge is not reported, so the slab is later uncharged without having been charged."""
    memcg = deref(await ctx.ask(s.read_memcg), "memcg_charge_slab(): s->memcg_params.memcg")
    if await memcg_kmem_charge_memcg(ctx, memcg, gfp, slab.pages):
        await mod_lruvec_state(ctx, memcg, slab.nid, s.stat_item, slab.pages)
        await kmemcg_cache_get_many(ctx, s, slab.pages)
        s.charged_pages += slab.pages
        await css_put_many(ctx, memcg.css, slab.pages)
    return True


# -- uncharging -------------------------------------------------------------------------------------------------------


@kernel_fn("uncharge_slab_page", "mm/slab.h", profiles="v1..5.4-fixed,v4#5..")
async def uncharge_slab_page(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """Uncharge *slab*'s pages, after it stopped being a slab. This may drop the last reference to the cache."""
    if s.is_root_cache:
        await mod_node_page_state(ctx, slab.nid, s.stat_item, -slab.pages)
    else:
        await memcg_uncharge_slab(ctx, slab, s)


@kernel_fn("uncharge_slab_page", "mm/slab.h", profiles="v4#4")
async def uncharge_slab_page_v4_4(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """[v4#4]: uncount the pages, then uncharge them, with either allocator."""
    await mod_lruvec_page_state(ctx, slab, s, -slab.pages)
    await memcg_uncharge_slab(ctx, slab, s)


@kernel_fn("uncharge_slab_page", "mm/slab.h", profiles="original..v4#3", known_as="memcg_uncharge_slab")
async def uncharge_slab_page_original(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """[O] to [v4#3]: the allocator's update of the statistics stands here, too."""
    await mod_lruvec_page_state(ctx, slab, s, -slab.pages)
    await uncharge_owner(ctx, slab, s)


@kernel_fn("memcg_uncharge_slab", "mm/slab.h", profiles="v4#4")
async def memcg_uncharge_slab_v4_4(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """[v4#4]: as in [O]: page.mem_cgroup is uncharged, and its references are dropped."""
    await uncharge_owner(ctx, slab, s)


async def uncharge_owner(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """[O]: uncharge the memcg that the pages were charged to, if any; this may drop its last reference."""
    memcg = slab.memcg
    if memcg is None:
        return
    BUG_ON(ctx, memcg.is_root, "__memcg_kmem_uncharge: VM_BUG_ON_PAGE(mem_cgroup_is_root(memcg))")
    await memcg_kmem_uncharge_memcg(ctx, memcg, slab.pages)
    slab.memcg = None
    s.charged_pages -= slab.pages
    await css_put_many(ctx, memcg.css, slab.pages)


@kernel_fn("memcg_uncharge_slab", "mm/slab.h", profiles="5.3..5.4-fixed")
async def memcg_uncharge_slab(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """A3: uncharge the memcg that the cache has now, except the root memcg. The put is the last access to the cache."""
    with ctx.rcu_read_section:
        memcg = deref(await ctx.ask(s.read_memcg), "memcg_uncharge_slab(): s->memcg_params.memcg")
        if memcg.is_root:
            await mod_node_page_state(ctx, slab.nid, s.stat_item, -slab.pages)
        else:
            await mod_lruvec_state(ctx, memcg, slab.nid, s.stat_item, -slab.pages)
            await memcg_kmem_uncharge_memcg(ctx, memcg, slab.pages)
    s.charged_pages -= slab.pages
    await percpu_ref_put_many(ctx, s.percpu_refcnt, slab.pages)


@kernel_fn("memcg_uncharge_slab", "mm/slab.h", profiles="v2..v7,v4#6..")
async def memcg_uncharge_slab_v2(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """[v2] to [v7]: the root memcg is uncharged like any other, though it may never have been charged."""
    with ctx.rcu_read_section:
        await uncharge_current_memcg(ctx, slab, s)
    s.charged_pages -= slab.pages
    await percpu_ref_put_many(ctx, s.percpu_refcnt, slab.pages)


@kernel_fn("memcg_uncharge_slab", "mm/slab.h", profiles="v4#5")
async def memcg_uncharge_slab_v4_5(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """[v4#5]: without RCU: the pages pin the cache, and the cache its memcg for life."""
    await uncharge_current_memcg(ctx, slab, s)
    s.charged_pages -= slab.pages
    await percpu_ref_put_many(ctx, s.percpu_refcnt, slab.pages)


@kernel_fn("memcg_uncharge_slab", "mm/slab.h", profiles="v1")
async def memcg_uncharge_slab_v1(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """[v1]: uncharges even if the charge failed."""
    with ctx.rcu_read_section:
        await uncharge_current_memcg(ctx, slab, s)
    s.charged_pages -= slab.pages
    await kmemcg_cache_put_many(ctx, s, slab.pages)


async def uncharge_current_memcg(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """Subtract the pages from statistics and counters of the memcg that the cache has at this moment."""
    memcg = deref(await ctx.ask(s.read_memcg), "memcg_uncharge_slab(): s->memcg_params.memcg")
    await mod_lruvec_state(ctx, memcg, slab.nid, s.stat_item, -slab.pages)
    await memcg_kmem_uncharge_memcg(ctx, memcg, slab.pages)


@kernel_fn("kmemcg_cache_get_many", "mm/slab.h", profiles="v1")
async def kmemcg_cache_get_many(ctx: Context, s: KmemCache, nr: int) -> None:
    """[v1]: atomic_long_add(); the count is not checked."""
    await ctx.ask(s.atomic_refcnt.add, nr)


@kernel_fn("kmemcg_cache_put_many", "mm/slab.h", profiles="v1")
async def kmemcg_cache_put_many(ctx: Context, s: KmemCache, nr: int) -> None:
    """[v1]: atomic_long_sub_and_test(); each time the count falls to zero, the cache is shut down."""
    if await ctx.ask(s.atomic_refcnt.add, -nr) == 0:
        await s.atomic_refcnt.release(ctx, s)


# -- from an object to its cache --------------------------------------------------------------------------------------


@kernel_fn("cache_from_obj", "mm/slab.h", profiles="..5.4-fixed")
async def cache_from_obj(ctx: Context, s: KmemCache, obj: SlabObject) -> KmemCache:
    """The cache that *obj* is freed to: its slab's cache while kmem accounting is on, otherwise *s*."""
    mark_freed(ctx, obj)
    if not await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        return s
    cachep = obj.slab.slab_cache
    wrong = cachep is not s and cachep.root_cache is not s
    return s if WARN_ON(ctx, wrong, "cache_from_obj: Wrong slab cache") else cachep


def mark_freed(ctx: Context, obj: SlabObject) -> None:
    """Shadow accounting: mark *obj* as free; it must be allocated."""
    slab = obj.slab
    if slab.freed is not None:
        ctx.world.raise_use_after_free(slab)
    if not slab.live >> obj.at & 1:
        raise Oops("double-free", "object", f"BUG: double free of {obj.label}")
    slab.live &= ~(1 << obj.at)
    if not slab.live and SlabFlags.TYPESAFE_BY_RCU in slab.slab_cache.flags:
        slab.readers_gone = functools.partial(ctx.machine.rcu.has_passed, ctx.machine.rcu.get_state())


def mark_allocated(obj: SlabObject) -> SlabObject:
    """Shadow accounting: mark *obj* as allocated. A freelist that holds an allocated object is corrupt."""
    slab = obj.slab
    if slab.live >> obj.at & 1:
        raise Oops("double-free", "freelist", f"BUG: {obj.label} is on a freelist, and allocated")
    slab.live |= 1 << obj.at
    return obj


def forget_slab(slab: Slab) -> None:
    """Shadow accounting: *slab*'s pages are being freed; once only, and only after its RCU readers have left."""
    if slab not in slab.slab_cache.slabs:
        raise Oops("double-free", "page", f"BUG: double free of {slab.label}")
    del slab.slab_cache.slabs[slab]
    if slab.readers_gone is not None and not slab.readers_gone():
        text = f"{slab.label} is type-safe, and goes; no grace period has passed since its last object was freed"
        slab.actor.world.report("invariant", "type-safe", f"invariant type-safe: {text}")


# -- hooks before and after an allocation (KERNEL.md 4.1) -------------------------------------------------------------


@kernel_fn("slab_pre_alloc_hook", "mm/slab.h", profiles="..5.4-fixed")
async def slab_pre_alloc_hook(ctx: Context, s: KmemCache, gfp: Gfp) -> KmemCache:
    """Choose the cache: accounted allocations are served from the child cache of the task's memcg."""
    if gfpflags_allow_blocking(gfp):
        ctx.might_sleep("slab_pre_alloc_hook")
    enabled = await ctx.ask(ctx.machine.kmem_enabled.is_enabled)
    if enabled and (__GFP_ACCOUNT in gfp or SLAB_ACCOUNT in s.flags):
        return await memcg_kmem_get_cache(ctx, s)
    return s


@kernel_fn("slab_post_alloc_hook", "mm/slab.h", profiles="..5.4-fixed")
async def slab_post_alloc_hook(ctx: Context, s: KmemCache) -> None:
    """Drop the reference that the choice of the cache took, if kmem accounting is still on."""
    if await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        await memcg_kmem_put_cache(ctx, s)


# -- locks around each change of the set of caches --------------------------------------------------------------------


def get_online_cpus(ctx: Context) -> None:
    """The model has no CPU hotplug, so this never waits; lockdep records the lock order."""
    ctx.machine.lockdep.acquire(ctx, CPU_HOTPLUG_LOCK, reads=True)


def put_online_cpus(ctx: Context) -> None:
    ctx.machine.lockdep.release(ctx, CPU_HOTPLUG_LOCK)


async def get_online_mems(ctx: Context) -> None:
    """mm/memory_hotplug.c: wait while memory hotplug holds the lock for writing, or waits for it."""
    await down_read(ctx, ctx.machine.mem_hotplug_lock)


async def put_online_mems(ctx: Context) -> None:
    await up_read(ctx, ctx.machine.mem_hotplug_lock)


@attrs.define
class SlabMutexHeld:
    """`async with SlabMutexHeld(ctx):` takes both hotplug locks and slab_mutex, and releases them in reverse order."""

    ctx: Context

    async def __aenter__(self) -> None:
        get_online_cpus(self.ctx)
        await get_online_mems(self.ctx)
        await mutex_lock(self.ctx, self.ctx.machine.slab_mutex)

    async def __aexit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            await mutex_unlock(self.ctx, self.ctx.machine.slab_mutex)
            await put_online_mems(self.ctx)
            put_online_cpus(self.ctx)


# -- prototypes: each allocator defines these -------------------------------------------------------------------------


@extern
async def __kmem_cache_alias(
    ctx: Context, row: SlabinfoRow, flags: SlabFlags, *, has_ctor: bool
) -> KmemCache | None: ...


@extern
async def __kmem_cache_create(ctx: Context, s: KmemCache) -> int: ...


@extern
def __kmem_cache_release(ctx: Context, s: KmemCache) -> None: ...


@extern
async def __kmem_cache_shrink(ctx: Context, s: KmemCache) -> bool: ...


@extern
async def __kmem_cache_shutdown(ctx: Context, s: KmemCache) -> bool: ...


@extern
async def __kmemcg_cache_deactivate(ctx: Context, s: KmemCache) -> None: ...


@extern
async def __kmemcg_cache_deactivate_after_rcu(ctx: Context, s: KmemCache) -> None: ...


# -- prototypes of include/linux/slub_def.h: only SLUB has sysfs directories ------------------------------------------


@extern
async def sysfs_slab_release(ctx: Context, s: KmemCache) -> None: ...


@extern
async def sysfs_slab_unlink(ctx: Context, s: KmemCache) -> None: ...
