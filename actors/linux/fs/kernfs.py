"""cgroup2 as a mounted filesystem: directories and files of kernfs. fs/kernfs, kernel/cgroup/cgroup.c @5.3.1.

A cgroup is a directory, and its files are made with it; the model has one of them, cgroup.procs. kernfs keeps the
names in its own nodes. Dentries and inodes are made by lookups; they are freed when they are unused or when the
directory is removed. A lookup of a name that does not exist leaves no dentry. A node's number follows from its
cgroup's serial number, so the model keeps no nodes besides the cgroups.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from actors.linux.fs.dcache import d_add
from actors.linux.fs.inode import (
    Inode,
    InodeState,
    clear_inode,
    free_inode_nonrcu,
    generic_delete_inode,
    iget_locked,
    unlock_new_inode,
)
from actors.linux.fs.super import FileSystemType, SuperBlock
from actors.linux.include.kernfs import KernfsRoot, cgroup_ino, root_of
from actors.linux.include.slab import kmem_cache_alloc
from actors.linux.kernel.cgroup.cgroup import cgroup_mkdir, cgroup_rmdir
from actors.linux.kernel.locking.locks import RwSem
from actors.linux.mm.truncate import truncate_inode_pages_final
from actors.machine.context import Context, deref
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import UPDATE

if TYPE_CHECKING:
    from actors.linux.fs.dcache import Dentry
    from actors.linux.include.kernfs import KernfsNode
    from actors.linux.mm.kmem_cache import SlabObject


@kernel_fn("kernfs_remove", "fs/kernfs/dir.c")
async def kernfs_remove(ctx: Context, kn: KernfsNode) -> None:
    """Remove a directory: let no reader enter any more, and wait for those inside. Without any the wait is no step."""
    kn.is_removed = True
    kn.touch(UPDATE)
    ctx.machine.lockdep.acquire(ctx, kn.lock_class)
    if kn.active:
        await ctx.ask(kn.kernfs_drain)
    ctx.machine.lockdep.release(ctx, kn.lock_class)


@kernel_fn("kernfs_fop_read", "fs/kernfs/file.c")
async def kernfs_fop_read(ctx: Context, kn: KernfsNode, read: Callable[[], Awaitable[bytes]]) -> bytes | None:
    """*read* a file of *kn* with an active reference, so that its removal waits; None (-ENODEV) if it is removed."""
    if not await ctx.ask(kn.kernfs_get_active, ctx):
        return None
    ctx.machine.lockdep.acquire(ctx, kn.lock_class, reads=True)
    data = await read()
    ctx.machine.lockdep.release(ctx, kn.lock_class)
    await ctx.ask(kn.kernfs_put_active, ctx)
    return data


@kernel_fn("kernfs_fill_super", "fs/kernfs/mount.c")
async def kernfs_fill_super(ctx: Context, sb: SuperBlock) -> Inode | None:
    """Make the inode of the root cgroup's directory."""
    machine = ctx.machine
    sb.s_fs_info = KernfsRoot(machine.cgroup_tree.actor, machine.root_cgroup)
    return await kernfs_get_inode(ctx, sb, cgroup_ino(machine.root_cgroup))


@kernel_fn("kernfs_get_inode", "fs/kernfs/inode.c")
async def kernfs_get_inode(ctx: Context, sb: SuperBlock, ino: int) -> Inode | None:
    """Return the inode of a node, cached or new; None is -ENOMEM."""
    inode = await iget_locked(ctx, sb, ino)
    if inode is not None and InodeState.NEW in await ctx.ask(inode.read_state):
        if not ino % 2:
            inode.i_rwsem = RwSem(sb.actor, "&type->i_mutex_dir_key#2")
        await unlock_new_inode(ctx, inode)
    return inode


async def alloc_generic_inode(ctx: Context, sb: SuperBlock) -> SlabObject | None:
    """alloc_inode() of a filesystem without an inode cache of its own."""
    return await kmem_cache_alloc(ctx, sb.caches.inode)


@kernel_fn("kernfs_evict_inode", "fs/kernfs/inode.c")
async def kernfs_evict_inode(ctx: Context, inode: Inode) -> None:
    await truncate_inode_pages_final(ctx, inode)
    await clear_inode(ctx, inode)


@kernel_fn("kernfs_iop_lookup", "fs/kernfs/dir.c")
async def kernfs_iop_lookup(ctx: Context, directory: Inode, dentry: Dentry) -> bool:
    """Make the dentry positive if there is a node of that name; otherwise it stays unhashed. False is -ENOMEM."""
    ino = await ctx.ask(root_of(directory.i_sb).find, directory.i_ino, dentry.d_name)
    if ino is None:
        return True
    inode = await kernfs_get_inode(ctx, directory.i_sb, ino)
    if inode is None:
        return False
    await d_add(ctx, dentry, inode)
    return True


@kernel_fn("kernfs_iop_mkdir", "fs/kernfs/dir.c")
async def kernfs_iop_mkdir(ctx: Context, directory: Inode, dentry: Dentry) -> bool:
    """Make a cgroup; a later lookup makes its dentry. False is -EAGAIN, when an ancestor is at its limit."""
    parent = root_of(directory.i_sb).cgroup_of(directory.i_ino)
    return await cgroup_mkdir(ctx, parent, dentry.d_name) is not None


@kernel_fn("kernfs_iop_rmdir", "fs/kernfs/dir.c")
async def kernfs_iop_rmdir(ctx: Context, directory: Inode, dentry: Dentry) -> bool:
    """Remove a cgroup; False is -EBUSY."""
    inode = deref(await ctx.ask(dentry.read_inode), "kernfs_iop_rmdir(): dentry->d_inode")
    return await cgroup_rmdir(ctx, root_of(directory.i_sb).cgroup_of(inode.i_ino))


async def create_nothing(ctx: Context, directory: Inode, dentry: Dentry) -> bool:
    """Kernfs has no ->create(): -EACCES."""
    return False


async def unlink_nothing(ctx: Context, directory: Inode, dentry: Dentry) -> None:
    """Kernfs has no ->unlink(): -EPERM."""


CGROUP2 = FileSystemType(
    name="cgroup2",
    inode_cache="inode_cache",
    get_root=kernfs_fill_super,
    alloc_inode=alloc_generic_inode,
    free_inode=free_inode_nonrcu,
    evict_inode=kernfs_evict_inode,
    drop_inode=generic_delete_inode,
    has_reclaimable_pages=False,
    lookup=kernfs_iop_lookup,
    create=create_nothing,
    mkdir=kernfs_iop_mkdir,
    unlink=unlink_nothing,
    rmdir=kernfs_iop_rmdir,
)
