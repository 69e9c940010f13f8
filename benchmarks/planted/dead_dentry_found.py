"""fs/dcache.c: d_lookup() does not check again under the lock whether the dentry is hashed."""

from actors.api import kernel_fn
from actors.linux.fs.dcache import Dentry
from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.machine.context import Context


@kernel_fn("d_lookup", "fs/dcache.c")
async def lookup(ctx: Context, parent: Dentry, name: str) -> Dentry | None:
    """No second d_unhashed()."""
    with ctx.rcu_read_section:
        dentry = await ctx.ask(parent.d_sb.find_dentry, parent, name)
        if dentry is None:
            return None
        async with SpinLockHeld(ctx, dentry.d_lockref):
            await ctx.ask(dentry.d_lockref.add, 1)
    return dentry
