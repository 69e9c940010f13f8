"""Dirty inodes and their writeback. fs/fs-writeback.c @5.3.1.

A dirty inode is on its filesystem's dirty list until it is written; only then may it be on the LRU. An inode under
writeback (I_SYNC) cannot be freed.
"""

from __future__ import annotations

from actors.linux.fs.inode import Inode, InodeState, inode_add_lru
from actors.linux.fs.super import SuperBlock
from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn


@kernel_fn("inode_io_list_del", "fs/fs-writeback.c")
async def inode_io_list_del(ctx: Context, inode: Inode) -> None:
    """Take an inode off the dirty list; one that is being freed need not be written."""
    async with SpinLockHeld(ctx, inode.i_sb.wb_list_lock):
        await ctx.ask(inode.i_sb.delete_dirty_inode, inode)


SYNC, DIRTY, FREEING = InodeState.SYNC, InodeState.DIRTY, InodeState.FREEING


@kernel_fn("__mark_inode_dirty", "fs/fs-writeback.c")
async def __mark_inode_dirty(ctx: Context, inode: Inode) -> None:
    """Mark the inode dirty and put it on the dirty list; if it is under writeback, the writer puts it there again."""
    if DIRTY in await ctx.ask(inode.read_state):
        return
    async with SpinLockHeld(ctx, inode.i_lock):
        was = await ctx.ask(inode.read_state)
        await ctx.ask(inode.set_state, DIRTY)
        has_to_move = not was & (DIRTY | SYNC | FREEING) and await ctx.ask(inode.i_sb.is_hashed, inode)
    if has_to_move:
        async with SpinLockHeld(ctx, inode.i_sb.wb_list_lock):
            await ctx.ask(inode.i_sb.add_dirty_inode, inode)


@kernel_fn("sync_inodes_sb", "fs/fs-writeback.c")
async def sync_inodes_sb(ctx: Context, sb: SuperBlock) -> None:
    """Write every dirty inode, including those that become dirty meanwhile."""
    while (inode := await start_writing_oldest(ctx, sb)) is not None:
        await __writeback_single_inode(ctx, inode)
        await finish_writing(ctx, inode)


async def start_writing_oldest(ctx: Context, sb: SuperBlock) -> Inode | None:
    """The first half of writeback_sb_inodes(): take the oldest dirty inode off the list and set I_SYNC.

    An inode that is being freed stays on the list (redirty_tail()). So evict() has to take it off, and for that waits
    for the list's lock. Therefore the inode whose i_lock is held here cannot be freed meanwhile.
    """
    async with SpinLockHeld(ctx, sb.wb_list_lock):
        for inode in await ctx.ask(sb.list_dirty_inodes):
            async with SpinLockHeld(ctx, inode.i_lock):
                if FREEING in await ctx.ask(inode.read_state):
                    await ctx.ask(sb.add_dirty_inode, inode)
                else:
                    await ctx.ask(sb.delete_dirty_inode, inode)
                    await ctx.ask(inode.set_state, SYNC)
                    return inode
    return None


@kernel_fn("__writeback_single_inode", "fs/fs-writeback.c")
async def __writeback_single_inode(ctx: Context, inode: Inode) -> None:
    """Write the pages, then the inode itself; it stays dirty if pages became dirty meanwhile (I_DIRTY_PAGES)."""
    for page in await ctx.ask(inode.list_pages):
        await ctx.ask(page.clear_dirty)
    async with SpinLockHeld(ctx, inode.i_lock):
        await ctx.ask(inode.clear_state, DIRTY)
        if await ctx.ask(inode.has_dirty_pages):
            await ctx.ask(inode.set_state, DIRTY)
    write_inode = inode.i_sb.s_type.write_inode
    if write_inode is not None:
        await write_inode(ctx, inode)


async def finish_writing(ctx: Context, inode: Inode) -> None:
    """The second half: requeue_inode(), which skips an inode that is being freed, then inode_sync_complete()."""
    sb = inode.i_sb
    async with SpinLockHeld(ctx, sb.wb_list_lock), SpinLockHeld(ctx, inode.i_lock):
        if await ctx.ask(inode.read_state) & (DIRTY | FREEING) == DIRTY:
            await ctx.ask(sb.add_dirty_inode, inode)
        await inode_sync_complete(ctx, inode)


@kernel_fn("inode_sync_complete", "fs/fs-writeback.c")
async def inode_sync_complete(ctx: Context, inode: Inode) -> None:
    """Clear I_SYNC, and put the inode on the LRU if it is clean and unused; i_lock is held."""
    await ctx.ask(inode.clear_state, SYNC)
    await inode_add_lru(ctx, inode)
