"""fs/dcache.c: __dentry_kill() frees the dentry although it is on a shrinker's list."""

from actors.api import kernel_fn
from actors.linux.fs.dcache import LRU_LIST, SHRINK_LIST, Dentry, d_lru_del, dentry_free, dentry_unlink_inode
from actors.linux.kernel.locking.locks import spin_unlock
from actors.machine.context import Context


@kernel_fn("__dentry_kill", "fs/dcache.c")
async def kill(ctx: Context, dentry: Dentry) -> None:
    """DCACHE_SHRINK_LIST is not checked at the end."""
    await ctx.ask(dentry.d_lockref.mark_dead)
    flags = await ctx.ask(dentry.read_flags)
    if LRU_LIST in flags and SHRINK_LIST not in flags:
        await d_lru_del(ctx, dentry)
    await ctx.ask(dentry.d_sb.unhash_dentry, dentry)
    if dentry.d_parent is not None:
        await ctx.ask(dentry.d_parent.delete_child, dentry)
        await spin_unlock(ctx, dentry.d_parent.d_lockref)
    if await ctx.ask(dentry.read_inode) is not None:
        await dentry_unlink_inode(ctx, dentry)
    else:
        await spin_unlock(ctx, dentry.d_lockref)
    await dentry_free(ctx, dentry)
