"""A write to /proc/sys/vm/drop_caches. fs/drop_caches.c @5.3.1; KERNEL.md 11.5."""

from __future__ import annotations

from actors.linux.fs.inode import Inode, InodeState, iput
from actors.linux.fs.super import SuperBlock, iterate_supers
from actors.linux.include.swap import lru_add_drain_all
from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.linux.mm.truncate import invalidate_mapping_pages
from actors.linux.mm.vmscan import drop_slab
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn

PAGE_CACHE, SLAB = 1, 2


@kernel_fn("drop_caches_sysctl_handler", "fs/drop_caches.c", profiles="6.12..")
async def drop_caches_sysctl_handler_6_12(ctx: Context, value: int) -> None:
    """[6.12] A page in a batch has one more reference, so the batches are emptied first."""
    if value & PAGE_CACHE:
        await lru_add_drain_all(ctx)
        await iterate_supers(ctx, drop_pagecache_sb)
    if value & SLAB:
        await drop_slab(ctx)


@kernel_fn("drop_caches_sysctl_handler", "fs/drop_caches.c", profiles="..5.4-fixed")
async def drop_caches_sysctl_handler(ctx: Context, value: int) -> None:
    """1 frees clean pages of the page cache, 2 frees slab objects by their shrinkers, 3 does both."""
    if value & PAGE_CACHE:
        await iterate_supers(ctx, drop_pagecache_sb)
    if value & SLAB:
        await drop_slab(ctx)


@kernel_fn("drop_pagecache_sb", "fs/drop_caches.c")
async def drop_pagecache_sb(ctx: Context, sb: SuperBlock) -> None:
    """Invalidate the pages of one inode after the other; a reference to the present one keeps the place in the list."""
    toput_inode, inode = None, await hold_next_inode(ctx, sb, None)
    while inode is not None:
        await invalidate_mapping_pages(ctx, inode)
        await iput(ctx, toput_inode)
        toput_inode, inode = inode, await hold_next_inode(ctx, sb, inode)
    await iput(ctx, toput_inode)


async def hold_next_inode(ctx: Context, sb: SuperBlock, after: Inode | None) -> Inode | None:
    """Find the next inode that has pages and is not being freed; take a reference."""
    async with SpinLockHeld(ctx, sb.s_inode_list_lock):
        inode = await ctx.ask(sb.next_inode, after)
        while inode is not None:
            async with SpinLockHeld(ctx, inode.i_lock):
                is_going = bool(await ctx.ask(inode.read_state) & (InodeState.FREEING | InodeState.NEW))
                nrpages = await ctx.ask(inode.read_nrpages)
                if nrpages and not is_going:
                    await ctx.ask(inode.get)
                    return inode
            inode = await ctx.ask(sb.next_inode, inode)
    return None
