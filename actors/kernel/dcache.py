"""Files in memory, as slab objects: a dentry, its inode, and a struct file while it is open.

fs/dcache.c, fs/inode.c, fs/file_table.c @5.3.1. Dentries, inodes and files are freed by RCU callbacks, so the
object comes back on the CPU that dropped it last, in softirq (KERNEL.md 2.1.6, 11.7).
"""

from __future__ import annotations

import attrs

from actors.kernel.context import Context
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.kmem_cache import KmemCache, SlabObject
from actors.kernel.rcu import RcuHead, call_rcu
from actors.kernel.slub import kmem_cache_free
from actors.kernel.slub_alloc import kmem_cache_alloc


@attrs.frozen
class FileCaches:
    """The root caches that an open file takes objects from."""

    filp: KmemCache
    dentry: KmemCache
    inode: KmemCache


@attrs.define(eq=False)
class File:
    """A file that exists: its dentry and its inode; `filp` while some task has it open."""

    caches: FileCaches
    dentry: SlabObject
    inode: SlabObject
    filp: SlabObject | None


@kernel_fn("do_filp_open", "fs/namei.c")
async def create_file(ctx: Context, caches: FileCaches) -> File | None:
    """open(O_CREAT) of a new tmpfs file: allocates struct file, dentry and inode, in the kernel's order."""
    filp = await kmem_cache_alloc(ctx, caches.filp)
    dentry = await kmem_cache_alloc(ctx, caches.dentry)
    inode = await kmem_cache_alloc(ctx, caches.inode)
    if filp is None or dentry is None or inode is None:
        for cache, obj in ((caches.filp, filp), (caches.dentry, dentry), (caches.inode, inode)):
            if obj is not None:
                await kmem_cache_free(ctx, cache, obj)
        return None
    return File(caches, dentry, inode, filp)


@kernel_fn("__fput", "fs/file_table.c")
async def close_file(ctx: Context, file: File) -> None:
    """The last close: the struct file goes after a grace period."""
    filp, file.filp = file.filp, None
    if filp is not None:
        await free_by_rcu(ctx, file.caches.filp, filp)


@kernel_fn("do_unlinkat", "fs/namei.c")
async def unlink_file(ctx: Context, file: File) -> None:
    """The name goes, and with its last user the dentry and the inode, each after a grace period."""
    await free_by_rcu(ctx, file.caches.dentry, file.dentry)
    await free_by_rcu(ctx, file.caches.inode, file.inode)


async def free_by_rcu(ctx: Context, cache: KmemCache, obj: SlabObject) -> None:
    """call_rcu() with the head inside the object: __d_free(), i_callback(), file_free_rcu()."""

    async def free_object(ctx: Context, _head: RcuHead) -> None:
        await kmem_cache_free(ctx, cache, obj)

    await call_rcu(ctx, RcuHead(obj.slab), free_object)
