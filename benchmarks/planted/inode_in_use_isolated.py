"""fs/inode.c: inode_lru_isolate() does not check i_count."""

from actors.api import kernel_fn
from actors.linux.fs.inode import Inode, InodeState, drop_pages_first
from actors.linux.kernel.locking.locks import spin_trylock, spin_unlock
from actors.linux.mm.list_lru import ListLruWalk, LruItem, LruStatus
from actors.machine.context import Context


@kernel_fn("inode_lru_isolate", "fs/inode.c")
async def isolate(ctx: Context, item: LruItem, walk: ListLruWalk) -> LruStatus:
    """Only the state of the inode decides."""
    inode = item.container
    assert isinstance(inode, Inode)
    if not await spin_trylock(ctx, inode.i_lock):
        return LruStatus.SKIP
    state = await ctx.ask(inode.read_state)
    if state & ~InodeState.REFERENCED:
        await ctx.ask(walk.node.isolate, item, walk.one)
        await spin_unlock(ctx, inode.i_lock)
        return LruStatus.REMOVED
    if InodeState.REFERENCED in state:
        await ctx.ask(inode.clear_state, InodeState.REFERENCED)
        await spin_unlock(ctx, inode.i_lock)
        return LruStatus.ROTATE
    if await ctx.ask(inode.read_nrpages):
        return await drop_pages_first(ctx, inode, walk)
    await ctx.ask(inode.set_state, InodeState.FREEING)
    await ctx.ask(walk.node.isolate_move, item, walk.one, walk.freeable)
    await spin_unlock(ctx, inode.i_lock)
    return LruStatus.REMOVED
