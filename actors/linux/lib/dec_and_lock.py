"""Drop a reference and take a lock if it was the last one. lib/dec_and_lock.c @5.3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.linux.kernel.locking.locks import spin_lock, spin_unlock
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn

if TYPE_CHECKING:
    from actors.linux.fs.inode import Inode


@kernel_fn("_atomic_dec_and_lock", "lib/dec_and_lock.c")
async def atomic_dec_and_lock(ctx: Context, inode: Inode) -> bool:
    """Drop a reference; if it was the last, return with i_lock held."""
    if await ctx.ask(inode.put_unless_last):
        return False
    await spin_lock(ctx, inode.i_lock)
    if await ctx.ask(inode.put_testzero):
        return True
    await spin_unlock(ctx, inode.i_lock)
    return False
