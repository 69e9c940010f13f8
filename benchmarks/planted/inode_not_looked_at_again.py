"""fs/dcache.c: shrink_lock_dentry() does not check whether the dentry still has the inode whose lock it waited for."""

from actors.api import kernel_fn
from actors.linux.fs.dcache import Dentry
from actors.linux.kernel.locking.locks import spin_lock, spin_lock_nested, spin_trylock, spin_unlock
from actors.machine.context import Context


@kernel_fn("shrink_lock_dentry", "fs/dcache.c")
async def lock_dentry(ctx: Context, dentry: Dentry) -> bool:
    """No test of inode != dentry->d_inode."""
    lockref, parent = dentry.d_lockref, dentry.d_parent
    if await ctx.ask(lockref.read_count):
        return False
    inode = await ctx.ask(dentry.read_inode)
    if inode is not None and not await spin_trylock(ctx, inode.i_lock):
        await spin_unlock(ctx, lockref)
        await spin_lock(ctx, inode.i_lock)
        await spin_lock(ctx, lockref)
        if await ctx.ask(lockref.read_count):
            await spin_unlock(ctx, inode.i_lock)
            return False
    if parent is None or await spin_trylock(ctx, parent.d_lockref):
        return True
    await spin_unlock(ctx, lockref)
    await spin_lock(ctx, parent.d_lockref)
    await spin_lock_nested(ctx, lockref)
    if not await ctx.ask(lockref.read_count):
        return True
    await spin_unlock(ctx, parent.d_lockref)
    if inode is not None:
        await spin_unlock(ctx, inode.i_lock)
    return False
