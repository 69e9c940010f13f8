"""SLUB's caches in sysfs: kobjects, directories, their removal, readers. mm/slub.c @5.3; KERNEL.md 10.8.

A cache's kobject pins the struct until the last reference is dropped. kobject_del() removes the cache's directory; it
waits for the readers inside its files, which hold active references. The directory of a child cache is in its root's,
below `cgroup/` (CONFIG_SLUB_MEMCG_SYSFS_ON). From 6.12 on there are no children, and no work announces a removal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from actors.linux.include.kernfs import KernfsNode
from actors.linux.include.slab import SlabFlags, kmalloc
from actors.linux.kernel.workqueue import Work, queue_work
from actors.linux.mm.kmem_cache import KmemCache, cache_of
from actors.linux.mm.slab_common import is_unmergeable, slab_kmem_cache_release, slab_unmergeable
from actors.linux.mm.slab_h import get_online_mems, put_online_mems
from actors.machine.context import Context, deref
from actors.machine.errno import EEXIST, ENOMEM
from actors.machine.gfp import GFP_KERNEL
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from actors.versions.profiles import WITHOUT_CHILD_CACHES
from protocol.formats.slab_directory import DirectoryEntry, render_directory, unique_id
from protocol.operations import READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine

Show = Callable[[Context, KmemCache], Awaitable[int]]
"""The content of a file of a cache's directory."""

KN_ACTIVE = "kn->active"
"""lockdep's class for the active reference: readers inside a sysfs file hold it, kernfs_drain() waits for them."""


@attrs.define(eq=False)
class Kobject(Shared):
    """struct kobject of a cache: `refs` pin the struct.

    `sd` is its directory, which outlives the cache: an open file pins the directory, not the kobject.
    """

    cache: KmemCache
    sd: KernfsNode
    refs: int = 1

    @property
    def label(self) -> str:
        return f"kobject of {self.cache.name}"

    @property
    def tally(self) -> tuple[str, int]:
        return "references", self.refs

    @property
    def name(self) -> str:
        return self.sd.name

    @property
    def is_removed(self) -> bool:
        return self.sd.is_removed

    @operation(UPDATE)
    def add_ref(self, nr: int) -> int:
        self.refs += nr
        return self.refs

    @operation(READ)
    def read_in_sysfs(self) -> bool:
        return not self.is_removed


@attrs.define(eq=False)
class SlabKset(Shared):
    """slab_kset, the directory /sys/kernel/slab: `roots` has the directories of root caches by name, removed ones too.

    `links` are its links by name. A link is not removed together with its target; it stays until its name is used
    again.
    """

    machine: Machine
    roots: dict[str, Kobject] = attrs.field(factory=dict, init=False)
    links: dict[str, Kobject] = attrs.field(factory=dict, init=False)

    @property
    def label(self) -> str:
        return "slab_kset"

    def is_taken(self, name: str) -> bool:
        """Whether a directory of that name exists. The directory of a dying cache exists until its kobject_del()."""
        kobj = self.roots.get(name)
        if kobj is None:
            return False
        kobj.sd.touch(READ)
        return not kobj.is_removed

    @operation(UPDATE)
    def add_directory(self, kobj: Kobject) -> bool:
        """kobject_add(), after a link of that name has been removed; False is -EEXIST."""
        if self.is_taken(kobj.name):
            return False
        self.links.pop(kobj.name, None)
        self.roots[kobj.name] = kobj
        return True

    @operation(UPDATE)
    def add_link(self, name: str, kobj: Kobject) -> bool:
        """sysfs_create_link(), after an old link of that name has been removed; False is -EEXIST."""
        if self.is_taken(name):
            return False
        self.links[name] = kobj
        return True

    @operation(READ)
    def list_roots(self) -> tuple[Kobject, ...]:
        """The directories of root caches; kernfs_mutex is held."""
        return tuple(kobj for kobj in self.roots.values() if not kobj.is_removed)

    @operation(READ)
    def list_links(self) -> tuple[tuple[str, Kobject], ...]:
        """The links whose target exists, by name; kernfs_mutex is held."""
        return tuple((name, kobj) for name, kobj in self.links.items() if not kobj.is_removed)

    @operation(READ)
    def list_children(self, root: KmemCache) -> tuple[str, ...]:
        """The names in the `cgroup` directory of *root*; the directory may be removed already. kernfs_mutex is held."""
        kobjs = (cache.kobj for cache in self.machine.all_caches if cache.root_cache is root)
        return tuple(kobj.name for kobj in kobjs if kobj is not None and not kobj.is_removed)


def kobject_of(s: KmemCache) -> Kobject:
    return deref(s.kobj, "&s->kobj")


@kernel_fn("sysfs_slab_add", "mm/slub.c", profiles="..5.4-fixed")
async def sysfs_slab_add(ctx: Context, s: KmemCache) -> int:
    """Make the directory, and prepare the work that announces its removal. Returns 0 or -errno."""
    s.kobj_remove_work.init_work(sysfs_slab_remove_workfn)
    return await add_directory(ctx, s)


@kernel_fn("sysfs_slab_add", "mm/slub.c", profiles="6.12..")
async def sysfs_slab_add_6_12(ctx: Context, s: KmemCache) -> int:
    """Make the directory. Returns 0 or -errno. KERNEL-today 17.1."""
    return await add_directory(ctx, s)


async def add_directory(ctx: Context, s: KmemCache) -> int:
    """A mergeable cache gets a directory with a unique name, and a link to it. Returns 0 or -errno.

    A child's name contains the serial number of its css, and a memcg has one cache of each root: the name is never
    taken.
    """
    kset = ctx.machine.slab_kset
    name = s.name if await slab_unmergeable(ctx, s) else create_unique_id(s)
    if not kmalloc(ctx, GFP_KERNEL, "sysfs"):
        return -ENOMEM
    kobj = Kobject(s.actor, s, KernfsNode(kset.actor, name, KN_ACTIVE))
    if s.is_root_cache and not await ctx.ask(kset.add_directory, kobj):
        return -EEXIST
    s.kobj = kobj
    if name != s.name:
        await sysfs_slab_alias(ctx, s, s.name)
    return 0


def boot_kobject(machine: Machine, s: KmemCache) -> None:
    """sysfs_slab_add() for each cache at boot, once sysfs exists (slab_sysfs_init).

    Of several caches of a capture with the same unique name, only one can be mergeable: the others keep their own
    names.
    """
    kset = machine.slab_kset
    if not is_unmergeable(s) and kset.is_taken(create_unique_id(s)):
        s.is_mergeable = False
    name = s.name if is_unmergeable(s) else create_unique_id(s)
    s.kobj = Kobject(s.actor, s, KernfsNode(kset.actor, name, KN_ACTIVE))
    s.kobj_remove_work.init_work(sysfs_slab_remove_workfn)
    kset.add_directory(s.kobj)
    if name != s.name:
        kset.add_link(s.name, s.kobj)


def create_unique_id(s: KmemCache) -> str:
    """A name made of all properties that are compared when caches are merged."""
    flags = s.flags
    return unique_id(
        s.slot_size,
        is_dma=SlabFlags.CACHE_DMA in flags,
        is_reclaimable=SlabFlags.RECLAIM_ACCOUNT in flags,
        is_accounted=SlabFlags.ACCOUNT in flags,
    )


@kernel_fn("sysfs_slab_alias", "mm/slub.c")
async def sysfs_slab_alias(ctx: Context, s: KmemCache, name: str) -> bool:
    """Link another name of the cache to its directory; False on failure."""
    if not kmalloc(ctx, GFP_KERNEL, "sysfs"):
        return False
    return await ctx.ask(ctx.machine.slab_kset.add_link, name, kobject_of(s))


@kernel_fn("sysfs_slab_remove", "mm/slub.c", profiles="..5.4-fixed")
async def sysfs_slab_remove(ctx: Context, s: KmemCache) -> None:
    """Queue the work that announces the removal; it holds a reference to the kobject."""
    await ctx.ask(kobject_of(s).add_ref, 1)
    await queue_work(ctx, ctx.machine.system_wq, s.kobj_remove_work)


@kernel_fn("sysfs_slab_remove_workfn", "mm/slub.c", profiles="..5.4-fixed")
async def sysfs_slab_remove_workfn(ctx: Context, work: Work) -> None:
    """Send the uevent, unless the directory is removed already; then drop the reference to the kobject."""
    kobj = kobject_of(cache_of(work.container))
    await ctx.ask(kobj.read_in_sysfs)
    await kobject_put(ctx, kobj)


@kernel_fn("sysfs_slab_unlink", "mm/slub.c")
async def sysfs_slab_unlink(ctx: Context, s: KmemCache) -> None:
    """kobject_del(): remove the directory, which frees its name; wait for the readers inside its files."""
    kn = kobject_of(s).sd
    ctx.might_sleep("kernfs_drain")
    lockdep = ctx.machine.lockdep
    lockdep.acquire(ctx, KN_ACTIVE)
    await ctx.ask(kn.deactivate)
    await ctx.ask(kn.kernfs_drain)
    lockdep.release(ctx, KN_ACTIVE)


@kernel_fn("sysfs_slab_release", "mm/slub.c")
async def sysfs_slab_release(ctx: Context, s: KmemCache) -> None:
    await kobject_put(ctx, kobject_of(s))


@kernel_fn("kobject_put", "lib/kobject.c")
async def kobject_put(ctx: Context, kobj: Kobject) -> None:
    """Drop a reference; the last one frees the cache."""
    if await ctx.ask(kobj.add_ref, -1) == 0:
        await slab_kmem_cache_release(ctx, kobj.cache)


# -- readers ----------------------------------------------------------------------------------------------------------


@kernel_fn("kernfs_seq_show", "fs/kernfs/file.c")
async def kernfs_seq_show(ctx: Context, kobj: Kobject, show: Show | None = None) -> int | None:
    """Read a file of /sys/kernel/slab/NAME that is open, `objects` if *show* is not given.

    None (-ENODEV): the directory is removed.
    """
    kn = kobj.sd
    if not await ctx.ask(kn.kernfs_get_active, ctx):
        return None
    ctx.machine.lockdep.acquire(ctx, KN_ACTIVE, reads=True)
    shown = await (show or show_slab_objects)(ctx, kobj.cache)
    ctx.machine.lockdep.release(ctx, KN_ACTIVE)
    await ctx.ask(kn.kernfs_put_active, ctx)
    return shown


@kernel_fn("show_slab_objects", "mm/slub.c", profiles="..5.3")
async def show_slab_objects(ctx: Context, s: KmemCache) -> int:
    """Count the slabs of all nodes, with memory hotplug locked out."""
    await get_online_mems(ctx)
    shown = await count_slabs(ctx, s)
    await put_online_mems(ctx)
    return shown


@kernel_fn("show_slab_objects", "mm/slub.c", profiles="5.4-fixed..")
async def show_slab_objects_fixed(ctx: Context, s: KmemCache) -> int:
    """[54]: without the lock: a count that is wrong for a moment is better than a deadlock (e4f8e513c3d3)."""
    return await count_slabs(ctx, s)


@kernel_fn("cpu_slabs_show", "mm/slub.c", profiles="7.2..")
async def cpu_slabs_show(_ctx: Context, _s: KmemCache) -> int:
    """KERNEL-7.2, row 23: no CPU has a slab."""
    return 0


@kernel_fn("sheaf_capacity_show", "mm/slub.c", profiles="7.2..")
async def sheaf_capacity_show(_ctx: Context, s: KmemCache) -> int:
    """KERNEL-7.2, row 23."""
    return s.sheaf_capacity


async def count_slabs(ctx: Context, s: KmemCache) -> int:
    return sum([await ctx.ask(n.read_nr_slabs) for n in s.node])


async def read_slab_directory(ctx: Context) -> str:
    """getdents(2) of /sys/kernel/slab and of each `cgroup` directory below it, one after the other.

    On 6.12 there are no such directories.
    """
    kset = ctx.machine.slab_kset
    has_children = ctx.machine.config.kernel not in WITHOUT_CHILD_CACHES
    entries = []
    for kobj in await ctx.ask(kset.list_roots):
        entries.append(DirectoryEntry(kobj.name))
        names = await ctx.ask(kset.list_children, kobj.cache) if has_children else ()
        entries += [DirectoryEntry(f"{kobj.name}/cgroup/{name}") for name in names]
    entries += [DirectoryEntry(name, kobj.name) for name, kobj in await ctx.ask(kset.list_links)]
    return render_directory(entries)
