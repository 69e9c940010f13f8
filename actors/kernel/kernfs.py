"""cgroup2 as it is mounted: directories and files of kernfs. fs/kernfs, kernel/cgroup/cgroup.c @5.3.1.

A cgroup is a directory whose files are made with it; the model has one of them, cgroup.procs. kernfs keeps the names
in nodes of its own: dentries and inodes are made when somebody looks a name up, and go when nobody uses them any more,
or with the directory. A name that does not exist leaves no dentry. A node's number follows from its cgroup's serial
number, so the cgroups are all that has to be kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.kernel.cgroup import cgroup_attach_task, cgroup_mkdir, cgroup_rmdir
from actors.kernel.context import deref
from actors.kernel.dcache import d_add
from actors.kernel.filemap import truncate_inode_pages_final
from actors.kernel.inode import (
    Inode,
    InodeState,
    clear_inode,
    free_inode_object,
    generic_delete_inode,
    iget_locked,
    unlock_new_inode,
)
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.locks import RwSem
from actors.kernel.slub_alloc import kmem_cache_alloc
from actors.kernel.super import FileSystemType, SuperBlock
from actors.system.actor import Shared
from protocol.operations import READ, operation

if TYPE_CHECKING:
    from actors.kernel.cgroup import Cgroup
    from actors.kernel.context import Context
    from actors.kernel.dentry import Dentry
    from actors.kernel.kmem_cache import SlabObject

PROCS = "cgroup.procs"


def cgroup_ino(cgroup: Cgroup) -> int:
    """The number of a cgroup's directory."""
    return 2 * cgroup.serial_nr


@attrs.define(eq=False)
class KernfsRoot(Shared):
    """struct kernfs_root of cgroup2: nodes by their numbers. A directory's is even, that of its file the next one."""

    cgroup: Cgroup

    @property
    def label(self) -> str:
        return "kernfs of cgroup2"

    def cgroup_of(self, ino: int) -> Cgroup:
        """kn->priv: the cgroup whose directory, or file, that is; a directory that is in use is not forgotten."""
        return next(cgroup for cgroup in (self.cgroup, *self.cgroup.descendants()) if cgroup.serial_nr == ino // 2)

    @operation(READ)
    def find(self, directory: int, name: str) -> int | None:
        """kernfs_find_ns(): the number of a name in a directory, unless it is removed."""
        parent = self.cgroup_of(directory)
        if name == PROCS:
            return None if parent.is_dead else directory + 1
        return next((cgroup_ino(child) for child in parent.children if child.name == name and not child.is_dead), None)


def root_of(sb: SuperBlock) -> KernfsRoot:
    """kernfs_info(sb)->root."""
    assert isinstance(sb.s_fs_info, KernfsRoot), f"{sb.label} is not of kernfs"
    return sb.s_fs_info


@kernel_fn("kernfs_fill_super", "fs/kernfs/mount.c")
async def kernfs_fill_super(ctx: Context, sb: SuperBlock) -> Inode | None:
    """The inode of the root cgroup's directory."""
    machine = ctx.machine
    sb.s_fs_info = KernfsRoot(machine.cgroup_tree.actor, machine.root_cgroup)
    return await kernfs_get_inode(ctx, sb, cgroup_ino(machine.root_cgroup))


@kernel_fn("kernfs_get_inode", "fs/kernfs/inode.c")
async def kernfs_get_inode(ctx: Context, sb: SuperBlock, ino: int) -> Inode | None:
    """The inode of a node, from memory or new; None is -ENOMEM."""
    inode = await iget_locked(ctx, sb, ino)
    if inode is not None and InodeState.NEW in await ctx.ask(inode.read_state):
        if not ino % 2:
            inode.i_rwsem = RwSem(sb.actor, "&type->i_mutex_dir_key#2")
        await unlock_new_inode(ctx, inode)
    return inode


async def alloc_generic_inode(ctx: Context, sb: SuperBlock) -> SlabObject | None:
    """alloc_inode() of a filesystem that has no cache of its own."""
    return await kmem_cache_alloc(ctx, sb.caches.inode)


@kernel_fn("free_inode_nonrcu", "fs/inode.c")
async def free_inode_nonrcu(ctx: Context, inode: Inode) -> None:
    """free_inode() of a filesystem that has no cache of its own."""
    await free_inode_object(ctx, inode)


@kernel_fn("kernfs_evict_inode", "fs/kernfs/inode.c")
async def kernfs_evict_inode(ctx: Context, inode: Inode) -> None:
    await truncate_inode_pages_final(ctx, inode)
    await clear_inode(ctx, inode)


@kernel_fn("kernfs_iop_lookup", "fs/kernfs/dir.c")
async def kernfs_iop_lookup(ctx: Context, directory: Inode, dentry: Dentry) -> bool:
    """Make the dentry that of the node, if there is one; otherwise nobody will find it. False is -ENOMEM."""
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
    """Make a cgroup; whoever looks for it makes its dentry. False is -EAGAIN: there are too many."""
    parent = root_of(directory.i_sb).cgroup_of(directory.i_ino)
    return await cgroup_mkdir(ctx, parent, dentry.d_name) is not None


@kernel_fn("kernfs_iop_rmdir", "fs/kernfs/dir.c")
async def kernfs_iop_rmdir(ctx: Context, directory: Inode, dentry: Dentry) -> bool:
    """Remove a cgroup; False is -EBUSY."""
    inode = deref(await ctx.ask(dentry.read_inode), "kernfs_iop_rmdir(): dentry->d_inode")
    return await cgroup_rmdir(ctx, root_of(directory.i_sb).cgroup_of(inode.i_ino))


@kernel_fn("cgroup_procs_write", "kernel/cgroup/cgroup.c")
async def cgroup_procs_write(ctx: Context, procs: Dentry, task: Context) -> None:
    """Write a task's number to an open cgroup.procs: it belongs there from now on."""
    inode = deref(await ctx.ask(procs.read_inode), "cgroup_procs_write(): file->f_inode")
    await cgroup_attach_task(ctx, root_of(procs.d_sb).cgroup_of(inode.i_ino), task)


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
