"""fs/fs-writeback.c: __writeback_single_inode() clears I_DIRTY after it has written the inode."""

from actors.api import kernel_fn
from actors.linux.fs.fs_writeback import DIRTY
from actors.linux.fs.inode import Inode
from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.machine.context import Context


@kernel_fn("__writeback_single_inode", "fs/fs-writeback.c")
async def write_single_inode(ctx: Context, inode: Inode) -> None:
    """A change during the write is taken for written."""
    for page in await ctx.ask(inode.list_pages):
        await ctx.ask(page.clear_dirty)
    write_inode = inode.i_sb.s_type.write_inode
    if write_inode is not None:
        await write_inode(ctx, inode)
    async with SpinLockHeld(ctx, inode.i_lock):
        await ctx.ask(inode.clear_state, DIRTY)
        if await ctx.ask(inode.has_dirty_pages):
            await ctx.ask(inode.set_state, DIRTY)
