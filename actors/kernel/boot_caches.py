"""What the caches are like that a machine boots with, from what /proc/slabinfo says of them, and their names."""

from __future__ import annotations

from actors.kernel.kmem_cache import SlabFlags
from protocol.slabinfo import PAGE_SIZE

ACCOUNTED = frozenset(
    [
        "alpha",  # of scenarios: caches with names of their own
        "beta",
        "typesafe",
        "anon_vma",
        "anon_vma_chain",
        "bdev_cache",
        "cred_jar",
        "dentry",
        "eventpoll_epi",
        "eventpoll_pwq",
        "ext4_inode_cache",
        "fat_inode_cache",
        "files_cache",
        "filp",
        "fs_cache",
        "fuse_inode",
        "inode_cache",
        "mm_struct",
        "mqueue_inode_cache",
        "net_namespace",
        "pid",
        "proc_inode_cache",
        "seq_file",
        "shmem_inode_cache",
        "sighand_cache",
        "signal_cache",
        "sock_inode_cache",
        "task_struct",
        "vm_area_struct",
        "xfs_inode",
    ]
)
"""Caches created with SLAB_ACCOUNT (KERNEL.md 12.4); /proc/slabinfo does not say."""

RECLAIMABLE = frozenset(
    [
        "bdev_cache",
        "dentry",
        "ext4_inode_cache",
        "fat_inode_cache",
        "fuse_inode",
        "inode_cache",
        "proc_inode_cache",
        "radix_tree_node",
        "shmem_inode_cache",
        "sock_inode_cache",
        "xfs_inode",
    ]
)
"""Caches created with SLAB_RECLAIM_ACCOUNT: those of filesystem objects."""

TYPESAFE = frozenset({"anon_vma", "sighand_cache", "typesafe"})
"""Caches created with SLAB_TYPESAFE_BY_RCU (KERNEL.md 12.4)."""


def flags_of(name: str) -> SlabFlags:
    """The flags with which the kernel creates the cache of that name."""
    flags = SlabFlags.ACCOUNT if name in ACCOUNTED else SlabFlags.NONE
    if name in RECLAIMABLE:
        flags |= SlabFlags.RECLAIM_ACCOUNT
    if name in TYPESAFE:
        flags |= SlabFlags.TYPESAFE_BY_RCU
    return flags


def slub_cpu_partial(size: int) -> int:
    """How many free objects one CPU keeps in partial slabs: by object size in bytes (set_cpu_partial)."""
    for least, objects in ((PAGE_SIZE, 2), (1024, 6), (256, 13)):
        if size >= least:
            return objects
    return 30


def slub_min_partial(size: int) -> int:
    """How many empty slabs a node keeps: log2(size)/2, 5 to 10 (set_min_partial)."""
    return min(max((size.bit_length() - 1) // 2, 5), 10)
