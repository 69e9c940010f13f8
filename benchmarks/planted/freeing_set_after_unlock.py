"""fs/inode.c: iput_final() sets I_FREEING after it has released i_lock."""

from actors.api import kernel_fn
from actors.linux.fs.inode import Inode, InodeState, evict, inode_add_lru, inode_lru_list_del
from actors.linux.kernel.locking.locks import spin_unlock
from actors.machine.context import Context


@kernel_fn("iput_final", "fs/inode.c")
async def put_final(ctx: Context, inode: Inode) -> None:
    """The change of i_state has moved behind spin_unlock()."""
    if not await inode.i_sb.s_type.drop_inode(ctx, inode):
        await inode_add_lru(ctx, inode)
        await spin_unlock(ctx, inode.i_lock)
        return
    if await ctx.ask(inode.is_on_lru):
        await inode_lru_list_del(ctx, inode)
    await spin_unlock(ctx, inode.i_lock)
    await ctx.ask(inode.set_state, InodeState.FREEING)
    await evict(ctx, inode)
