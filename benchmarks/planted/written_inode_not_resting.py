"""fs/fs-writeback.c: inode_sync_complete() wants the inode on the LRU while it counts as being written."""

from actors.api import kernel_fn
from actors.linux.fs.fs_writeback import SYNC
from actors.linux.fs.inode import Inode, inode_add_lru
from actors.machine.context import Context


@kernel_fn("inode_sync_complete", "fs/fs-writeback.c")
async def complete(ctx: Context, inode: Inode) -> None:
    """I_SYNC is cleared only afterwards."""
    await inode_add_lru(ctx, inode)
    await ctx.ask(inode.clear_state, SYNC)
