"""Directory operations that simple filesystems share. fs/libfs.c @5.3.1."""

from __future__ import annotations

from actors.linux.fs.dcache import Dentry, d_add
from actors.linux.fs.inode import Inode
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn

# -- lookup -----------------------------------------------------------------------------------------------------------


@kernel_fn("simple_lookup", "fs/libfs.c")
async def simple_lookup(ctx: Context, directory: Inode, dentry: Dentry) -> bool:
    """Make the dentry negative: a name without a dentry does not exist."""
    await d_add(ctx, dentry, None)
    return True
