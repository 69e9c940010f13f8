"""The names that logs, regression files and the command line use for the parts of an experiment."""

from __future__ import annotations

PROFILES: dict[str, str] = {
    "original": "Linux 5.2.1, before the series: a slab page holds its memory cgroup (memcg), which holds its caches",
    "v1": "first posting, 17 Apr 2019: a slab page keeps its cache; a worker gives the cache to the parent memcg",
    "v2": "second posting, 23 Apr 2019: the reference count is per CPU; removal gives all caches to the parent at once",
    "v3": "third posting, 8 May 2019: an allocation finds its cache under RCU, without a reference to the memcg",
    "v4": "fourth posting, 14 May 2019: charges go to the first online ancestor; a spinlock guards the dying mark",
    "v5": "fifth posting, 21 May 2019: the unbalanced rcu_read_lock() of v3 and v4 is mended",
    "v6": "sixth posting, 4 Jun 2019: that spinlock is taken with interrupts off; an unused cache is shut down at once",
    "v7": "seventh posting, 11 Jun 2019: creating a child cache no longer tests the dying mark of its root",
    "5.3": "Linux 5.3.1: the series as merged, with the fixes of that summer",
    "5.4-fixed": "Linux 5.3.1 with the fixes that 5.4.286 has on these paths",
}
"""The kernel profiles by name, oldest first, each with its distinguishing features."""

STEPS: dict[str, str] = {
    "v4#1": "v4 after patch 1 of 7: a cache learns its memcg when it is linked; as original",
    "v4#2": "v4 after patch 2 of 7: SLAB defers its deactivation, too; the deferred work of a cache pins the memcg",
    "v4#3": "v4 after patch 3 of 7: the uncharge of a memcg is a function of its own; as v4#2",
    "v4#4": "v4 after patch 4 of 7: both allocators charge and count slab pages by the same two functions",
    "v4#5": "v4 after patch 5 of 7: a slab page holds its cache, which holds its memcg until its last page is freed",
    "v4#6": "v4 after patch 6 of 7: removal gives all caches to the parent memcg; charges go to the first online one",
    "v4#7": "v4 after patch 7 of 7: /proc/kpagecgroup finds the memcg by the cache; this is v4",
}
"""The states between the patches of v4, which a bisection of the series builds. They are not among the `PROFILES`."""

TODAY: dict[str, str] = {
    "6.12": "Linux 6.12: one set of caches; an object is charged to an obj_cgroup, which removal gives to the parent",
    "7.2": "Linux 7.2: a page of a file is charged to an obj_cgroup, too; removal gives the LRU lists to the parent",
}
"""The kernels after the series, which its author replaced in 5.9: not among the `PROFILES`, and with SLUB only."""

KERNELS: dict[str, str] = {**PROFILES, **TODAY, **STEPS}
"""Every kernel that `--kernel` may name."""

GONE = "does not exist any more"
"""What a list of changed functions says of a function that a kernel does not have."""

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
    "obj_exts": "the vector of obj_cgroups of a slab cannot be allocated (from 6.12 on)",
}
"""The faults that `--fault` may name, each with its effect."""

CHECKS = ("off", "quiescent", "step")
"""The times at which invariants are checked: never, at quiescence, or after each step as well."""

DRIVERS = ("trio", "stepper")
"""The event loops that can run a world."""
