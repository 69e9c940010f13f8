"""The walk of everything below a dentry that frees what nobody uses. fs/dcache.c @5.3.1.

rmdir() does it to the directory that it removes: what was looked up below it must not stay behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.kernel.dcache import LRU_LIST, SHRINK_LIST, d_lru_del, shrink_dentry_list, verify_flags
from actors.kernel.dentry import DentryFlags
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.list_lru import LruList
from actors.kernel.locks import SpinLockHeld, spin_lock_nested, spin_unlock

if TYPE_CHECKING:
    from actors.kernel.context import Context
    from actors.kernel.dentry import Dentry


@kernel_fn("shrink_dcache_parent", "fs/dcache.c")
async def shrink_dcache_parent(ctx: Context, parent: Dentry) -> None:
    """Free the dentries below *parent* that nobody uses, until a walk finds none."""
    while True:
        dispose = LruList()
        found = await d_walk(ctx, parent, dispose)
        if not found:
            return
        await shrink_dentry_list(ctx, dispose)


@kernel_fn("d_walk", "fs/dcache.c")
async def d_walk(ctx: Context, parent: Dentry, dispose: LruList) -> int:
    """select_collect() for every dentry below *parent*, each before its own children; how many may go."""
    found = 0
    async with SpinLockHeld(ctx, parent.d_lockref):
        children = await ctx.ask(parent.list_children)
        for child in children:
            await spin_lock_nested(ctx, child.d_lockref)
            found += await select_collect(ctx, child, dispose)
            await spin_unlock(ctx, child.d_lockref)
    for child in children:
        found += await d_walk(ctx, child, dispose)
    return found


@kernel_fn("select_collect", "fs/dcache.c")
async def select_collect(ctx: Context, dentry: Dentry, dispose: LruList) -> bool:
    """Take an unused dentry for oneself, d_lock is held; what another walk has taken is waited for."""
    flags = await ctx.ask(dentry.read_flags)
    if SHRINK_LIST in flags:
        return True
    if LRU_LIST in flags:
        await d_lru_del(ctx, dentry)
    if await ctx.ask(dentry.d_lockref.read_count):
        return False
    verify_flags(ctx, await ctx.ask(dentry.add_to_shrink_list, dispose), DentryFlags.NONE)
    return True
