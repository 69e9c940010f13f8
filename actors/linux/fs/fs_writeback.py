"""Dirty inodes, and what makes them clean. fs/fs-writeback.c @5.3.1.

A dirty inode is on its filesystem's list until it is written; only then may it rest on the LRU. While it is being
written nobody can free it (I_SYNC).
"""

from __future__ import annotations

from actors.linux.fs.inode import Inode, InodeState, inode_add_lru
from actors.linux.fs.super import SuperBlock
from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn


@kernel_fn("inode_io_list_del", "fs/fs-writeback.c")
async def inode_io_list_del(ctx: Context, inode: Inode) -> None:
    """What is going away need not be written."""
    async with SpinLockHeld(ctx, inode.i_sb.wb_list_lock):
        await ctx.ask(inode.i_sb.delete_dirty_inode, inode)


SYNC, DIRTY, FREEING = InodeState.SYNC, InodeState.DIRTY, InodeState.FREEING


@kernel_fn("__mark_inode_dirty", "fs/fs-writeback.c")
async def __mark_inode_dirty(ctx: Context, inode: Inode) -> None:
    """The inode has to be written some time; while it is being written, whoever writes will see to that again."""
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
    """Write every inode that is dirty now; what is dirtied meanwhile, too."""
    while (inode := await start_writing_oldest(ctx, sb)) is not None:
        await __writeback_single_inode(ctx, inode)
        await finish_writing(ctx, inode)


async def start_writing_oldest(ctx: Context, sb: SuperBlock) -> Inode | None:
    """The first half of writeback_sb_inodes(): the oldest dirty inode, marked with I_SYNC.

    An inode that is being freed stays on the list, redirty_tail(): so evict() takes it off there, and has to wait for
    the lock of the list before it can free the lock that is held here.
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
    """The pages, then the inode itself; it stays dirty if pages have come meanwhile (I_DIRTY_PAGES)."""
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
    """The second half: requeue_inode(), which leaves alone what is being freed, and inode_sync_complete()."""
    sb = inode.i_sb
    async with SpinLockHeld(ctx, sb.wb_list_lock), SpinLockHeld(ctx, inode.i_lock):
        if await ctx.ask(inode.read_state) & (DIRTY | FREEING) == DIRTY:
            await ctx.ask(sb.add_dirty_inode, inode)
        await inode_sync_complete(ctx, inode)


@kernel_fn("inode_sync_complete", "fs/fs-writeback.c")
async def inode_sync_complete(ctx: Context, inode: Inode) -> None:
    """Written: a clean inode that nobody uses may rest; i_lock is held."""
    await ctx.ask(inode.clear_state, SYNC)
    await inode_add_lru(ctx, inode)
