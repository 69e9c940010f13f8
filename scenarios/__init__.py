"""The built-in scenarios, one a file, and the list of all of them."""

from __future__ import annotations

from protocol.errors import UsageError
from protocol.names import no_such
from scenarios.accounted_kmalloc import accounted_kmalloc
from scenarios.alias_marked_dying import alias_marked_dying
from scenarios.alloc_migrates import alloc_migrates
from scenarios.alloc_preempted import alloc_preempted
from scenarios.allocate_and_block import allocate_and_block
from scenarios.arrays_grow import arrays_grow
from scenarios.bulk_allocation import bulk_allocation
from scenarios.canary import canary
from scenarios.charge_after_drain import charge_after_drain
from scenarios.charge_vs_charge import charge_vs_charge, charge_vs_drain
from scenarios.create_vs_destroy import create_vs_destroy, create_vs_destroy_again, create_vs_destroy_merged
from scenarios.create_vs_offline import create_vs_offline
from scenarios.creation_fails import creation_fails
from scenarios.dentries_vs_rmdir import dentries_vs_rmdir
from scenarios.destroy_typesafe import destroy_two_typesafe, destroy_typesafe
from scenarios.destroy_vs_kfree_rcu import destroy_vs_kfree_rcu, destroy_vs_shrink
from scenarios.destroy_vs_offline import destroy_vs_offline
from scenarios.drop_vs_names import drop_vs_close, drop_vs_unlink
from scenarios.drop_vs_path import drop_vs_path
from scenarios.exit_vs_rmdir import exit_vs_rmdir
from scenarios.folios import (
    batch_vs_reparent,
    folio_memcg_vs_rmdir,
    isolate_vs_reparent,
    migrate_vs_reparent,
    reclaim_vs_reparent,
    refault_vs_rmdir,
)
from scenarios.free_large import free_large
from scenarios.free_migrates import free_migrates
from scenarios.free_storm import free_storm
from scenarios.free_vs_destroy import free_vs_destroy, softirq_free_vs_destroy
from scenarios.free_vs_softirq import free_vs_softirq
from scenarios.full_arrays import full_arrays
from scenarios.full_slab_free import full_slab_free
from scenarios.id_reuse import id_reuse
from scenarios.inherited_free import inherited_free
from scenarios.kmem_limit import kmem_limit
from scenarios.kmem_toggle import kmem_toggle
from scenarios.last_free_in_irq import last_free_in_irq
from scenarios.last_object import offline_vs_destroy, offline_vs_exit, offline_vs_free
from scenarios.late_allocation import late_allocation
from scenarios.links_race import links_race
from scenarios.lookups_race import lookups_race
from scenarios.lru_add_vs_rmdir import lru_add_vs_rmdir
from scenarios.lru_moves_up import lru_moves_up, lru_of_reused_id
from scenarios.lrus_grow import lrus_grow
from scenarios.mixed_operations import mixed_operations
from scenarios.mkdir_fails import mkdir_fails
from scenarios.mount_vs_mkdir import mount_vs_mkdir
from scenarios.mount_vs_reclaim import mount_vs_reclaim
from scenarios.moved_tasks import moved_tasks
from scenarios.nested import nested
from scenarios.objcgs import (
    attach_vs_update,
    close_vs_release,
    drain_vs_release,
    fork_exit_vs_rmdir,
    last_object_vs_rmdir,
    late_charge,
    lru_of_module,
    objcg_handover,
    signal_vs_release,
)
from scenarios.parent_while_child_offlines import parent_while_child_offlines
from scenarios.prune_vs_unlink import drop_pages_vs_unlink, prune_vs_unlink
from scenarios.readers_vs_rmdir import readers_vs_rmdir
from scenarios.reap_vs_destroy import reap_vs_destroy
from scenarios.reclaim_below_limit import reclaim_below_limit
from scenarios.reclaim_in_charge import reclaim_in_charge
from scenarios.reclaim_vs_unlink import reclaim_vs_unlink
from scenarios.registry import Scenario
from scenarios.rmdir_empty import rmdir_empty
from scenarios.rmdir_under_load import rmdir_under_load
from scenarios.shared_dentry import shared_dentry
from scenarios.shared_pagecache import shared_pagecache
from scenarios.shared_partials import shared_partials
from scenarios.sheaves import destroy_vs_full_sheaf, sheaf_moves
from scenarios.shrink_vs_rmdir import shrink_vs_rmdir
from scenarios.slab_mutex_hog import slab_mutex_hog
from scenarios.slab_zombies import slab_zombies
from scenarios.stock_refill import stock_refill
from scenarios.stranded_vmstat import stranded_vmstat
from scenarios.sysfs_vs_shutdown import sysfs_vs_shutdown
from scenarios.temporary_vs_sync import temporary_vs_sync
from scenarios.traced import traced_create, traced_rmdir_held, traced_rmdir_idle
from scenarios.traced_today import traced_cache_destroy, traced_rmdir_late, traced_rmdir_page
from scenarios.uneven_vmstat import uneven_vmstat
from scenarios.unlink_vs_sync import unlink_vs_sync
from scenarios.writeback_vs_rmdir import writeback_vs_rmdir

SCENARIOS = (
    shared_dentry,
    rmdir_under_load,
    nested,
    rmdir_empty,
    mkdir_fails,
    parent_while_child_offlines,
    create_vs_offline,
    allocate_and_block,
    reclaim_in_charge,
    reclaim_below_limit,
    reclaim_vs_unlink,
    late_allocation,
    bulk_allocation,
    alloc_migrates,
    alloc_preempted,
    free_storm,
    free_migrates,
    free_vs_softirq,
    free_large,
    shared_partials,
    offline_vs_free,
    offline_vs_destroy,
    offline_vs_exit,
    inherited_free,
    last_free_in_irq,
    full_slab_free,
    full_arrays,
    stranded_vmstat,
    uneven_vmstat,
    kmem_limit,
    stock_refill,
    charge_after_drain,
    charge_vs_charge,
    charge_vs_drain,
    kmem_toggle,
    id_reuse,
    arrays_grow,
    dentries_vs_rmdir,
    lru_add_vs_rmdir,
    drop_vs_close,
    drop_vs_unlink,
    drop_vs_path,
    prune_vs_unlink,
    drop_pages_vs_unlink,
    lrus_grow,
    links_race,
    lookups_race,
    unlink_vs_sync,
    temporary_vs_sync,
    writeback_vs_rmdir,
    mount_vs_mkdir,
    mount_vs_reclaim,
    shrink_vs_rmdir,
    slab_mutex_hog,
    readers_vs_rmdir,
    mixed_operations,
    slab_zombies,
    reap_vs_destroy,
    free_vs_destroy,
    softirq_free_vs_destroy,
    destroy_vs_offline,
    destroy_typesafe,
    destroy_two_typesafe,
    create_vs_destroy,
    create_vs_destroy_merged,
    create_vs_destroy_again,
    creation_fails,
    alias_marked_dying,
    sysfs_vs_shutdown,
    traced_create,
    traced_rmdir_idle,
    traced_rmdir_held,
    canary,
)

OF_TODAY = (
    shared_pagecache,
    moved_tasks,
    last_object_vs_rmdir,
    late_charge,
    drain_vs_release,
    attach_vs_update,
    fork_exit_vs_rmdir,
    exit_vs_rmdir,
    objcg_handover,
    signal_vs_release,
    close_vs_release,
    lru_of_module,
    isolate_vs_reparent,
    reclaim_vs_reparent,
    batch_vs_reparent,
    folio_memcg_vs_rmdir,
    refault_vs_rmdir,
    migrate_vs_reparent,
    lru_moves_up,
    lru_of_reused_id,
    accounted_kmalloc,
    destroy_vs_kfree_rcu,
    destroy_vs_shrink,
    sheaf_moves,
    destroy_vs_full_sheaf,
    traced_cache_destroy,
    traced_rmdir_late,
    traced_rmdir_page,
)
"""The scenarios over what the kernels after the series have; some of it is older."""


def find_scenario(name: str) -> Scenario:
    """The scenario with this name; the UsageError for an unknown name suggests close ones."""
    known = (*SCENARIOS, *OF_TODAY)
    for candidate in known:
        if name == candidate.name or name in candidate.also:
            return candidate
    msg = f"{name}: {no_such('scenario', name, [each.name for each in known], see='slabrace list scenarios')}"
    raise UsageError(msg)
