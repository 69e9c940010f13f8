"""fs/dcache.c: __dentry_kill() frees the dentry though it is on the list of somebody who shrinks."""

from actors.kernel.context import Context
from actors.kernel.dcache import LRU_LIST, SHRINK_LIST, d_lru_del, dentry_free, dentry_unlink_inode
from actors.kernel.dentry import Dentry
from actors.kernel.locks import spin_unlock
from actors.kernel.patching import kernel_fn


@kernel_fn("__dentry_kill", "fs/dcache.c")
async def kill(ctx: Context, dentry: Dentry) -> None:
    """Nobody looks at DCACHE_SHRINK_LIST in the end."""
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
