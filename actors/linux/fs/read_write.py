"""Reading and writing files through the page cache. fs/read_write.c, mm/filemap.c @5.3.1."""

from __future__ import annotations

from actors.linux.fs.file_table import File
from actors.linux.mm.filemap import generic_file_buffered_read, generic_perform_write
from actors.machine.context import Context, deref
from actors.versions.kernel_fn import kernel_fn


@kernel_fn("vfs_write", "fs/read_write.c")
async def vfs_write(ctx: Context, file: File, nr_pages: int) -> int:
    """Append *nr_pages* to an open file; return the number of pages written before memory ran out."""
    inode = deref(file.dentry.d_inode, "vfs_write(): file->f_inode")
    return await generic_perform_write(ctx, inode, nr_pages)


@kernel_fn("vfs_read", "fs/read_write.c")
async def vfs_read(ctx: Context, file: File) -> int:
    """Read an open file from beginning to end; return the number of pages read before memory ran out."""
    inode = deref(file.dentry.d_inode, "vfs_read(): file->f_inode")
    return await generic_file_buffered_read(ctx, inode)
