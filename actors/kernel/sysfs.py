"""The sysfs side of SLUB's caches: kobjects, active references, removal. mm/slub.c, fs/kernfs @5.3; KERNEL.md 10.8.

A cache's kobject holds the struct until the last reference goes. Its directory goes with kobject_del(), which waits for
those who are inside one of its files (they hold an active reference).
"""

from __future__ import annotations

import attrs

from actors.kernel.context import Context, deref
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.kmem_cache import KmemCache, cache_of
from actors.kernel.slab_mutex import get_online_mems, put_online_mems
from actors.kernel.workqueue import Work, queue_work
from actors.system.actor import Shared
from protocol.operations import READ, UPDATE, operation

KN_ACTIVE = "kn->active"
"""lockdep's class of being inside a sysfs file, and of waiting for those who are."""


@attrs.define(eq=False)
class Kobject(Shared):
    """struct kobject of a cache with its kernfs node: `refs` hold the struct, `active` are readers inside a file."""

    cache: KmemCache
    refs: int = 1
    in_sysfs: bool = True
    active: dict[Context, None] = attrs.field(factory=dict, init=False)

    @property
    def label(self) -> str:
        return f"kobject of {self.cache.name}"

    @property
    def held_by(self) -> str:
        return f", held by {', '.join(ctx.name for ctx in self.active)}" if self.active else ""

    @operation(UPDATE)
    def add_ref(self, nr: int) -> int:
        self.refs += nr
        return self.refs

    @operation(UPDATE)
    def kernfs_get_active(self, ctx: Context) -> bool:
        """Go inside a file; False (-ENODEV) if it is being removed."""
        if self.in_sysfs:
            self.active[ctx] = None
        return self.in_sysfs

    @operation(UPDATE)
    def kernfs_put_active(self, ctx: Context) -> None:
        self.active.pop(ctx, None)

    @operation(UPDATE)
    def deactivate(self) -> None:
        """Nobody gets inside any more."""
        self.in_sysfs = False

    def is_drained(self) -> bool:
        return not self.active

    @operation(READ, when=is_drained, sleeps=True)
    def kernfs_drain(self) -> None:
        """Sleep until nobody is inside."""

    @operation(READ)
    def read_in_sysfs(self) -> bool:
        return self.in_sysfs


def kobject_of(s: KmemCache) -> Kobject:
    return deref(s.kobj, "&s->kobj")


@kernel_fn("sysfs_slab_add", "mm/slub.c")
def sysfs_slab_add(ctx: Context, s: KmemCache) -> None:
    """Make the directory; the work that removes it is part of the cache."""
    add_kobject(s)


def add_kobject(s: KmemCache) -> None:
    """At boot, too, once sysfs is there (slab_sysfs_init)."""
    s.kobj = Kobject(s.actor, s)
    s.kobj_remove_work.init_work(sysfs_slab_remove_workfn)


@kernel_fn("sysfs_slab_remove", "mm/slub.c")
async def sysfs_slab_remove(ctx: Context, s: KmemCache) -> None:
    """Announce the removal from a worker, for which the cache is held."""
    await ctx.ask(kobject_of(s).add_ref, 1)
    await queue_work(ctx, ctx.machine.system_wq, s.kobj_remove_work)


@kernel_fn("sysfs_slab_remove_workfn", "mm/slub.c")
async def sysfs_slab_remove_workfn(ctx: Context, work: Work) -> None:
    """Tell user space, unless the directory is gone already; then let go of the cache."""
    kobj = kobject_of(cache_of(work.container))
    await ctx.ask(kobj.read_in_sysfs)
    await kobject_put(ctx, kobj)


@kernel_fn("sysfs_slab_unlink", "mm/slub.c")
async def sysfs_slab_unlink(ctx: Context, s: KmemCache) -> None:
    """kobject_del(): the directory goes, so that its name is free; waits for those who are inside."""
    kobj = kobject_of(s)
    ctx.might_sleep("kernfs_drain")
    lockdep = ctx.machine.lockdep
    lockdep.acquire(ctx, KN_ACTIVE)
    await ctx.ask(kobj.deactivate)
    await ctx.ask(kobj.kernfs_drain)
    lockdep.release(ctx, KN_ACTIVE)


@kernel_fn("sysfs_slab_release", "mm/slub.c")
async def sysfs_slab_release(ctx: Context, s: KmemCache) -> None:
    await kobject_put(ctx, kobject_of(s))


@kernel_fn("kobject_put", "lib/kobject.c")
async def kobject_put(ctx: Context, kobj: Kobject) -> None:
    """Drop a reference; the last one frees the cache."""
    if await ctx.ask(kobj.add_ref, -1) == 0:
        await ctx.machine.slab_ktype_release(ctx, kobj.cache)


# -- readers ----------------------------------------------------------------------------------------------------------


@kernel_fn("kernfs_seq_show", "fs/kernfs/file.c")
async def kernfs_seq_show(ctx: Context, kobj: Kobject) -> int | None:
    """Read /sys/kernel/slab/NAME/objects through an open file; None (-ENODEV) if the directory is gone."""
    if not await ctx.ask(kobj.kernfs_get_active, ctx):
        return None
    ctx.machine.lockdep.acquire(ctx, KN_ACTIVE, reads=True)
    shown = await show_slab_objects(ctx, kobj.cache)
    ctx.machine.lockdep.release(ctx, KN_ACTIVE)
    await ctx.ask(kobj.kernfs_put_active, ctx)
    return shown


@kernel_fn("show_slab_objects", "mm/slub.c", profiles="..5.3")
async def show_slab_objects(ctx: Context, s: KmemCache) -> int:
    """How many slabs the nodes have; memory hotplug is kept out for that."""
    await get_online_mems(ctx)
    shown = await count_slabs(ctx, s)
    await put_online_mems(ctx)
    return shown


@kernel_fn("show_slab_objects", "mm/slub.c", profiles="5.4-fixed")
async def show_slab_objects_fixed(ctx: Context, s: KmemCache) -> int:
    """[54]: a count that is wrong for a moment is better than a deadlock (e4f8e513c3d3)."""
    return await count_slabs(ctx, s)


async def count_slabs(ctx: Context, s: KmemCache) -> int:
    return sum([await ctx.ask(n.read_nr_slabs) for n in s.node])
