"""lib/lockref.c: lockref_put_or_lock() does not drop the reference if it had to wait for the lock."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import spin_lock, spin_unlock
from actors.linux.lib.lockref import Lockref
from actors.machine.context import Context


@kernel_fn("lockref_put_or_lock", "lib/lockref.c")
async def put_or_lock(ctx: Context, lockref: Lockref) -> bool:
    """No lockref->count-- with the lock held."""
    if await ctx.ask(lockref.put_unless_last):
        return True
    await spin_lock(ctx, lockref)
    if await ctx.ask(lockref.read_count) <= 1:
        return False
    await spin_unlock(ctx, lockref)
    return True
