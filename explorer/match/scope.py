"""The functions that are compared: they can be in the trace, and they are in the model.

A function of the model is *shown* if the tracer would have recorded an entry into it. Then every entry counts: the
trace must have a line for each, and the model an entry for each line. The shown functions follow from

- the list given with `--filter` (set_ftrace_filter when the trace was taken), if there is one;
- otherwise the trace itself: a function that it shows once, it always shows. In addition, the captures that slabrace
  was made with were taken with two filters (`CAPTURED`): a trace that shows a function of one filter is assumed to show
  all of its functions.

Inlined functions are never shown, whatever the filter; their callees then have the surrounding function as parent in
the trace. `OUT_OF_SCOPE` are functions that are not compared although they may be shown, in groups with reasons. A
function of another kernel profile than the one at hand is compared: such a line cannot match.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from actors.versions.kernel_fn import FunctionTable, KernelFn, functions
from protocol.formats.ftrace import FunctionTrace, TraceLine
from protocol.vocabulary import PROFILES, TODAY

Function = KernelFn[Any, Any]

MARKS = "tracing_mark_write"


def names_in(text: str) -> frozenset[str]:
    """The set of words in *text*."""
    return frozenset(text.split())


CAPTURED: Mapping[str, frozenset[str]] = {
    "creation": names_in(
        """
        create_cache mem_cgroup_css_alloc mem_cgroup_css_online memcg_create_kmem_cache memcg_kmem_cache_create_func
        memcg_link_cache shmem_alloc_inode
        """
    ),
    "removal": names_in(
        """
        __d_free __free_slab __kmem_cache_shrink __kmem_cache_shutdown __kmemcg_cache_deactivate
        __kmemcg_cache_deactivate_after_rcu cgroup_rmdir css_free_rwork_fn css_killed_ref_fn css_killed_work_fn
        css_release css_release_work_fn discard_slab file_free_rcu i_callback kill_css kmemcg_cache_deactivate_after_rcu
        kmemcg_cache_shutdown kmemcg_cache_shutdown_fn kmemcg_rcufn kmemcg_workfn mem_cgroup_css_free
        mem_cgroup_css_offline mem_cgroup_css_released memcg_deactivate_kmem_caches memcg_destroy_kmem_caches
        memcg_drain_all_list_lrus memcg_flush_percpu_vmstats percpu_ref_exit percpu_ref_kill_and_confirm
        percpu_ref_switch_to_atomic_rcu shmem_destroy_inode shmem_free_in_core_inode shutdown_cache
        slab_deactivate_memcg_cache_rcu_sched slab_kmem_cache_release sysfs_slab_release sysfs_slab_remove_workfn
        """
    ),
}
"""The functions in the six captures of ../shared/data, by the two filters that they were taken with.

There must have been two: the captures of the creation have no __d_free(), although mkdir(2) in kernfs ends with one a
grace period later, and the captures of the removal have no allocation.
"""

CAPTURED_TODAY: Mapping[str, frozenset[str]] = {
    "lifecycle": names_in(
        """
        __d_free __kmem_cache_release __kmem_cache_shutdown __mem_cgroup_free alloc_shrinker_info cgroup_destroy_locked
        cgroup_mkdir cgroup_rmdir cgroup_rstat_exit css_free_rwork_fn css_killed_ref_fn css_killed_work_fn css_release
        css_release_work_fn current_objcg_update drain_all_stock drain_local_stock drain_obj_stock drain_stock
        flush_all_cpus_locked free_shrinker_info i_callback init_and_link_css kill_css kmem_cache_create_usercopy
        kmem_cache_destroy kvfree_rcu_barrier mem_cgroup_css_alloc mem_cgroup_css_free mem_cgroup_css_offline
        mem_cgroup_css_online mem_cgroup_css_released mem_cgroup_id_put memcg_list_lru_alloc memcg_offline_kmem
        memcg_reparent_list_lrus obj_cgroup_release online_css rcu_barrier reparent_shrinker_deferred
        shmem_alloc_inode shmem_destroy_inode shmem_free_in_core_inode slab_kmem_cache_release sysfs_slab_add
        sysfs_slab_release sysfs_slab_unlink
        """
    ),
    "charges": names_in(
        """
        __refill_stock list_lru_add list_lru_add_memcg list_lru_del list_lru_del_memcg mod_objcg_state
        obj_cgroup_uncharge obj_cgroup_uncharge_pages page_counter_cancel page_counter_uncharge refill_obj_stock
        refill_stock
        """
    ),
}
"""The functions in the captures of 6.12 that are compared. One filter was used for all; for -charges, there were more.

The captures of creation have __d_free(), those of removal hooks of allocations, and those of the destruction of a cache
both. So all were taken with the same filter.
"""

CAPTURED_7_2: Mapping[str, frozenset[str]] = {
    "lifecycle": names_in(
        """
        __d_free __free_shrinker_info __kmem_cache_create_args __kmem_cache_release
        __kmem_cache_shutdown __mem_cgroup_free __memcg_list_lru_alloc alloc_shrinker_info barn_shrink
        calculate_sheaf_capacity cgroup_bpf_release cgroup_destroy_locked cgroup_mkdir cgroup_rmdir
        css_free_rwork_fn css_killed_ref_fn css_killed_work_fn css_release css_release_work_fn css_rstat_exit
        css_rstat_init current_objcg_update debugfs_slab_release do_kmem_cache_create drain_all_stock
        drain_local_memcg_stock drain_local_obj_stock drain_obj_stock_slot flush_all_cpus_locked flush_rcu_sheaf
        flush_rcu_sheaves_on_cache free_shrinker_info i_callback init_and_link_css kill_css_sync
        kmem_cache_destroy kmem_cache_release lru_gen_exit_memcg lru_gen_init_memcg lru_gen_offline_memcg
        lru_gen_online_memcg lru_gen_release_memcg lru_gen_reparent_memcg max_lru_gen_memcg mem_cgroup_css_alloc
        mem_cgroup_css_free mem_cgroup_css_offline mem_cgroup_css_online mem_cgroup_css_released
        memcg_list_lru_alloc memcg_reparent_list_lrus obj_cgroup_release online_css rcu_barrier
        recheck_lru_gen_max_memcg reparent_shrinker_deferred shmem_alloc_inode shmem_destroy_inode
        shmem_free_in_core_inode slab_kmem_cache_release sysfs_slab_add sysfs_slab_release sysfs_slab_unlink
        wb_memcg_offline zswap_memcg_offline_cleanup
        """
    ),
    "charges": names_in(
        """
        __account_obj_stock __kfree_rcu_sheaf __refill_obj_stock list_lru_add list_lru_add_obj list_lru_del
        list_lru_del_obj mem_cgroup_css_rstat_flush obj_cgroup_uncharge obj_cgroup_uncharge_pages
        page_counter_uncharge refill_stock
        """
    ),
}
"""The functions in the captures of 7.2, without suffixes of compiler clones; the model does not have all of them.

As on 6.12 there was one filter for all, and -charges was taken with more. What GCC has inlined into its only caller
there is in none of them (KERNEL-7.2 N12.5): memcg_offline_kmem(), kill_css_finish(), obj_stock_flush_required(),
memcg_reparent_list_lru_one(), lock_list_lru_of_memcg(), kvfree_rcu_barrier_on_cache() and others.
"""

CAPTURED_BY_PROFILE = {"6.12": CAPTURED_TODAY, "7.2": CAPTURED_7_2}
"""The filters of the captures by kernel; all other kernels share `CAPTURED`."""

INLINED: Mapping[str, frozenset[str]] = {"memcg_link_cache": frozenset({"original"})}
"""Functions of CAPTURED that only some compilers inlined, with the profiles in whose captures they are missing."""


@attrs.frozen
class FunctionGroup:
    """Functions that are not compared, and why."""

    name: str
    reason: str
    functions: frozenset[str]


OUT_OF_SCOPE = (
    FunctionGroup("marks", "what the traced program says about itself; the kernel does nothing", frozenset({MARKS})),
    FunctionGroup(
        "everybody's",
        "called for every object, page, callback and work of the machine; the model has those of its scenario only",
        names_in(
            """
            ___slab_alloc __alloc_pages_nodemask __free_pages __get_obj_cgroup_from_memcg __kmalloc
            __memcg_slab_free_hook __memcg_slab_post_alloc_hook __queue_work __slab_alloc __slab_free alloc_pages
            allocate_slab barn_put_full_sheaf barn_replace_empty_sheaf cache_from_obj call_rcu deactivate_slab
            get_freelist get_partial get_partial_node kfree kmem_cache_alloc kmem_cache_free kobject_put
            mod_lruvec_state mod_node_page_state new_slab on_each_cpu_mask put_cpu_partial queue_delayed_work_on
            queue_rcu_work queue_work_on slab_alloc_node unfreeze_partials
            """
        ),
    ),
    FunctionGroup(
        "dispatchers",
        "called whenever a CPU has anything to do: what they call is compared",
        names_in("process_one_work rcu_core rcu_do_batch run_timer_softirq worker_thread"),
    ),
    FunctionGroup(
        "path walks",
        "how a name is looked up and a reference to it dropped: the model's path is shorter than the kernel's",
        names_in(
            """
            __d_alloc __d_lookup __dentry_kill __fput __lookup_hash alloc_empty_file alloc_inode d_add d_alloc
            d_delete d_instantiate d_lookup dentry_kill destroy_inode dget do_filp_open do_last do_mkdirat do_rmdir
            do_unlinkat dput evict filename_lookup fput ihold iput lockref_get lockref_put_or_lock lookup_open
            lookup_slow new_inode retain_dentry vfs_rmdir vfs_unlink
            """
        ),
    ),
)
"""Groups of functions that are not compared."""


@attrs.frozen
class Skipped:
    """A function whose lines are not compared, with their number and the reason."""

    function: str
    count: int
    reason: str


@attrs.frozen
class Scope:
    """The scope of one comparison: `shown` are the machine's compared functions, by their names in its version.

    `skipped` are the functions of the trace that are not compared. `foreign` are functions of the trace that only other
    profiles have, by name. `names` are all functions of the machine, to recognize callers in the trace.
    """

    shown: Mapping[str, Function]
    names: frozenset[str]
    foreign: Mapping[str, tuple[str, ...]]
    skipped: tuple[Skipped, ...]

    def compares(self, line: TraceLine) -> bool:
        """Whether the model must have an entry for this line."""
        return line.function in self.shown or line.function in self.foreign


def make_scope(
    table: FunctionTable, trace: FunctionTrace, *, traced: Iterable[str] | None = None, ignored: Iterable[str] = ()
) -> Scope:
    """The scope for comparing *trace* with a machine with *table*.

    *traced* is set_ftrace_filter, if known; *ignored* are functions that the user excludes.
    """
    reasons = {name: f"{group.name}: {group.reason}" for group in OUT_OF_SCOPE for name in group.functions}
    reasons.update(dict.fromkeys(ignored, "--ignore"))
    in_trace = {line.function for line in trace.lines}
    here = names_of(table)
    wanted = _guess_shown(in_trace, table.profile) if traced is None else frozenset(traced) | in_trace
    shown = {
        name: function
        for name, function in here.items()
        if name not in reasons and (name in wanted or (traced is None and function.name in wanted))
    }
    strange = in_trace - here.keys() - reasons.keys()
    foreign = {name: profiles for name, profiles in _profiles_by_name().items() if name in strange}
    return Scope(
        shown=shown,
        names=frozenset(here),
        foreign=foreign,
        skipped=tuple(_skipped(trace, shown.keys() | foreign.keys(), reasons)),
    )


def _guess_shown(in_trace: Iterable[str], profile: str) -> frozenset[str]:
    """The names in the trace, and all names of the captured filters that they belong to; C names of any version."""
    names = frozenset(in_trace)
    by_name = {body.name: function.name for function in functions().values() for body in function.bodies}
    youngest = {name if name in functions() else by_name[name] for name in names if name in by_name}
    captured = CAPTURED_BY_PROFILE.get(profile, CAPTURED)
    filters = [functions for functions in captured.values() if functions & (youngest | names)]
    inlined = {name for name, profiles in INLINED.items() if profile in profiles}
    return names.union(*filters) - (inlined - names)


def names_of(table: FunctionTable) -> dict[str, Function]:
    """The functions of a machine by their C names in its version.

    If the model has split a function, both parts have its name; the part declared under that name counts.
    """
    found: dict[str, Function] = {}
    for function in functions().values():
        for body in table.bodies(function)[:1]:
            if body.name == function.name or body.name not in found:
                found[body.name] = function
    return found


def _profiles_by_name() -> dict[str, tuple[str, ...]]:
    """For every function name, the profiles that have it."""
    found: dict[str, set[str]] = {}
    for function in functions().values():
        for body in function.bodies:
            found.setdefault(body.name, set()).update(body.profiles)
    order = (*PROFILES, *TODAY)
    return {name: tuple(profile for profile in order if profile in profiles) for name, profiles in found.items()}


def _skipped(trace: FunctionTrace, compared: Iterable[str], reasons: Mapping[str, str]) -> Iterable[Skipped]:
    """The functions and events of the trace that are not compared, in the order of their first lines."""
    counts = Counter(line.function or line.event for line in trace.lines)
    for name, count in counts.items():
        if name not in compared:
            yield Skipped(name, count, reasons.get(name, "the model does not have it"))
