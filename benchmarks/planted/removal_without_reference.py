"""mm/slub.c: sysfs_slab_remove() queues the removal work without a reference to the kobject."""

from actors.api import kernel_fn
from actors.linux.kernel.workqueue import Work, queue_work
from actors.linux.mm.kmem_cache import KmemCache, cache_of
from actors.linux.mm.slub_sysfs import kobject_of
from actors.machine.context import Context


@kernel_fn("sysfs_slab_remove", "mm/slub.c")
async def remove(ctx: Context, s: KmemCache) -> None:
    """No kobject_get()."""
    await queue_work(ctx, ctx.machine.system_wq, s.kobj_remove_work)


@kernel_fn("sysfs_slab_remove_workfn", "mm/slub.c")
async def removed(ctx: Context, work: Work) -> None:
    """No kobject_put() either."""
    await ctx.ask(kobject_of(cache_of(work.container)).read_in_sysfs)
