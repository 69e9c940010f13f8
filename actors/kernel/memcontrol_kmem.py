"""The kmem side of memory cgroups: ids, the choice and creation of child caches, offline and free.

mm/memcontrol.c, version by version; KERNEL.md 3, 4.1 and 5, KERNEL-v1-v3.md 2.2, 3.2, 4.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.kernel.cgroup import CgroupSubsys, Css, css_get, css_put, css_tryget_online
from actors.kernel.context import BUG_ON, WARN_ON, Context, deref
from actors.kernel.gfp import GFP_NOWAIT
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.list_lru import memcg_drain_all_list_lrus, memcg_update_all_list_lrus
from actors.kernel.locks import down_write, up_write
from actors.kernel.memcontrol import KmemState, Memcg, drain_all_stock
from actors.kernel.page_alloc import kmalloc
from actors.kernel.percpu_ref import percpu_ref_get, percpu_ref_put, percpu_ref_tryget
from actors.kernel.slab_common import memcg_deactivate_kmem_caches, memcg_update_all_caches
from actors.kernel.slab_create import memcg_create_kmem_cache
from actors.kernel.slab_destroy import memcg_destroy_kmem_caches
from actors.kernel.vmstat import memcg_flush_percpu_vmstats
from actors.kernel.workqueue import Work, queue_work
from actors.system.actor import Shared

if TYPE_CHECKING:
    from actors.kernel.kmem_cache import KmemCache

MEMCG_CACHES_MIN_SIZE = 4


# -- css callbacks ----------------------------------------------------------------------------------------------------


@kernel_fn("mem_cgroup_css_alloc", "mm/memcontrol.c")
async def mem_cgroup_css_alloc(ctx: Context, css: Css, parent_css: Css) -> Memcg:
    """3.1.3: the memcg with its counters, kmem online."""
    memcg = ctx.machine.new_memcg(css, parent_css.memcg)
    await memcg_online_kmem(ctx, memcg)
    return memcg


@kernel_fn("memcg_online_kmem", "mm/memcontrol.c")
async def memcg_online_kmem(ctx: Context, memcg: Memcg) -> None:
    """Give *memcg* its kmemcg_id; from now on its tasks may have child caches."""
    BUG_ON(ctx, await ctx.ask(memcg.read_kmemcg_id) >= 0, "memcg_online_kmem: memcg->kmemcg_id >= 0")
    kmem_state = await ctx.ask(memcg.read_kmem_state)
    BUG_ON(ctx, kmem_state is not KmemState.NONE, "memcg_online_kmem: memcg->kmem_state")
    kmemcg_id = await memcg_alloc_cache_id(ctx)
    await ctx.ask(ctx.machine.kmem_enabled.add, 1)
    await ctx.ask(memcg.set_kmemcg_id, kmemcg_id)
    await ctx.ask(memcg.set_kmem_state, KmemState.ONLINE)


@kernel_fn("memcg_alloc_cache_id", "mm/memcontrol.c")
async def memcg_alloc_cache_id(ctx: Context) -> int:
    """The lowest free id; if it does not fit, all arrays grow first."""
    machine = ctx.machine
    kmemcg_id = await ctx.ask(machine.memcg_cache_ida.ida_simple_get)
    if kmemcg_id < machine.memcg_nr_cache_ids:
        return kmemcg_id
    await down_write(ctx, machine.memcg_cache_ids_sem)
    size = max(2 * (kmemcg_id + 1), MEMCG_CACHES_MIN_SIZE)
    await memcg_update_all_caches(ctx, size)
    await memcg_update_all_list_lrus(ctx, size)
    machine.memcg_nr_cache_ids = size
    await up_write(ctx, machine.memcg_cache_ids_sem)
    return kmemcg_id


@kernel_fn("mem_cgroup_css_online", "mm/memcontrol.c")
async def mem_cgroup_css_online(ctx: Context, memcg: Memcg) -> None:
    """3.1.5: the id's reference pins the css until offline."""
    await ctx.ask(memcg.add_id_ref, 1)
    await css_get(ctx, memcg.css)


@kernel_fn("mem_cgroup_css_offline", "mm/memcontrol.c")
async def mem_cgroup_css_offline(ctx: Context, memcg: Memcg) -> None:
    """3.2.5a to d."""
    await memcg_offline_kmem(ctx, memcg)
    await drain_all_stock(ctx, memcg)
    await mem_cgroup_id_put(ctx, memcg)


@kernel_fn("mem_cgroup_id_put", "mm/memcontrol.c")
async def mem_cgroup_id_put(ctx: Context, memcg: Memcg) -> None:
    if await ctx.ask(memcg.add_id_ref, -1) == 0:
        await css_put(ctx, memcg.css)


@kernel_fn("mem_cgroup_css_released", "mm/memcontrol.c")
async def mem_cgroup_css_released(ctx: Context, memcg: Memcg) -> None:
    """Invalidate reclaim's iterators; the model's reclaim has none."""


# -- offline (3.3) ----------------------------------------------------------------------------------------------------


@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c", profiles="v2..v7,5.4-fixed")
async def memcg_offline_kmem(ctx: Context, memcg: Memcg) -> None:
    """No new child caches; deactivate the present ones and move them to the parent; give the ids up."""
    if await ctx.ask(memcg.read_kmem_state) is not KmemState.ONLINE:
        return
    await ctx.ask(memcg.set_kmem_state, KmemState.ALLOCATED)
    parent = memcg.parent or ctx.machine.root_mem_cgroup
    await memcg_deactivate_kmem_caches(ctx, memcg, parent)
    await reparent_ids(ctx, memcg, parent)


@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c", profiles="5.3")
async def memcg_offline_kmem_5_3(ctx: Context, memcg: Memcg) -> None:
    """[M]: flushes the slab statistics, too, for nothing of them reaches the memcg any more."""
    if await ctx.ask(memcg.read_kmem_state) is not KmemState.ONLINE:
        return
    await ctx.ask(memcg.set_kmem_state, KmemState.ALLOCATED)
    parent = memcg.parent or ctx.machine.root_mem_cgroup
    await memcg_deactivate_kmem_caches(ctx, memcg, parent)
    await memcg_flush_percpu_vmstats(ctx, memcg, slab_only=True)
    await reparent_ids(ctx, memcg, parent)


@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c", profiles="original..v1")
async def memcg_offline_kmem_v1(ctx: Context, memcg: Memcg) -> None:
    """[O], [v1]: deactivation does not know the parent."""
    if await ctx.ask(memcg.read_kmem_state) is not KmemState.ONLINE:
        return
    await ctx.ask(memcg.set_kmem_state, KmemState.ALLOCATED)
    await memcg_deactivate_kmem_caches(ctx, memcg, None)
    await reparent_ids(ctx, memcg, memcg.parent or ctx.machine.root_mem_cgroup)


async def reparent_ids(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """3.3.5 to 7: the subtree's ids become the parent's, the LRU lists follow, the id is free for others."""
    kmemcg_id = await ctx.ask(memcg.read_kmemcg_id)
    BUG_ON(ctx, kmemcg_id < 0, "memcg_offline_kmem: kmemcg_id < 0")
    with ctx.rcu_read_section:
        for child in await ctx.ask(memcg.list_subtree):
            child_id = await ctx.ask(child.read_kmemcg_id)
            BUG_ON(ctx, child_id != kmemcg_id, "memcg_offline_kmem: child->kmemcg_id != kmemcg_id")
            await ctx.ask(child.set_kmemcg_id, await ctx.ask(parent.read_kmemcg_id))
    await memcg_drain_all_list_lrus(ctx, kmemcg_id, parent)
    await memcg_free_cache_id(ctx, kmemcg_id)


@kernel_fn("memcg_free_cache_id", "mm/memcontrol.c")
async def memcg_free_cache_id(ctx: Context, kmemcg_id: int) -> None:
    """3.3.7: the id may be given out again at once."""
    await ctx.ask(ctx.machine.memcg_cache_ida.ida_simple_remove, kmemcg_id)


# -- the end (3.4.3, 3.5) ---------------------------------------------------------------------------------------------


@kernel_fn("mem_cgroup_css_free", "mm/memcontrol.c")
async def mem_cgroup_css_free(ctx: Context, memcg: Memcg) -> None:
    await memcg_free_kmem(ctx, memcg)
    await mem_cgroup_free(ctx, memcg)


@kernel_fn("mem_cgroup_free", "mm/memcontrol.c", profiles="5.3..")
async def mem_cgroup_free(ctx: Context, memcg: Memcg) -> None:
    """Hand what is pending in the statistics to the ancestors, then free the struct."""
    await memcg_flush_percpu_vmstats(ctx, memcg, slab_only=False)
    ctx.kfree(*memcg.parts())


@kernel_fn("mem_cgroup_free", "mm/memcontrol.c", profiles="..v7")
async def mem_cgroup_free_until_v7(ctx: Context, memcg: Memcg) -> None:
    """What is pending in the statistics is lost with the struct."""
    ctx.kfree(*memcg.parts())


@kernel_fn("memcg_free_kmem", "mm/memcontrol.c", profiles="v1..")
async def memcg_free_kmem(ctx: Context, memcg: Memcg) -> None:
    """Nothing of the memcg's caches may be left here; its own counters may be above zero (7.5)."""
    if await ctx.ask(memcg.read_kmem_state) is KmemState.ONLINE:  # css_alloc failed, it never was online
        await memcg_offline_kmem(ctx, memcg)
    if await ctx.ask(memcg.read_kmem_state) is KmemState.ALLOCATED:
        caches = await ctx.ask(memcg.list_kmem_caches)
        WARN_ON(ctx, caches, "memcg_free_kmem: !list_empty(&memcg->kmem_caches)")
        await ctx.ask(ctx.machine.kmem_enabled.add, -1)


@kernel_fn("memcg_free_kmem", "mm/memcontrol.c", profiles="original")
async def memcg_free_kmem_original(ctx: Context, memcg: Memcg) -> None:
    """[O]: here, and only here, its child caches go, and nothing may be charged any more."""
    if await ctx.ask(memcg.read_kmem_state) is KmemState.ONLINE:
        await memcg_offline_kmem(ctx, memcg)
    if await ctx.ask(memcg.read_kmem_state) is KmemState.ALLOCATED:
        await memcg_destroy_kmem_caches(ctx, memcg)
        await ctx.ask(ctx.machine.kmem_enabled.add, -1)
        WARN_ON(ctx, memcg.kmem and memcg.kmem.usage, "memcg_free_kmem: page_counter_read(&memcg->kmem)")


# -- the choice of the cache (4.1) ------------------------------------------------------------------------------------


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c", profiles="v5..")
async def memcg_kmem_get_cache(ctx: Context, cachep: KmemCache) -> KmemCache:
    """The child cache of the current memcg with a reference held, or *cachep* itself."""
    BUG_ON(ctx, not cachep.is_root_cache, "memcg_kmem_get_cache: VM_BUG_ON(!is_root_cache(cachep))")
    if memcg_kmem_bypass(ctx):
        return cachep
    with ctx.rcu_read_section:
        return await find_child_cache(ctx, cachep)


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c", profiles="v3..v4")
async def memcg_kmem_get_cache_v3(ctx: Context, cachep: KmemCache) -> KmemCache:
    """[v3], [v4]: the exit label locks once more, where it should unlock."""
    BUG_ON(ctx, not cachep.is_root_cache, "memcg_kmem_get_cache: VM_BUG_ON(!is_root_cache(cachep))")
    if memcg_kmem_bypass(ctx):
        return cachep
    ctx.rcu_read_lock()
    child = await find_child_cache(ctx, cachep)
    ctx.rcu_read_lock()
    return child


async def find_child_cache(ctx: Context, cachep: KmemCache) -> KmemCache:
    """4.1.M steps 1 to 3, under RCU."""
    memcg = await get_memcg(ctx)  # may be stale from here on
    if memcg is None or memcg.is_root:
        return cachep
    kmemcg_id = await ctx.ask(memcg.read_kmemcg_id)
    if kmemcg_id < 0:
        return cachep
    child = await read_entry(ctx, cachep, kmemcg_id)
    if child is None:
        await memcg_schedule_kmem_cache_create(ctx, memcg, cachep)
        return cachep
    if not await percpu_ref_tryget(ctx, child.percpu_refcnt):
        return cachep
    child.begin_allocation(ctx)
    return child


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c", profiles="v2")
async def memcg_kmem_get_cache_v2(ctx: Context, cachep: KmemCache) -> KmemCache:
    """[v2]: the memcg is held while the cache is looked up, then the cache is."""
    BUG_ON(ctx, not cachep.is_root_cache, "memcg_kmem_get_cache: VM_BUG_ON(!is_root_cache(cachep))")
    if memcg_kmem_bypass(ctx):
        return cachep
    memcg = await get_mem_cgroup_from_current(ctx)
    kmemcg_id = await ctx.ask(memcg.read_kmemcg_id)
    child = None
    if kmemcg_id >= 0:
        with ctx.rcu_read_section:
            child = await read_entry(ctx, cachep, kmemcg_id)
        if child is None:
            await memcg_schedule_kmem_cache_create(ctx, memcg, cachep)
        else:
            await percpu_ref_get(ctx, child.percpu_refcnt)
            child.begin_allocation(ctx)
    await css_put(ctx, memcg.css)
    return child or cachep


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c", profiles="original..v1")
async def memcg_kmem_get_cache_original(ctx: Context, cachep: KmemCache) -> KmemCache:
    """[O], [v1]: the reference is to the memcg; [O] lets it keep its caches."""
    BUG_ON(ctx, not cachep.is_root_cache, "memcg_kmem_get_cache: VM_BUG_ON(!is_root_cache(cachep))")
    if memcg_kmem_bypass(ctx):
        return cachep
    memcg = await get_mem_cgroup_from_current(ctx)
    kmemcg_id = await ctx.ask(memcg.read_kmemcg_id)
    if kmemcg_id >= 0:
        with ctx.rcu_read_section:
            child = await read_entry(ctx, cachep, kmemcg_id)
        if child is not None:
            child.begin_allocation(ctx)
            return child
        await memcg_schedule_kmem_cache_create(ctx, memcg, cachep)
    await css_put(ctx, memcg.css)
    return cachep


@kernel_fn("memcg_kmem_bypass", "mm/memcontrol.c")
def memcg_kmem_bypass(ctx: Context) -> bool:
    """Interrupts and kernel threads are not accounted."""
    return ctx.in_handler or not ctx.has_mm


async def get_memcg(ctx: Context) -> Memcg | None:
    """active_memcg, or the task's; None for the root's. RCU keeps it from being freed, and nothing else."""
    return ctx.active_memcg or await ctx.ask(ctx.machine.cgroup_tree.read_memcg, ctx)


@kernel_fn("get_mem_cgroup_from_current", "mm/memcontrol.c")
async def get_mem_cgroup_from_current(ctx: Context) -> Memcg:
    """The current memcg with a css reference held. Another's memcg that is offline counts as the root's."""
    root = ctx.machine.root_mem_cgroup
    with ctx.rcu_read_section:
        if ctx.active_memcg is not None:
            return ctx.active_memcg if await css_tryget_online(ctx, ctx.active_memcg.css) else root
        while True:
            memcg = await ctx.ask(ctx.machine.cgroup_tree.read_memcg, ctx) or root
            if await css_tryget_online(ctx, memcg.css):
                return memcg


async def read_entry(ctx: Context, cachep: KmemCache, kmemcg_id: int) -> KmemCache | None:
    """cache_from_memcg_idx(): the child cache for that id, as it was at that moment."""
    array = await ctx.ask(cachep.read_memcg_caches)
    return await ctx.ask(array.read_entry, kmemcg_id)


@kernel_fn("memcg_kmem_put_cache", "mm/memcontrol.c", profiles="v2..")
async def memcg_kmem_put_cache(ctx: Context, cachep: KmemCache) -> None:
    """Drop what memcg_kmem_get_cache() took."""
    if not cachep.is_root_cache:
        cachep.end_allocation(ctx)
        await percpu_ref_put(ctx, cachep.percpu_refcnt)


@kernel_fn("memcg_kmem_put_cache", "mm/memcontrol.c", profiles="original..v1")
async def memcg_kmem_put_cache_original(ctx: Context, cachep: KmemCache) -> None:
    """[O], [v1]: the memcg is read from the cache only now; in [v1] that may be another one."""
    if not cachep.is_root_cache:
        cachep.end_allocation(ctx)
        memcg = deref(await ctx.ask(cachep.read_memcg), "memcg_kmem_put_cache(): cachep->memcg_params.memcg")
        await css_put(ctx, memcg.css)


# -- asynchronous creation (5.1, 5.2) ---------------------------------------------------------------------------------


@attrs.define(eq=False)
class MemcgKmemCacheCreateWork(Shared):
    """struct memcg_kmem_cache_create_work. It owns a css reference of its memcg."""

    memcg: Memcg
    cachep: KmemCache

    @property
    def label(self) -> str:
        return f"creation of {self.cachep.name} for {self.memcg.name}"


@kernel_fn("memcg_schedule_kmem_cache_create", "mm/memcontrol.c", profiles="v3..5.3")
async def memcg_schedule_kmem_cache_create(ctx: Context, memcg: Memcg, cachep: KmemCache) -> None:
    """5.1: have the child cache created by a worker. Without memory for that, the css reference is lost."""
    if await css_tryget_online(ctx, memcg.css) and kmalloc(ctx, GFP_NOWAIT, "work"):
        await queue_kmem_cache_create(ctx, memcg, cachep)


@kernel_fn("memcg_schedule_kmem_cache_create", "mm/memcontrol.c", profiles="5.4-fixed")
async def memcg_schedule_kmem_cache_create_fixed(ctx: Context, memcg: Memcg, cachep: KmemCache) -> None:
    """[54]: without memory for the work the css reference is given back."""
    if not await css_tryget_online(ctx, memcg.css):
        return
    if kmalloc(ctx, GFP_NOWAIT, "work"):
        await queue_kmem_cache_create(ctx, memcg, cachep)
    else:
        await css_put(ctx, memcg.css)


@kernel_fn("memcg_schedule_kmem_cache_create", "mm/memcontrol.c", profiles="..v2")
async def memcg_schedule_kmem_cache_create_original(ctx: Context, memcg: Memcg, cachep: KmemCache) -> None:
    """[O] to [v2]: the caller holds a reference, so a plain get will do."""
    if kmalloc(ctx, GFP_NOWAIT, "work"):
        await css_get(ctx, memcg.css)
        await queue_kmem_cache_create(ctx, memcg, cachep)


async def queue_kmem_cache_create(ctx: Context, memcg: Memcg, cachep: KmemCache) -> None:
    """Queue the work that owns the css reference just taken."""
    cw = MemcgKmemCacheCreateWork(cachep.actor, memcg, cachep)
    ctx.machine.pending_creations[cw] = None
    work = Work(cw.actor, cw)
    work.init_work(memcg_kmem_cache_create_func)
    await queue_work(ctx, ctx.machine.memcg_kmem_cache_wq, work)


@kernel_fn("memcg_kmem_cache_create_func", "mm/memcontrol.c")
async def memcg_kmem_cache_create_func(ctx: Context, work: Work) -> None:
    """5.2."""
    cw = work.container
    assert isinstance(cw, MemcgKmemCacheCreateWork)
    await memcg_create_kmem_cache(ctx, cw.memcg, cw.cachep)
    ctx.machine.pending_creations.pop(cw, None)
    await css_put(ctx, cw.memcg.css)
    ctx.kfree(cw, work)


memory_cgrp_subsys = CgroupSubsys(
    css_alloc=mem_cgroup_css_alloc,
    css_online=mem_cgroup_css_online,
    css_offline=mem_cgroup_css_offline,
    css_released=mem_cgroup_css_released,
    css_free=mem_cgroup_css_free,
)
