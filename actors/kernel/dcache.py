"""Files in memory, as slab objects: a dentry, its inode, and a struct file while it is open.

fs/dcache.c, fs/inode.c, fs/file_table.c @5.3.1. Dentries, inodes and files are freed by RCU callbacks, so the
object comes back on the CPU that dropped it last, in softirq (KERNEL.md 2.1.6, 11.7).
"""

from __future__ import annotations

import attrs

from actors.kernel.context import Context
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.rcu import RcuHead, call_rcu
from actors.kernel.slab import SlabObject
from actors.kernel.slub import kmem_cache_free
from actors.kernel.slub_alloc import kmem_cache_alloc


@attrs.define(eq=False)
class File:
    """A file that exists: its dentry and its inode; `filp` while some task has it open."""

    dentry: SlabObject
    inode: SlabObject
    filp: SlabObject | None


@kernel_fn("create_file", "fs/namei.c")
async def create_file(ctx: Context) -> File | None:
    """open(O_CREAT) of a new tmpfs file: allocates struct file, dentry and inode, in the kernel's order."""
    caches = ctx.machine.file_caches
    filp = await kmem_cache_alloc(ctx, caches.filp)
    dentry = await kmem_cache_alloc(ctx, caches.dentry)
    inode = await kmem_cache_alloc(ctx, caches.inode)
    if filp is None or dentry is None or inode is None:
        for obj in (filp, dentry, inode):
            if obj is not None:
                await kmem_cache_free(ctx, obj)
        return None
    return File(dentry, inode, filp)


@kernel_fn("close_file", "fs/file_table.c")
async def close_file(ctx: Context, file: File) -> None:
    """The last close: the struct file goes after a grace period."""
    filp, file.filp = file.filp, None
    if filp is not None:
        await free_by_rcu(ctx, filp)


@kernel_fn("unlink_file", "fs/namei.c")
async def unlink_file(ctx: Context, file: File) -> None:
    """The name goes, and with its last user the dentry and the inode, each after a grace period."""
    await free_by_rcu(ctx, file.dentry)
    await free_by_rcu(ctx, file.inode)


async def free_by_rcu(ctx: Context, obj: SlabObject) -> None:
    """call_rcu() with the head inside the object: __d_free(), i_callback(), file_free_rcu()."""

    async def free_object(ctx: Context, _head: RcuHead) -> None:
        await kmem_cache_free(ctx, obj)

    await call_rcu(ctx, RcuHead(obj.slab), free_object)
