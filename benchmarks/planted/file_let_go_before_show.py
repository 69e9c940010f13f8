"""fs/kernfs/file.c: kernfs_seq_show() drops its active reference before it shows the file."""

from actors.api import kernel_fn
from actors.linux.mm.slub_sysfs import KN_ACTIVE, Kobject, Show, show_slab_objects
from actors.machine.context import Context


@kernel_fn("kernfs_seq_show", "fs/kernfs/file.c")
async def seq_show(ctx: Context, kobj: Kobject, show: Show | None = None) -> int | None:
    """kernfs_put_active() is called too early."""
    kn = kobj.sd
    if not await ctx.ask(kn.kernfs_get_active, ctx):
        return None
    ctx.machine.lockdep.acquire(ctx, KN_ACTIVE, reads=True)
    await ctx.ask(kn.kernfs_put_active, ctx)
    shown = await (show or show_slab_objects)(ctx, kobj.cache)
    ctx.machine.lockdep.release(ctx, KN_ACTIVE)
    return shown
