"""ext4: files on a disk, which can be read again. fs/ext4/super.c, inode.c, namei.c, ialloc.c @5.3.1; KERNEL.md 11.7.

Dentries and inodes stay cached after the last close, until a shrinker frees them. The next lookup of the name makes
them anew. A failed lookup or an unlink leaves a negative dentry. The journal, blocks and extents with their own
shrinker are left out; reading an inode from the disk takes no time.
"""

from __future__ import annotations

from actors.linux.fs.dcache import Dentry, d_add, d_instantiate
from actors.linux.fs.inode import (
    Inode,
    InodeState,
    alloc_inode_sb,
    clear_inode,
    free_inode_object,
    iget_locked,
    ihold,
    insert_inode_locked,
    new_inode,
    unlock_new_inode,
)
from actors.linux.fs.super import FileSystemType, SuperBlock
from actors.linux.include.fs import __mark_inode_dirty
from actors.linux.include.slab import kmem_cache_alloc
from actors.linux.kernel.locking.locks import RwSem
from actors.linux.mm.kmem_cache import SlabObject
from actors.linux.mm.truncate import truncate_inode_pages_final
from actors.machine.context import Context, deref
from actors.versions.kernel_fn import kernel_fn

# -- inodes -----------------------------------------------------------------------------------------------------------


@kernel_fn("ext4_alloc_inode", "fs/ext4/super.c", profiles="..5.4-fixed")
async def ext4_alloc_inode(ctx: Context, sb: SuperBlock) -> SlabObject | None:
    return await kmem_cache_alloc(ctx, sb.caches.inode)


@kernel_fn("ext4_alloc_inode", "fs/ext4/super.c", profiles="6.12..")
async def ext4_alloc_inode_6_12(ctx: Context, sb: SuperBlock) -> SlabObject | None:
    """[6.12] By alloc_inode_sb()."""
    return await alloc_inode_sb(ctx, sb)


@kernel_fn("ext4_new_inode", "fs/ext4/ialloc.c")
async def ext4_new_inode(ctx: Context, sb: SuperBlock, *, is_directory: bool) -> Inode | None:
    """Make an inode with a number on the disk, and mark it dirty."""
    inode = await new_inode(ctx, sb)
    if inode is None:
        return None
    if is_directory:
        inode.i_rwsem = RwSem(sb.actor, "&type->i_mutex_dir_key")
    await ctx.ask(sb.add_disk_inode, inode.i_ino, is_directory=is_directory)
    await insert_inode_locked(ctx, inode)
    await __mark_inode_dirty(ctx, inode)
    return inode


@kernel_fn("ext4_fill_super", "fs/ext4/super.c")
async def ext4_fill_super(ctx: Context, sb: SuperBlock) -> Inode | None:
    """Make the inode of the root directory of an empty disk."""
    return await ext4_new_inode(ctx, sb, is_directory=True)


@kernel_fn("__ext4_iget", "fs/ext4/inode.c")
async def __ext4_iget(ctx: Context, sb: SuperBlock, ino: int) -> Inode | None:
    """Return the inode of that number, cached or read from the disk; None is -ENOMEM."""
    inode = await iget_locked(ctx, sb, ino)
    if inode is not None and InodeState.NEW in await ctx.ask(inode.read_state):
        on_disk = await ctx.ask(sb.read_disk_inode, ino)
        if on_disk.entries is not None:
            inode.i_rwsem = RwSem(sb.actor, "&type->i_mutex_dir_key")
        await ctx.ask(inode.add_nlink, on_disk.nlink - 1)  # set_nlink(); a new inode has 1
        await ctx.ask(inode.set_size, on_disk.size)
        await unlock_new_inode(ctx, inode)
    return inode


@kernel_fn("ext4_write_inode", "fs/ext4/inode.c")
async def ext4_write_inode(ctx: Context, inode: Inode) -> None:
    """Copy the inode's present state, without i_lock (ext4_do_update_inode), and write it."""
    size, nlink = await ctx.ask(inode.read_size), await ctx.ask(inode.read_nlink)
    await ctx.ask(inode.i_sb.write_disk_inode, inode.i_ino, size, nlink)


@kernel_fn("ext4_evict_inode", "fs/ext4/inode.c")
async def ext4_evict_inode(ctx: Context, inode: Inode) -> None:
    """Free the pages; delete the inode from the disk if it has no name any more."""
    await truncate_inode_pages_final(ctx, inode)
    if not await ctx.ask(inode.read_nlink):
        await ctx.ask(inode.i_sb.delete_disk_inode, inode.i_ino)
    await clear_inode(ctx, inode)


@kernel_fn("ext4_free_in_core_inode", "fs/ext4/super.c")
async def ext4_free_in_core_inode(ctx: Context, inode: Inode) -> None:
    await free_inode_object(ctx, inode)


# -- names ------------------------------------------------------------------------------------------------------------


@kernel_fn("ext4_lookup", "fs/ext4/namei.c")
async def ext4_lookup(ctx: Context, directory: Inode, dentry: Dentry) -> bool:
    """Look the name up in the directory on the disk; the dentry is negative if there is none. False is -ENOMEM."""
    ino = await ctx.ask(directory.i_sb.read_entry, directory.i_ino, dentry.d_name)
    inode = None if ino is None else await __ext4_iget(ctx, directory.i_sb, ino)
    if ino is not None and inode is None:
        return False
    await d_add(ctx, dentry, inode)
    return True


async def add_new_inode(ctx: Context, directory: Inode, dentry: Dentry, *, is_directory: bool) -> bool:
    """Make an inode and give it a name; False is -ENOMEM."""
    inode = await ext4_new_inode(ctx, directory.i_sb, is_directory=is_directory)
    if inode is None:
        return False
    await ctx.ask(directory.i_sb.add_entry, directory.i_ino, dentry.d_name, inode.i_ino)
    await d_instantiate(ctx, dentry, inode)
    return True


@kernel_fn("ext4_create", "fs/ext4/namei.c")
async def ext4_create(ctx: Context, directory: Inode, dentry: Dentry) -> bool:
    return await add_new_inode(ctx, directory, dentry, is_directory=False)


@kernel_fn("ext4_mkdir", "fs/ext4/namei.c")
async def ext4_mkdir(ctx: Context, directory: Inode, dentry: Dentry) -> bool:
    return await add_new_inode(ctx, directory, dentry, is_directory=True)


@kernel_fn("ext4_link", "fs/ext4/namei.c")
async def ext4_link(ctx: Context, inode: Inode, directory: Inode, dentry: Dentry) -> None:
    """Add a name to a file that has one; the dentry takes a reference to the inode."""
    await ctx.ask(inode.add_nlink, 1)
    await ihold(ctx, inode)
    await ctx.ask(directory.i_sb.add_entry, directory.i_ino, dentry.d_name, inode.i_ino)
    await __mark_inode_dirty(ctx, inode)
    await d_instantiate(ctx, dentry, inode)


@kernel_fn("ext4_unlink", "fs/ext4/namei.c")
async def ext4_unlink(ctx: Context, directory: Inode, dentry: Dentry) -> None:
    inode = deref(await ctx.ask(dentry.read_inode), "ext4_unlink(): dentry->d_inode")
    await ctx.ask(directory.i_sb.delete_entry, directory.i_ino, dentry.d_name)
    await ctx.ask(inode.add_nlink, -1)
    await __mark_inode_dirty(ctx, inode)


EXT4 = FileSystemType(
    name="ext4",
    inode_cache="ext4_inode_cache",
    get_root=ext4_fill_super,
    alloc_inode=ext4_alloc_inode,
    free_inode=ext4_free_in_core_inode,
    evict_inode=ext4_evict_inode,
    write_inode=ext4_write_inode,
    lookup=ext4_lookup,
    create=ext4_create,
    mkdir=ext4_mkdir,
    link=ext4_link,
    unlink=ext4_unlink,
)
