"""Files by name: lookup, open, create, mkdir, link, unlink, rmdir. fs/namei.c, fs/file_table.c @5.3.1.

A name is looked up in a directory that the caller holds, such as its working directory. The lookup first searches the
cached dentries, no matter which task made them (11.7). Without a match it locks the directory and calls the
filesystem. The model always locks the directory for writing; the kernel takes the lock for reading in a lookup, and
lets only one of several lookups of one name call the filesystem. A close is complete when the system call returns:
work that the kernel leaves to task_work is done at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.linux.fs.dcache import Dentry, d_alloc, d_delete, d_lookup, dget, dput, shrink_dcache_parent
from actors.linux.fs.file_table import alloc_empty_file, fput
from actors.linux.fs.inode import Inode, ihold, iput
from actors.linux.kernel.locking.locks import RwSem, down_write, down_write_nested, up_write
from actors.machine.context import Context, deref
from actors.versions.kernel_fn import kernel_fn

if TYPE_CHECKING:
    from actors.linux.fs.file_table import File


def inode_of(directory: Dentry) -> tuple[Inode, RwSem]:
    """The inode of a directory that the caller holds, and its lock."""
    inode = deref(directory.d_inode, "dir->d_inode")
    assert inode.i_rwsem is not None, f"{directory.label} is no directory"
    return inode, inode.i_rwsem


# -- lookup -----------------------------------------------------------------------------------------------------------


@kernel_fn("filename_lookup", "fs/namei.c")
async def filename_lookup(ctx: Context, directory: Dentry, name: str) -> Dentry | None:
    """Find the dentry of an existing file and take a reference, as stat(2) and chdir(2) do; None without a file."""
    dentry = await d_lookup(ctx, directory, name) or await lookup_slow(ctx, directory, name)
    return None if dentry is None else await positive(ctx, dentry)


@kernel_fn("lookup_slow", "fs/namei.c")
async def lookup_slow(ctx: Context, directory: Dentry, name: str) -> Dentry | None:
    """Lock the directory and look the name up, first among the cached dentries again; None is -ENOMEM."""
    inode, i_rwsem = inode_of(directory)
    await down_write(ctx, i_rwsem)
    dentry = await __lookup_hash(ctx, directory, inode, name)
    await up_write(ctx, i_rwsem)
    return dentry


@kernel_fn("__lookup_hash", "fs/namei.c")
async def __lookup_hash(ctx: Context, directory: Dentry, inode: Inode, name: str) -> Dentry | None:
    """Return the dentry of that name, perhaps negative, with a reference; the directory is locked. None is -ENOMEM."""
    dentry = await d_lookup(ctx, directory, name)
    if dentry is not None:
        return dentry
    dentry = await d_alloc(ctx, directory, name)
    if dentry is None or await inode.i_sb.s_type.lookup(ctx, inode, dentry):
        return dentry
    await dput(ctx, dentry)
    return None


async def positive(ctx: Context, dentry: Dentry) -> Dentry | None:
    """Return the dentry if it is positive; otherwise drop it (-ENOENT)."""
    if await ctx.ask(dentry.read_inode) is not None:
        return dentry
    await dput(ctx, dentry)
    return None


# -- open -------------------------------------------------------------------------------------------------------------


@kernel_fn("do_filp_open", "fs/namei.c")
async def do_filp_open(ctx: Context, directory: Dentry, name: str, *, creat: bool = False) -> File | None:
    """openat(2), optionally with O_CREAT: the struct file is allocated first, then the dentry, then the inode.

    None is -ENOENT or -ENOMEM.
    """
    file = await alloc_empty_file(ctx, directory.d_sb)
    if file is None:
        return None
    dentry = await do_last(ctx, directory, name, creat=creat)
    if dentry is None:
        await fput(ctx, file)
        return None
    file.f_path = dentry
    return file


@kernel_fn("do_last", "fs/namei.c")
async def do_last(ctx: Context, directory: Dentry, name: str, *, creat: bool) -> Dentry | None:
    """Return the dentry of the file to open; the file takes over its reference (do_dentry_open).

    With O_CREAT the directory is always locked.
    """
    dentry = None if creat else await d_lookup(ctx, directory, name)
    if dentry is not None:
        return await positive(ctx, dentry)
    inode, i_rwsem = inode_of(directory)
    await down_write(ctx, i_rwsem)
    dentry = await lookup_open(ctx, directory, inode, name, creat=creat)
    await up_write(ctx, i_rwsem)
    return dentry


@kernel_fn("lookup_open", "fs/namei.c")
async def lookup_open(ctx: Context, directory: Dentry, inode: Inode, name: str, *, creat: bool) -> Dentry | None:
    """Look the name up again, with the directory locked; create a missing file. None is -ENOENT or -ENOMEM."""
    dentry = await __lookup_hash(ctx, directory, inode, name)
    if dentry is None:
        return None
    if creat and await ctx.ask(dentry.read_inode) is None and not await inode.i_sb.s_type.create(ctx, inode, dentry):
        await dput(ctx, dentry)
        return None
    return await positive(ctx, dentry)


@kernel_fn("do_mkdirat", "fs/namei.c")
async def do_mkdirat(ctx: Context, directory: Dentry, name: str) -> bool:
    """mkdirat(2); False if the name exists, or without memory."""
    inode, i_rwsem = inode_of(directory)
    await down_write(ctx, i_rwsem)
    dentry, made = await __lookup_hash(ctx, directory, inode, name), False
    if dentry is not None and await ctx.ask(dentry.read_inode) is None:
        made = await inode.i_sb.s_type.mkdir(ctx, inode, dentry)
    await dput(ctx, dentry)
    await up_write(ctx, i_rwsem)
    return made


# -- link -------------------------------------------------------------------------------------------------------------


@kernel_fn("do_linkat", "fs/namei.c")
async def do_linkat(ctx: Context, directory: Dentry, name: str, new_directory: Dentry, new_name: str) -> bool:
    """linkat(2): make another name for a file; False if the file is missing, the name exists, or without memory."""
    old = await filename_lookup(ctx, directory, name)
    if old is None:
        return False
    inode, i_rwsem = inode_of(new_directory)
    await down_write(ctx, i_rwsem)
    dentry, made = await __lookup_hash(ctx, new_directory, inode, new_name), False
    if dentry is not None and await ctx.ask(dentry.read_inode) is None:
        made = await vfs_link(ctx, old, inode, dentry)
    await dput(ctx, dentry)
    await up_write(ctx, i_rwsem)
    await dput(ctx, old)
    return made


@kernel_fn("vfs_link", "fs/namei.c")
async def vfs_link(ctx: Context, old_dentry: Dentry, directory: Inode, new_dentry: Dentry) -> bool:
    """Make the link; False is -EPERM or -ENOENT.

    The model does not lock the file, so its last name must not be removed meanwhile.
    """
    inode = deref(await ctx.ask(old_dentry.read_inode), "vfs_link(): old_dentry->d_inode")
    link = directory.i_sb.s_type.link
    if link is None or not await ctx.ask(inode.read_nlink):
        return False
    await link(ctx, inode, directory, new_dentry)
    return True


# -- unlink -----------------------------------------------------------------------------------------------------------


@kernel_fn("do_unlinkat", "fs/namei.c")
async def do_unlinkat(ctx: Context, directory: Dentry, name: str) -> bool:
    """unlinkat(2); False is -ENOENT or -EISDIR. The inode is held, and evicted after the directory is unlocked."""
    directory_inode, i_rwsem = inode_of(directory)
    await down_write(ctx, i_rwsem)
    dentry = await __lookup_hash(ctx, directory, directory_inode, name)
    inode = None if dentry is None else await ctx.ask(dentry.read_inode)
    if inode is not None and inode.i_rwsem is not None:
        inode = None
    if dentry is not None and inode is not None:
        await ihold(ctx, inode)
        await vfs_unlink(ctx, directory_inode, dentry)
    await dput(ctx, dentry)
    await up_write(ctx, i_rwsem)
    await iput(ctx, inode)
    return inode is not None


@kernel_fn("vfs_unlink", "fs/namei.c")
async def vfs_unlink(ctx: Context, directory: Inode, dentry: Dentry) -> None:
    """Remove the name from the filesystem, then from the dentry cache; both inodes' locks are one lock here."""
    await directory.i_sb.s_type.unlink(ctx, directory, dentry)
    await d_delete(ctx, dentry)


# -- rmdir ------------------------------------------------------------------------------------------------------------


@kernel_fn("do_rmdir", "fs/namei.c")
async def do_rmdir(ctx: Context, directory: Dentry, name: str) -> bool:
    """unlinkat(2) with AT_REMOVEDIR; False is -ENOENT or the filesystem's error (-EBUSY)."""
    directory_inode, i_rwsem = inode_of(directory)
    await down_write(ctx, i_rwsem)
    dentry, removed = await __lookup_hash(ctx, directory, directory_inode, name), False
    if dentry is not None and await ctx.ask(dentry.read_inode) is not None:
        removed = await vfs_rmdir(ctx, directory_inode, dentry)
    await dput(ctx, dentry)
    await up_write(ctx, i_rwsem)
    return removed


@kernel_fn("vfs_rmdir", "fs/namei.c")
async def vfs_rmdir(ctx: Context, directory: Inode, dentry: Dentry) -> bool:
    """Remove the directory from the filesystem, free the dentries below it, make its own dentry negative."""
    rmdir = directory.i_sb.s_type.rmdir
    if rmdir is None:
        return False
    _, i_rwsem = inode_of(dentry)
    await dget(ctx, dentry)
    await down_write_nested(ctx, i_rwsem)
    removed = await rmdir(ctx, directory, dentry)
    if removed:
        await shrink_dcache_parent(ctx, dentry)
    await up_write(ctx, i_rwsem)
    await dput(ctx, dentry)
    if removed:
        await d_delete(ctx, dentry)
    return removed
