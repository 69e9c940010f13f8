"""What the caches are like that a machine boots with, from what /proc/slabinfo says of them, and their names."""

from __future__ import annotations

from actors.linux.include.slab import SlabFlags

ACCOUNTED = frozenset(
    [
        "alpha",  # of scenarios: caches with names of their own
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
        "sock_inode_cache",
        "xfs_inode",
    ]
)
"""Caches created with SLAB_RECLAIM_ACCOUNT, beside kmalloc's of that kind: those of filesystem objects. Not that of
tmpfs, whose inodes no shrinker can free: its pages are SUnreclaim (KERNEL.md 8.4)."""

TYPESAFE = frozenset({"anon_vma", "sighand_cache", "typesafe", "DCCP", "DCCPv6", "TCP", "TCPv6"})
"""Caches created with SLAB_TYPESAFE_BY_RCU (KERNEL.md 12.4)."""

CONSTRUCTED = frozenset({"anon_vma", "bdev_cache", "radix_tree_node", "sighand_cache"})
"""Caches with a constructor, beside those of inodes (KERNEL.md 8.4)."""

USERCOPY = frozenset({"dentry", "mm_struct", "names_cache", "skbuff_fclone_cache", "skbuff_head_cache", "task_struct"})
"""Caches with a region of their objects that may be copied to user space, beside kmalloc's; a capture does not say."""

EXEMPT = frozenset({"kmem_cache", "kmem_cache_node"})
"""Caches made before all others: create_boot_cache() leaves them a refcount below zero."""


def flags_of(name: str) -> SlabFlags:
    """The flags with which the kernel creates the cache of that name."""
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
    """Whether objects of the cache of that name may be copied to user space in part."""
    return name in USERCOPY or name.startswith("kmalloc-")


def is_exempt(name: str) -> bool:
    """Whether the cache of that name is never merged, whatever its flags."""
    return name in EXEMPT
