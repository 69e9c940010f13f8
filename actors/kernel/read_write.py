"""Reading and writing files through the page cache. fs/read_write.c, mm/filemap.c @5.3.1."""

from __future__ import annotations

from actors.kernel.context import Context, deref
from actors.kernel.filemap import add_to_page_cache_lru
from actors.kernel.fs_writeback import __mark_inode_dirty
from actors.kernel.inode import Inode
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.namei import File


@kernel_fn("vfs_write", "fs/read_write.c")
async def vfs_write(ctx: Context, file: File, nr_pages: int) -> int:
    """Append *nr_pages* to an open file; how many there was memory for."""
    inode = deref(file.dentry.d_inode, "vfs_write(): file->f_inode")
    return await generic_perform_write(ctx, inode, nr_pages)


@kernel_fn("generic_perform_write", "mm/filemap.c")
async def generic_perform_write(ctx: Context, inode: Inode, nr_pages: int) -> int:
    """New pages at the end, dirty until they are written back."""
    for written in range(nr_pages):
        size = await ctx.ask(inode.read_size)
        if not await add_to_page_cache_lru(ctx, inode, size, is_dirty=True):
            return written
        await ctx.ask(inode.set_size, size + 1)
        if inode.i_sb.s_type.has_reclaimable_pages:
            await __mark_inode_dirty(ctx, inode)
    return nr_pages


@kernel_fn("vfs_read", "fs/read_write.c")
async def vfs_read(ctx: Context, file: File) -> int:
    """Read an open file from its beginning to its end; how many pages of it are in memory then."""
    inode = deref(file.dentry.d_inode, "vfs_read(): file->f_inode")
    return await generic_file_buffered_read(ctx, inode)


@kernel_fn("generic_file_buffered_read", "mm/filemap.c")
async def generic_file_buffered_read(ctx: Context, inode: Inode) -> int:
    """Pages that are not there are read from the disk, clean."""
    size = await ctx.ask(inode.read_size)
    for index in range(size):
        if not await ctx.ask(inode.has_page, index) and not await add_to_page_cache_lru(
            ctx, inode, index, is_dirty=False
        ):
            return index
    return size
