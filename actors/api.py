"""The names that patches and oracles are written with. This module is stable: names are added, and not taken away.

    from actors.api import kernel_fn, unpatched

A kernel function has its C path below `actors.linux`: `kmemcg_workfn` of mm/slab_common.c is imported from
`actors.linux.mm.slab_common`. docs/patches.md teaches patches, docs/your-own.md oracles; `slabrace list operations`
lists the operations of each kind of object.
"""

from actors.linux.include.slab import (
    SlabFlags,
    kmem_cache_alloc,
    kmem_cache_alloc_bulk,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
    kmem_cache_free_bulk,
    kmem_cache_shrink,
)
from actors.linux.init.machine import Machine
from actors.linux.kernel.cgroup.cgroup import Cgroup, Css
from actors.linux.kernel.locking.locks import (
    Completion,
    Mutex,
    MutexHeld,
    RwSem,
    SpinLock,
    SpinLockHeld,
    SpinLockIrqHeld,
    down_read,
    down_write,
    mutex_lock,
    mutex_unlock,
    spin_lock,
    spin_unlock,
    up_read,
    up_write,
)
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu, rcu_barrier, synchronize_rcu
from actors.linux.kernel.smp import on_each_cpu_mask
from actors.linux.kernel.workqueue import Work, flush_workqueue, queue_work
from actors.linux.lib.percpu_refcount import PercpuRef
from actors.linux.mm.kmem_cache import KmemCache, Slab, SlabObject
from actors.linux.mm.memcontrol import Memcg
from actors.machine.context import BUG_ON, WARN_ON, Context, deref
from actors.machine.gfp import GFP_ATOMIC, GFP_KERNEL, GFP_KERNEL_ACCOUNT, GFP_NOWAIT, Gfp
from actors.machine.list_head import ListEntry, ListHead
from actors.machine.lockless import LocklessField
from actors.oracles.own import Oracle, oracle
from actors.system.actor import Actor, Shared
from actors.versions.kernel_fn import kernel_fn
from actors.versions.patching import unpatched
from protocol.operations import ATOMIC_NS, COMMUTE, READ, UPDATE, operation

__all__ = (
    "ATOMIC_NS",
    "BUG_ON",
    "COMMUTE",
    "GFP_ATOMIC",
    "GFP_KERNEL",
    "GFP_KERNEL_ACCOUNT",
    "GFP_NOWAIT",
    "READ",
    "UPDATE",
    "WARN_ON",
    "Actor",
    "Cgroup",
    "Completion",
    "Context",
    "Css",
    "Gfp",
    "KmemCache",
    "ListEntry",
    "ListHead",
    "LocklessField",
    "Machine",
    "Memcg",
    "Mutex",
    "MutexHeld",
    "Oracle",
    "PercpuRef",
    "RcuHead",
    "RwSem",
    "Shared",
    "Slab",
    "SlabFlags",
    "SlabObject",
    "SpinLock",
    "SpinLockHeld",
    "SpinLockIrqHeld",
    "Work",
    "call_rcu",
    "deref",
    "down_read",
    "down_write",
    "flush_workqueue",
    "kernel_fn",
    "kmem_cache_alloc",
    "kmem_cache_alloc_bulk",
    "kmem_cache_create",
    "kmem_cache_destroy",
    "kmem_cache_free",
    "kmem_cache_free_bulk",
    "kmem_cache_shrink",
    "mutex_lock",
    "mutex_unlock",
    "on_each_cpu_mask",
    "operation",
    "oracle",
    "queue_work",
    "rcu_barrier",
    "spin_lock",
    "spin_unlock",
    "synchronize_rcu",
    "unpatched",
    "up_read",
    "up_write",
)
