"""fs/inode.c: evict() does not wait until the writeback of the inode has ended."""

from actors.api import kernel_fn
from actors.linux.fs.inode import Inode, InodeState, destroy_inode
from actors.linux.include.fs import inode_io_list_del
from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.machine.context import BUG_ON, Context


@kernel_fn("evict", "fs/inode.c")
async def evict(ctx: Context, inode: Inode) -> None:
    """No inode_wait_for_writeback()."""
    state = await ctx.ask(inode.read_state)
    BUG_ON(ctx, InodeState.FREEING not in state, "evict: !(inode->i_state & I_FREEING)")
    BUG_ON(ctx, await ctx.ask(inode.is_on_lru), "evict: !list_empty(&inode->i_lru)")
    if await ctx.ask(inode.i_sb.is_dirty_inode, inode):
        await inode_io_list_del(ctx, inode)
    async with SpinLockHeld(ctx, inode.i_sb.s_inode_list_lock):
        await ctx.ask(inode.i_sb.delete_inode, inode)
    await inode.i_sb.s_type.evict_inode(ctx, inode)
    async with SpinLockHeld(ctx, ctx.machine.vfs.inode_hash_lock):
        await ctx.ask(inode.i_sb.unhash_inode, inode)
    await destroy_inode(ctx, inode)
