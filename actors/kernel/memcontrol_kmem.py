"""The kmem side of memory cgroups: ids, the choice and creation of child caches, offline and free.

mm/memcontrol.c @5.3.1 (and 5.2 where the `original` variants say so); KERNEL.md 3, 4.1 and 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.kernel.cgroup import CgroupSubsys, Css, css_get, css_put, css_tryget_online
from actors.kernel.context import BUG_ON, WARN_ON, Context
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.locks import MutexHeld
from actors.kernel.memcontrol import KmemState, Memcg, drain_all_stock
from actors.kernel.percpu_ref import percpu_ref_put_many, percpu_ref_tryget
from actors.kernel.rcu import RcuHead, call_rcu
from actors.kernel.slab_common import (
    memcg_create_kmem_cache,
    memcg_deactivate_kmem_caches,
    memcg_destroy_kmem_caches,
)
from actors.kernel.workqueue import Work, queue_work
from actors.system.actor import Shared
from protocol.operations import UPDATE, operation

if TYPE_CHECKING:
    from actors.kernel.slab import KmemCache

MEMCG_CACHES_MIN_SIZE = 4


@attrs.define(eq=False)
class Ida(Shared):
    """memcg_cache_ida: the kmemcg_ids in use; the lowest free one is given out."""

    used: set[int] = attrs.field(factory=set, init=False)

    @property
    def label(self) -> str:
        return "memcg_cache_ida"

    @operation(UPDATE)
    def ida_simple_get(self) -> int:
        number = next(n for n in range(len(self.used) + 1) if n not in self.used)
        self.used.add(number)
        return number

    @operation(UPDATE)
    def ida_simple_remove(self, number: int) -> None:
        self.used.remove(number)


# -- css callbacks --------------------------------------------------------------------------------------------------


@kernel_fn("mem_cgroup_css_alloc", "mm/memcontrol.c")
async def mem_cgroup_css_alloc(ctx: Context, css: Css, parent: Memcg) -> Memcg:
    """3.1.3: the memcg with its counters, kmem online."""
    memcg = Memcg.alloc(css.actor, css.cgroup.name, css, parent)
    await memcg_online_kmem(ctx, memcg)
    return memcg


@kernel_fn("memcg_online_kmem", "mm/memcontrol.c")
async def memcg_online_kmem(ctx: Context, memcg: Memcg) -> None:
    """Give *memcg* its kmemcg_id; from now on its tasks may have child caches."""
    BUG_ON(ctx, memcg.kmemcg_id >= 0, "memcg_online_kmem: kmemcg_id >= 0")
    BUG_ON(ctx, memcg.kmem_state is not KmemState.NONE, "memcg_online_kmem: kmem_state")
    kmemcg_id = await memcg_alloc_cache_id(ctx)
    await ctx.ask(ctx.machine.kmem_enabled.add, 1)
    await ctx.ask(memcg.set_kmemcg_id, kmemcg_id)
    await ctx.ask(memcg.set_kmem_state, KmemState.ONLINE)


@kernel_fn("memcg_alloc_cache_id", "mm/memcontrol.c")
async def memcg_alloc_cache_id(ctx: Context) -> int:
    """The lowest free id; if it does not fit, all arrays grow first."""
    machine = ctx.machine
    kmemcg_id = await ctx.ask(machine.memcg_cache_ida.ida_simple_get)
    if kmemcg_id >= machine.memcg_nr_cache_ids:
        size = max(2 * (kmemcg_id + 1), MEMCG_CACHES_MIN_SIZE)
        await memcg_update_all_caches(ctx, size)
    return kmemcg_id


@kernel_fn("memcg_update_all_caches", "mm/slab_common.c")
async def memcg_update_all_caches(ctx: Context, num_memcgs: int) -> None:
    """Replace the array of every root cache by a longer one; the old one lives until its readers are gone."""
    machine = ctx.machine
    async with MutexHeld(ctx, machine.slab_mutex):
        for root in tuple(machine.slab_root_caches):
            old = await ctx.ask(root.read_memcg_caches)
            new = old.grown(num_memcgs)
            await ctx.ask(root.set_memcg_caches, new)
            await call_rcu(ctx, RcuHead(old), free_memcg_cache_array)
        machine.memcg_nr_cache_ids = num_memcgs


async def free_memcg_cache_array(ctx: Context, head: RcuHead) -> None:
    """kfree_rcu() of a relocated array."""
    ctx.kfree(head.container)


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


@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c")
async def memcg_offline_kmem(ctx: Context, memcg: Memcg) -> None:
    """3.3: no new child caches; deactivate the present ones; give the ids of the subtree up."""
    if await ctx.ask(memcg.read_kmem_state) is not KmemState.ONLINE:
        return
    await ctx.ask(memcg.set_kmem_state, KmemState.ALLOCATED)
    parent = memcg.parent or ctx.machine.root_mem_cgroup
    await memcg_deactivate_kmem_caches(ctx, memcg, parent)
    kmemcg_id = await ctx.ask(memcg.read_kmemcg_id)
    parent_id = await ctx.ask(parent.read_kmemcg_id)
    BUG_ON(ctx, kmemcg_id < 0, "memcg_offline_kmem: kmemcg_id < 0")
    with ctx.rcu_read_section:
        for child in memcg.subtree():
            child_id = await ctx.ask(child.read_kmemcg_id)
            BUG_ON(ctx, child_id != kmemcg_id, "memcg_offline_kmem: kmemcg_id of a descendant")
            await ctx.ask(child.set_kmemcg_id, parent_id)
    await ctx.ask(ctx.machine.memcg_cache_ida.ida_simple_remove, kmemcg_id)


@kernel_fn("mem_cgroup_css_free", "mm/memcontrol.c")
async def mem_cgroup_css_free(ctx: Context, memcg: Memcg) -> None:
    """3.4.3: the struct goes."""
    await memcg_free_kmem(ctx, memcg)
    ctx.kfree(memcg, memcg.memory)


@kernel_fn("memcg_free_kmem", "mm/memcontrol.c", profiles="5.3..")
async def memcg_free_kmem(ctx: Context, memcg: Memcg) -> None:
    """3.5: nothing of the memcg's caches may be left here."""
    if memcg.kmem_state is KmemState.ALLOCATED:
        caches = await ctx.ask(memcg.list_kmem_caches)
        WARN_ON(ctx, caches, "memcg_free_kmem: kmem_caches is not empty")
        await ctx.ask(ctx.machine.kmem_enabled.add, -1)


@kernel_fn("memcg_free_kmem", "mm/memcontrol.c", profiles="original")
async def memcg_free_kmem_original(ctx: Context, memcg: Memcg) -> None:
    """[O]: here, and only here, its child caches go."""
    if memcg.kmem_state is KmemState.ALLOCATED:
        await memcg_destroy_kmem_caches(ctx, memcg)
        await ctx.ask(ctx.machine.kmem_enabled.add, -1)


# -- the choice of the cache (4.1) and the creation of child caches (5) ------------------------------------------------


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c", profiles="5.3..")
async def memcg_kmem_get_cache(ctx: Context, cachep: KmemCache) -> KmemCache:
    """The child cache of the current memcg with a reference held, or *cachep* itself."""
    with ctx.rcu_read_section:
        memcg = await ctx.ask(ctx.machine.cgroup_tree.read_memcg, ctx)  # may be stale from here on
        if memcg is None:
            return cachep
        kmemcg_id = await ctx.ask(memcg.read_kmemcg_id)
        if kmemcg_id < 0:
            return cachep
        array = await ctx.ask(cachep.read_memcg_caches)
        child = await ctx.ask(array.read_entry, kmemcg_id)  # may be stale from here on
        if child is None:
            await memcg_schedule_kmem_cache_create(ctx, memcg, cachep)
            return cachep
        assert child.refcnt is not None
        if not await percpu_ref_tryget(ctx, child.refcnt):
            return cachep
        child.inflight += 1
        return child


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c", profiles="original")
async def memcg_kmem_get_cache_original(ctx: Context, cachep: KmemCache) -> KmemCache:
    """[O]: the reference is to the memcg, which keeps its caches."""
    with ctx.rcu_read_section:
        memcg = await ctx.ask(ctx.machine.cgroup_tree.read_memcg, ctx)
        if memcg is None or not await css_tryget_online(ctx, memcg.css):
            return cachep
    kmemcg_id = await ctx.ask(memcg.read_kmemcg_id)
    if kmemcg_id >= 0:
        with ctx.rcu_read_section:
            array = await ctx.ask(cachep.read_memcg_caches)
            child = await ctx.ask(array.read_entry, kmemcg_id)
        if child is not None:
            child.inflight += 1
            return child
        await memcg_schedule_kmem_cache_create(ctx, memcg, cachep)
    await css_put(ctx, memcg.css)
    return cachep


@kernel_fn("memcg_kmem_put_cache", "mm/memcontrol.c", profiles="5.3..")
async def memcg_kmem_put_cache(ctx: Context, cachep: KmemCache) -> None:
    """Drop what memcg_kmem_get_cache() took."""
    if not cachep.is_root_cache:
        assert cachep.refcnt is not None
        cachep.inflight -= 1
        await percpu_ref_put_many(ctx, cachep.refcnt, 1)


@kernel_fn("memcg_kmem_put_cache", "mm/memcontrol.c", profiles="original")
async def memcg_kmem_put_cache_original(ctx: Context, cachep: KmemCache) -> None:
    if not cachep.is_root_cache:
        assert cachep.memcg is not None
        cachep.inflight -= 1
        await css_put(ctx, cachep.memcg.css)


@attrs.define(eq=False)
class MemcgKmemCacheCreateWork(Shared):
    """struct memcg_kmem_cache_create_work."""

    memcg: Memcg
    cachep: KmemCache

    @property
    def label(self) -> str:
        return f"creation of {self.cachep.name} for {self.memcg.name}"


@kernel_fn("memcg_schedule_kmem_cache_create", "mm/memcontrol.c", profiles="5.3..")
async def memcg_schedule_kmem_cache_create(ctx: Context, memcg: Memcg, cachep: KmemCache) -> None:
    """5.1: have the child cache created by a worker; every allocation that misses queues one more."""
    if await css_tryget_online(ctx, memcg.css):
        await queue_kmem_cache_create(ctx, memcg, cachep)


@kernel_fn("memcg_schedule_kmem_cache_create", "mm/memcontrol.c", profiles="original")
async def memcg_schedule_kmem_cache_create_original(ctx: Context, memcg: Memcg, cachep: KmemCache) -> None:
    """[O]: the caller holds a reference, so a plain get will do."""
    await css_get(ctx, memcg.css)
    await queue_kmem_cache_create(ctx, memcg, cachep)


async def queue_kmem_cache_create(ctx: Context, memcg: Memcg, cachep: KmemCache) -> None:
    """Queue the work that owns the css reference just taken."""
    cw = MemcgKmemCacheCreateWork(cachep.actor, memcg, cachep)
    work = Work(cw.actor, cw)
    work.init_work(memcg_kmem_cache_create_func)
    await queue_work(ctx, ctx.machine.memcg_kmem_cache_wq, work)


@kernel_fn("memcg_kmem_cache_create_func", "mm/memcontrol.c")
async def memcg_kmem_cache_create_func(ctx: Context, work: Work) -> None:
    """5.2."""
    cw = work.container
    assert isinstance(cw, MemcgKmemCacheCreateWork)
    await memcg_create_kmem_cache(ctx, cw.memcg, cw.cachep)
    await css_put(ctx, cw.memcg.css)
    ctx.kfree(cw, work)


memory_cgrp_subsys = CgroupSubsys(
    css_alloc=mem_cgroup_css_alloc,
    css_online=mem_cgroup_css_online,
    css_offline=mem_cgroup_css_offline,
    css_free=mem_cgroup_css_free,
)
