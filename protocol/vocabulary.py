"""The names that logs, regression files and the command line use for the parts of an experiment."""

from __future__ import annotations

PROFILES: dict[str, str] = {
    "original": "Linux 5.2.1: a child cache lives as long as its memcg, and its pages pin the memcg",
    "v1": "17 Apr 2019: caches have an atomic reference count and are reparented by their deferred work",
    "v2": "23 Apr 2019: percpu_ref, held during allocations; all caches are reparented at once, at offline",
    "v3": "8 May 2019: the cache is looked up and pinned under RCU, without a reference to the memcg",
    "v4": "14 May 2019: charges go to the first online ancestor; a spinlock round the dying flag",
    "v5": "21 May 2019: without the unbalanced rcu_read_lock() of v3 and v4",
    "v6": "4 Jun 2019: the lock is irq-safe and covers every test of dying; shutdown is queued at once",
    "v7": "11 Jun 2019: creation no longer tests dying; the memcg pointer is read with READ_ONCE()",
    "5.3": "Linux 5.3.1: v7 as merged, with the fixes of the summer of 2019",
    "5.4-fixed": "Linux 5.4.286: with the fixes that came afterwards",
}
"""The kernel profiles by name, oldest first, each with its distinguishing features."""

FAULTS: dict[str, str] = {
    "page": "alloc_pages() for a slab fails",
    "work": "kmalloc() of the work item that creates a child cache fails",
    "kmem_cache": "the struct kmem_cache of a new cache cannot be allocated",
    "cache_name": "kstrdup() or kasprintf() of the name of a new cache fails",
    "memcg_caches": "the array of child caches of a new root cache cannot be allocated",
    "cache_parts": "the per-CPU or per-node parts of a new cache cannot be allocated",
    "sysfs": "the directory of a new cache, or a link to it, cannot be made in /sys/kernel/slab",
    "percpu": "percpu_ref_init() fails, of a css or of a child cache",
    "delayed-kworker": "a kworker is kept from its item for half a second",
    "delayed-gp": "a grace period takes half a second longer",
}
"""The faults that `--fault` may name, each with its effect."""

CHECKS = ("off", "quiescent", "step")
"""The times at which invariants are checked: never, at quiescence, or after each step as well."""

DRIVERS = ("trio", "stepper")
"""The event loops that can run a world."""
