"""fs/fs-writeback.c: inode_sync_complete() calls inode_add_lru() while I_SYNC is still set."""

from actors.api import kernel_fn
from actors.linux.fs.fs_writeback import SYNC
from actors.linux.fs.inode import Inode, inode_add_lru
from actors.machine.context import Context


@kernel_fn("inode_sync_complete", "fs/fs-writeback.c")
async def complete(ctx: Context, inode: Inode) -> None:
    """I_SYNC is cleared too late."""
    await inode_add_lru(ctx, inode)
    await ctx.ask(inode.clear_state, SYNC)
