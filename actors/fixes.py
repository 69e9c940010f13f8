"""Upstream fixes and known variations, by slug and commit id: for `--patch` and `--without`.

Each fix is the set of functions that it changes. The kernel modules declare the functions of each profile; this module
declares the functions of a profile with a fix added or removed. Where another profile already has such a function, its
body is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.fixes_7_2 import FIXES_7_2
from actors.fixes_today import FIXES_TODAY
from actors.linux.include.slab import SlabFlags, kmem_cache_alloc_bulk
from actors.linux.kernel.cgroup.cgroup import css_get
from actors.linux.kernel.locking.locks import MutexHeld, SpinLockIrqHeld
from actors.linux.kernel.rcu.tree import call_rcu, rcu_barrier, synchronize_rcu
from actors.linux.kernel.workqueue import Work, flush_workqueue
from actors.linux.lib.percpu_refcount import PercpuRef, percpu_ref_exit
from actors.linux.mm.kmem_cache import KmemCache, cache_of
from actors.linux.mm.memcontrol import (
    Memcg,
    end_kmem,
    mem_cgroup_free,
    memcg_flush_percpu_vmstats,
    memcg_kmem_get_cache,
    memcg_offline_kmem,
    memcg_schedule_kmem_cache_create,
    warn_of_charges,
)
from actors.linux.mm.slab_common import (
    call_work_fn,
    flush_memcg_workqueue,
    free_root_array,
    kmemcg_cache_deactivate_after_rcu,
    kmemcg_cache_shutdown,
    kmemcg_cache_shutdown_fn,
    kmemcg_rcufn,
    kmemcg_workfn,
    let_memcg_go,
    memcg_set_kmem_cache_dying,
    memcg_unlink_cache,
    queue_cache_work,
    shutdown_with_children,
    slab_unmergeable,
)
from actors.linux.mm.slab_h import (
    SlabMutexHeld,
    __kmemcg_cache_deactivate,
    kmemcg_cache_put_many,
    memcg_charge_slab,
    memcg_uncharge_slab,
)
from actors.linux.mm.slub import ___slab_alloc
from actors.linux.mm.slub_sysfs import show_slab_objects
from actors.machine.context import Context, deref
from actors.versions.kernel_fn import KernelFn
from actors.versions.patching import NamedFix, unpatched
from actors.versions.profiles import declared_range

COMMON, MEMCONTROL, SLAB_H, SLUB = "mm/slab_common.c", "mm/memcontrol.c", "mm/slab.h", "mm/slub.c"


def of(function: KernelFn[Any, Any], profile: str) -> Callable[..., Any]:
    """The body of *function* in *profile* (with SLUB)."""
    body = function.body(profile, "slub")
    assert body is not None, f"{profile} has no {function.name}"
    return body.code


def fix(slug: str, commit: str, summary: str, *, built_into: str = "") -> NamedFix:
    """Declare a fix that the profiles *built_into* have; without profiles it is a variation that none has."""
    return NamedFix(slug, commit, summary, declared_range(built_into) if built_into else ())


# -- the end of root caches -------------------------------------------------------------------------------------------

destroy_vs_deferred_deactivation = fix(
    "destroy-vs-deferred-deactivation",
    "92ee383f6daa",
    "kmem_cache_destroy() waits for deferred deactivations and creations of children",
    built_into="..5.4-fixed",
)


@destroy_vs_deferred_deactivation.takes_out("flush_memcg_workqueue", COMMON, profiles="..5.4-fixed")
async def flush_nothing(ctx: Context, s: KmemCache) -> None:
    """Wait for nothing, and mark nothing as dying."""


@destroy_vs_deferred_deactivation.takes_out("memcg_set_kmem_cache_dying", COMMON, profiles="5.4-fixed")
async def mark_nothing(ctx: Context, s: KmemCache, *, dying: bool) -> None:
    """Before the fix this mark did not exist."""


flush_only = fix("flush-only", "", "a weaker form of 92ee383f6daa: flush the work queue, without rcu_barrier()")


@flush_only.puts_in("flush_memcg_workqueue", COMMON, profiles="..5.3")
async def flush_without_barrier(ctx: Context, s: KmemCache) -> None:
    """Callbacks that have not run yet queue their works after the flush."""
    await mark_dying(ctx, s)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)


synchronize_rcu_only = fix(
    "synchronize-rcu-only", "", "a weaker form of 92ee383f6daa: synchronize_rcu() instead of rcu_barrier()"
)


@synchronize_rcu_only.puts_in("flush_memcg_workqueue", COMMON, profiles="..5.3")
async def synchronize_then_flush(ctx: Context, s: KmemCache) -> None:
    """After a grace period callbacks may run, but they may not have run yet."""
    await mark_dying(ctx, s)
    await synchronize_rcu(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)


async def mark_dying(ctx: Context, s: KmemCache) -> None:
    async with MutexHeld(ctx, ctx.machine.slab_mutex):
        await ctx.ask(s.set_dying, dying=True)


exit_during_atomic_switch = fix(
    "exit-during-atomic-switch",
    "a264df74df38",
    "kmem_cache_destroy() waits for the reference counts that its flush has killed",
    built_into="5.4-fixed",
)


@exit_during_atomic_switch.puts_in("flush_memcg_workqueue", COMMON, profiles="v2..5.3,v4#5..")
async def flush_and_wait_for_children(ctx: Context, s: KmemCache) -> None:
    """If children are left, another grace period completes their switch to atomic mode."""
    await unpatched(ctx, flush_memcg_workqueue, s)
    if await ctx.ask(s.list_children):
        await rcu_barrier(ctx)


@exit_during_atomic_switch.takes_out("flush_memcg_workqueue", COMMON, profiles="5.4-fixed")
async def flush_once(ctx: Context, s: KmemCache) -> None:
    """One barrier, then one flush, no second barrier."""
    await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)


memcg_pointer_before_rcu_free = fix(
    "memcg-pointer-before-rcu-free",
    "b749ecfaf6c5",
    "a cache keeps its memcg until its struct is freed, not only until it is unlinked",
    built_into="5.4-fixed",
)


memcg_pointer_before_rcu_free.puts_in("memcg_unlink_cache", COMMON, profiles="v3..5.3,v4#5..")(
    of(memcg_unlink_cache, "5.4-fixed")
)


memcg_pointer_before_rcu_free.takes_out("memcg_unlink_cache", COMMON, profiles="5.4-fixed")(
    of(memcg_unlink_cache, "5.3")
)


@memcg_pointer_before_rcu_free.puts_in("destroy_memcg_params", COMMON, profiles="v3..5.3,v4#5..")
async def let_memcg_go_with_struct(ctx: Context, s: KmemCache) -> None:
    """The reference to the memcg is dropped here, not before."""
    if s.is_root_cache:
        await free_root_array(ctx, s)
        return
    await let_memcg_go(ctx, s)
    await percpu_ref_exit(ctx, s.percpu_refcnt)


@memcg_pointer_before_rcu_free.takes_out("destroy_memcg_params", COMMON, profiles="5.4-fixed")
async def only_exit_refcnt(ctx: Context, s: KmemCache) -> None:
    """The reference to the memcg was dropped at the unlink."""
    if s.is_root_cache:
        await free_root_array(ctx, s)
    else:
        await percpu_ref_exit(ctx, s.percpu_refcnt)


alias_marked_dying = fix(
    "alias-marked-dying",
    "d38a2b7a9c93",
    "only the last user of a merged cache marks it as dying",
    built_into="5.4-fixed",
)


@alias_marked_dying.puts_in("kmem_cache_destroy", COMMON, profiles="..5.3")
async def destroy_last_alias(ctx: Context, s: KmemCache | None) -> None:
    """Decrement the count first; mark and flush only at zero."""
    if s is None:
        return
    async with SlabMutexHeld(ctx):
        if await ctx.ask(s.add_refcount, -1) != 0:
            return
        await ctx.ask(s.set_dying, dying=True)
    await flush_memcg_workqueue(ctx, s)
    async with SlabMutexHeld(ctx):
        if await ctx.ask(s.add_refcount, 0) != 0:
            await ctx.ask(s.set_dying, dying=False)
        else:
            await shutdown_with_children(ctx, s)


@alias_marked_dying.takes_out("kmem_cache_destroy", COMMON, profiles="5.4-fixed")
async def destroy_any_alias(ctx: Context, s: KmemCache | None) -> None:
    """Mark and flush, even if the cache has other users."""
    if s is None:
        return
    await memcg_set_kmem_cache_dying(ctx, s, dying=True)
    await flush_memcg_workqueue(ctx, s)
    async with SlabMutexHeld(ctx):
        if await ctx.ask(s.add_refcount, -1) == 0:
            await shutdown_with_children(ctx, s)


dying_not_merged = fix(
    "dying-not-merged",
    "",
    "a variation: the first form of d38a2b7a9c93, which shares no cache that is being destroyed (reverted in 5.4)",
)


@dying_not_merged.puts_in("slab_unmergeable", COMMON, profiles="5.4-fixed")
async def nor_what_is_dying(ctx: Context, s: KmemCache) -> bool:
    """A dying cache is unmergeable, too: a new cache of its kind gets a sysfs directory, whose name is still taken."""
    return await unpatched(ctx, slab_unmergeable, s) or await ctx.ask(s.read_dying)


# -- deactivation and shutdown ----------------------------------------------------------------------------------------

work_fn_store_after_free = fix(
    "work-fn-store-after-free",
    "",
    "kmemcg_workfn() does not touch the cache after its work (mail of 19 Jun 2019)",
    built_into="5.3..5.4-fixed",
)


work_fn_store_after_free.puts_in("kmemcg_workfn", COMMON, profiles="v6..v7")(of(kmemcg_workfn, "5.3"))


work_fn_store_after_free.puts_in("kmemcg_workfn", COMMON, profiles="v2..v5,v4#5..", known_as="kmemcg_after_rcu_workfn")(
    of(kmemcg_workfn, "5.3")
)


work_fn_store_after_free.puts_in("kmemcg_cache_shutdown", COMMON, profiles="v6..v7")(of(kmemcg_cache_shutdown, "5.3"))


work_fn_store_after_free.takes_out("kmemcg_workfn", COMMON, profiles="5.3..5.4-fixed")(of(kmemcg_workfn, "v7"))


work_fn_store_after_free.takes_out("kmemcg_cache_shutdown", COMMON, profiles="5.3..5.4-fixed")(
    of(kmemcg_cache_shutdown, "v7")
)


@work_fn_store_after_free.puts_in("kmemcg_workfn", COMMON, profiles="v1", known_as="kmemcg_after_rcu_workfn")
async def put_after_work(ctx: Context, work: Work) -> None:
    """[v1] with its put of a reference after every work."""
    s = cache_of(work.container)
    async with SlabMutexHeld(ctx):
        await call_work_fn(ctx, s)
        await kmemcg_cache_put_many(ctx, s, 1)


wq_lock_not_irq_safe = fix(
    "wq-lock-not-irq-safe",
    "",
    "memcg_kmem_wq_lock is taken with interrupts off (reply of 28 May 2019)",
    built_into="v6..5.4-fixed",
)


@wq_lock_not_irq_safe.puts_in(
    "kmemcg_cache_shutdown", COMMON, profiles="v4..v5,v4#5..", known_as="kmemcg_queue_cache_shutdown"
)
async def queue_shutdown_irqs_off(ctx: Context, ref: PercpuRef) -> None:
    """Like [v4], with the grace period before the work.

    Its warning of a work_fn that is set is left out: work-fn-store-after-free, which makes it wrong, has to work with
    this fix, and only one of two fixes can supply a function.
    """
    s = cache_of(ref.container)
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        if not await ctx.ask(s.root.read_dying):
            await ctx.ask(s.set_work_fn, kmemcg_cache_shutdown_fn)
            await call_rcu(ctx, s.rcu_head, kmemcg_rcufn)


@wq_lock_not_irq_safe.puts_in("flush_memcg_workqueue", COMMON, profiles="v4..v5,v4#5..")
async def flush_irqs_off(ctx: Context, s: KmemCache) -> None:
    async with MutexHeld(ctx, ctx.machine.slab_mutex), SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        await ctx.ask(s.set_dying, dying=True)
    await rcu_barrier(ctx)
    await flush_workqueue(ctx, ctx.machine.memcg_kmem_cache_wq)


partial_limit_not_visible = fix(
    "partial-limit-not-visible", "", "a variation: the shrink does not wait until every CPU has seen cpu_partial = 0"
)


@partial_limit_not_visible.puts_in("slab_deactivate_memcg_cache_rcu_sched", COMMON, profiles="original..v4#1")
async def deactivate_at_once(ctx: Context, s: KmemCache) -> None:
    """[O] without the grace period: the work is queued in place of the callback."""
    if await ctx.ask(s.root.read_dying):
        return
    memcg = deref(await ctx.ask(s.read_memcg), "slab_deactivate_memcg_cache_rcu_sched(): s->memcg_params.memcg")
    await css_get(ctx, memcg.css)
    await ctx.ask(s.set_work_fn, kmemcg_cache_deactivate_after_rcu)
    await queue_cache_work(ctx, s)


@partial_limit_not_visible.puts_in("kmemcg_cache_deactivate", COMMON, profiles="5.3..5.4-fixed")
async def deactivate_and_reparent_at_once(ctx: Context, s: KmemCache) -> None:
    """[M] without the grace period."""
    await __kmemcg_cache_deactivate(ctx, s)
    await ctx.ask(s.set_flag, SlabFlags.DEACTIVATED)
    async with SpinLockIrqHeld(ctx, ctx.machine.memcg_kmem_wq_lock):
        if not await ctx.ask(s.root.read_dying):
            await ctx.ask(s.set_work_fn, kmemcg_cache_deactivate_after_rcu)
            await queue_cache_work(ctx, s)


# -- charging and accounting ------------------------------------------------------------------------------------------

sleep_in_rcu_charge = fix(
    "sleep-in-rcu-charge",
    "",
    "the RCU section ends before the charge; the first online ancestor is charged (v4)",
    built_into="v4..5.4-fixed,v4#6..",
)


sleep_in_rcu_charge.puts_in("memcg_charge_slab", SLAB_H, profiles="v2..v3")(of(memcg_charge_slab, "v4"))

rcu_lock_for_unlock = fix(
    "rcu-lock-for-unlock",
    "",
    "memcg_kmem_get_cache() unlocks where v3 and v4 locked once more (mails of 21 May 2019)",
    built_into="v5..5.4-fixed",
)


rcu_lock_for_unlock.puts_in("memcg_kmem_get_cache", MEMCONTROL, profiles="v3..v4,v4#5..")(
    of(memcg_kmem_get_cache, "v5")
)

root_uncharge_underflow = fix(
    "root-uncharge-underflow",
    "",
    "slabs of caches that belong to the root are neither charged nor uncharged (mail of 20 Jun 2019)",
    built_into="5.3..5.4-fixed",
)


root_uncharge_underflow.puts_in("memcg_uncharge_slab", SLAB_H, profiles="v2..v7,v4#6..")(of(memcg_uncharge_slab, "5.3"))


root_uncharge_underflow.puts_in("memcg_charge_slab", SLAB_H, profiles="v4..v7,v4#6..")(of(memcg_charge_slab, "5.3"))


root_uncharge_underflow.takes_out("memcg_uncharge_slab", SLAB_H, profiles="5.3..5.4-fixed")(
    of(memcg_uncharge_slab, "v7")
)


root_uncharge_underflow.takes_out("memcg_charge_slab", SLAB_H, profiles="5.3..5.4-fixed")(of(memcg_charge_slab, "v7"))

stranded_vmstat = fix(
    "stranded-vmstat",
    "bee07b33db78",
    "slab statistics are flushed when a memcg goes offline",
    built_into="5.3",
)


stranded_vmstat.puts_in("memcg_offline_kmem", MEMCONTROL, profiles="v2..v7,v4#6..")(of(memcg_offline_kmem, "5.3"))


stranded_vmstat.puts_in("memcg_flush_percpu_vmstats", MEMCONTROL, profiles="v2..v7,v4#6..")(
    of(memcg_flush_percpu_vmstats, "5.3")
)


stranded_vmstat.takes_out("memcg_offline_kmem", MEMCONTROL, profiles="5.3")(of(memcg_offline_kmem, "v7"))

vmstat_lost_at_release = fix(
    "vmstat-lost-at-release",
    "c350a99ea2b1",
    "statistics are flushed before a memcg is freed",
    built_into="5.3..5.4-fixed",
)


vmstat_lost_at_release.puts_in("mem_cgroup_free", MEMCONTROL, profiles="..v7")(of(mem_cgroup_free, "5.3"))


vmstat_lost_at_release.puts_in("memcg_flush_percpu_vmstats", MEMCONTROL, profiles="..v7")(
    of(memcg_flush_percpu_vmstats, "5.3")
)


vmstat_lost_at_release.takes_out("mem_cgroup_free", MEMCONTROL, profiles="5.3..5.4-fixed")(of(mem_cgroup_free, "v7"))

vmstat_flushed_twice = fix(
    "vmstat-flushed-twice",
    "4a87e2a25dc2",
    "slab statistics are no longer flushed at offline, and again before the memcg is freed",
    built_into="5.4-fixed",
)


vmstat_flushed_twice.puts_in("memcg_offline_kmem", MEMCONTROL, profiles="5.3")(of(memcg_offline_kmem, "5.4-fixed"))


vmstat_flushed_twice.takes_out("memcg_offline_kmem", MEMCONTROL, profiles="5.4-fixed")(of(memcg_offline_kmem, "5.3"))

creation_work_leaks_css = fix(
    "creation-work-leaks-css",
    "",
    "without memory for the work, memcg_schedule_kmem_cache_create() gives its css reference back",
    built_into="5.4-fixed",
)


creation_work_leaks_css.puts_in("memcg_schedule_kmem_cache_create", MEMCONTROL, profiles="v3..5.3,v4#5..")(
    of(memcg_schedule_kmem_cache_create, "5.4-fixed")
)


creation_work_leaks_css.takes_out("memcg_schedule_kmem_cache_create", MEMCONTROL, profiles="5.4-fixed")(
    of(memcg_schedule_kmem_cache_create, "5.3")
)

kmem_key_toggles = fix(
    "kmem-key-toggles", "d648bcc7fe65", "kmem accounting, once switched on, is never switched off again (5.11)"
)


@kmem_key_toggles.puts_in("memcg_free_kmem", MEMCONTROL, profiles="v1..5.4-fixed,v4#6..")
async def free_kmem_keep_key(ctx: Context, memcg: Memcg) -> None:
    """The static key keeps its reference for this memcg for ever."""
    if await end_kmem(ctx, memcg):
        await ctx.ask(ctx.machine.kmem_enabled.keep)


@kmem_key_toggles.puts_in("memcg_free_kmem", MEMCONTROL, profiles="v4#5")
async def free_kmem_keep_key_v4_5(ctx: Context, memcg: Memcg) -> None:
    """The same, with the warning of [v4#5]."""
    if await end_kmem(ctx, memcg):
        await ctx.ask(ctx.machine.kmem_enabled.keep)
        warn_of_charges(ctx, memcg)


# -- around the lifecycle ---------------------------------------------------------------------------------------------

sysfs_vs_shutdown = fix(
    "sysfs-vs-shutdown",
    "e4f8e513c3d3",
    "readers of a cache's sysfs files no longer take the memory hotplug lock",
    built_into="5.4-fixed",
)


sysfs_vs_shutdown.puts_in("show_slab_objects", SLUB, profiles="..5.3")(of(show_slab_objects, "5.4-fixed"))


sysfs_vs_shutdown.takes_out("show_slab_objects", SLUB, profiles="5.4-fixed")(of(show_slab_objects, "5.3"))

missing_tid_step = fix(
    "missing-tid-step",
    "eeaa345e1285",
    "___slab_alloc() steps the tid when a full slab leaves the CPU (5.19, and 5.4.205)",
    built_into="5.4-fixed",
)


missing_tid_step.puts_in("___slab_alloc", SLUB, profiles="..5.3")(of(___slab_alloc, "5.4-fixed"))


missing_tid_step.takes_out("___slab_alloc", SLUB, profiles="5.4-fixed")(of(___slab_alloc, "5.3"))

missing_bulk_tid_step = fix(
    "missing-bulk-tid-step",
    "fd4d9c7d0c71",
    "kmem_cache_alloc_bulk() steps the tid before it lets others have the CPU (5.6, and 5.4.27)",
    built_into="5.4-fixed",
)


missing_bulk_tid_step.puts_in("kmem_cache_alloc_bulk", SLUB, profiles="..5.3")(of(kmem_cache_alloc_bulk, "5.4-fixed"))


missing_bulk_tid_step.takes_out("kmem_cache_alloc_bulk", SLUB, profiles="5.4-fixed")(of(kmem_cache_alloc_bulk, "5.3"))

ALL_FIXES = (
    *(value for value in list(globals().values()) if isinstance(value, NamedFix)),
    *FIXES_TODAY,
    *FIXES_7_2,
)

FIXES: dict[str, NamedFix] = {key: entry for entry in ALL_FIXES for key in (entry.slug, entry.commit) if key}
"""Every named fix by its slug and by its commit id."""
