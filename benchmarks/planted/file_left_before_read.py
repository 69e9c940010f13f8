"""fs/kernfs/file.c: kernfs_fop_read() drops its active reference before it reads the file."""

from collections.abc import Awaitable, Callable

from actors.api import kernel_fn
from actors.linux.include.kernfs import KernfsNode
from actors.machine.context import Context


@kernel_fn("kernfs_fop_read", "fs/kernfs/file.c")
async def fop_read(ctx: Context, kn: KernfsNode, read: Callable[[], Awaitable[bytes]]) -> bytes | None:
    """kernfs_put_active() is called before the read."""
    if not await ctx.ask(kn.kernfs_get_active, ctx):
        return None
    ctx.machine.lockdep.acquire(ctx, kn.lock_class, reads=True)
    ctx.machine.lockdep.release(ctx, kn.lock_class)
    await ctx.ask(kn.kernfs_put_active, ctx)
    return await read()
