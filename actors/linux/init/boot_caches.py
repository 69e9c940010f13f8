"""Properties of the caches at boot that /proc/slabinfo does not show, by the cache's name."""

from __future__ import annotations

from actors.linux.include.slab import SlabFlags

ACCOUNTED = frozenset(
    [
        "alpha",  # alpha, beta, typesafe: caches of scenarios
        "beta",
        "typesafe",
        "DCCP",
        "DCCPv6",
        "TCP",
        "TCPv6",
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
"""Caches created with SLAB_ACCOUNT (KERNEL.md 12.4); /proc/slabinfo does not show the flag."""

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
        "sock_inode_cache",
        "xfs_inode",
    ]
)
"""Caches of filesystem objects created with SLAB_RECLAIM_ACCOUNT; kmalloc's caches of that kind are not listed.

The inode cache of tmpfs is not among them: no shrinker can free its inodes, so its pages are SUnreclaim (KERNEL.md
8.4).
"""

TYPESAFE = frozenset({"anon_vma", "sighand_cache", "typesafe", "DCCP", "DCCPv6", "TCP", "TCPv6"})
"""Caches created with SLAB_TYPESAFE_BY_RCU (KERNEL.md 12.4)."""

CONSTRUCTED = frozenset({"anon_vma", "bdev_cache", "radix_tree_node", "sighand_cache"})
"""Caches with a constructor, besides inode caches (KERNEL.md 8.4)."""

USERCOPY = frozenset({"dentry", "mm_struct", "names_cache", "skbuff_fclone_cache", "skbuff_head_cache", "task_struct"})
"""Caches, besides kmalloc's, with a region in each object that may be copied to user space; captures do not show it."""

EXEMPT = frozenset({"kmem_cache", "kmem_cache_node"})
"""The allocator's first two caches: create_boot_cache() sets their refcount below zero, so they are never merged."""


def flags_of(name: str) -> SlabFlags:
    """The flags that the kernel creates the cache of that name with."""
    flags = SlabFlags.ACCOUNT if name in ACCOUNTED else SlabFlags.NONE
    if name in RECLAIMABLE or name.startswith("kmalloc-rcl-"):
        flags |= SlabFlags.RECLAIM_ACCOUNT
    if name in TYPESAFE:
        flags |= SlabFlags.TYPESAFE_BY_RCU
    if name.startswith("dma-kmalloc-"):
        flags |= SlabFlags.CACHE_DMA
    return flags


def has_ctor(name: str) -> bool:
    """Whether the kernel creates the cache of that name with a constructor."""
    return name in CONSTRUCTED or (name.endswith(("_inode", "inode_cache")) and name != "lsm_inode_cache")


def has_usercopy(name: str) -> bool:
    """Whether part of each object of the cache of that name may be copied to user space."""
    return name in USERCOPY or name.startswith("kmalloc-")


def is_exempt(name: str) -> bool:
    """Whether the cache of that name is never merged, independent of its flags."""
    return name in EXEMPT
