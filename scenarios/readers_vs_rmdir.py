"""User space reads the kernel's slab files while cgroups are made, allocate, and are removed (KERNEL.md 10).

Every reader takes slab_mutex, as creation, deactivation, reparenting and shutdown do. It releases the mutex in the
middle of a file that is longer than its buffer. Objects and slabs change without this lock, so one row may add up
counts of different times. But a slab that is in use during the whole read must be counted, even if it is reparented in
between. A file of a cgroup may be removed before it is read, but not while it is read: rmdir waits for the readers.
"""

from __future__ import annotations

import attrs

from actors.api import Cgroup, Context, KmemCache, Slab, SlabObject, kmem_cache_alloc, kmem_cache_free
from actors.files.kernel_files import KernelFile, find_file
from protocol.formats.slabinfo import parse_slabinfo
from scenarios.api import (
    Knob,
    SlabinfoRow,
    Stage,
    charge_elsewhere,
    fill,
    machine,
    mkdir,
    rmdir,
    scenario,
    small_cache,
    warm_up,
)

FILES = {
    "slabtop": ("slabinfo", "memcg_slabinfo", "slabinfo_full", "cgroups"),
    "cadvisor": ("memory.kmem.slabinfo", "memory.kmem.usage_in_bytes", "memory.stat", "cgroup.stat"),
    "page-types": ("kpagecgroup",),
}
"""The readers, each with its files. A reader skips the files that the machine does not have."""

TWO_PAGES = SlabinfoRow("beta", 0, 0, 2048, 4, 2)
"""A cache whose slabs are compound pages: from v4 to 5.3 /proc/kpagecgroup finds no other slabs (H14)."""

OBJECTS = 5


@attrs.define
class Told:
    """The readers' results: `missing` slabs were in use but not counted, `removed` files did not exist any more."""

    roots: list[KmemCache]
    reads: int = 0
    removed: int = 0
    missing: int = 0

    async def ask(self, ctx: Context, file: KernelFile, cgroup: Cgroup) -> None:
        """Read *file*; in /proc/slabinfo, look for every slab that was in use during the whole read."""
        before = [slabs_in_use(root) for root in self.roots]
        data = await file.read(ctx, cgroup)
        self.reads += 1
        if data is None:
            self.removed += 1
        elif file.name == "slabinfo":
            rows = {row.name: row for row in parse_slabinfo(data.decode(), source=file.name)}
            for root, slabs in zip(self.roots, before, strict=True):
                stayed = len(slabs & slabs_in_use(root))
                self.missing += max(0, stayed - rows[root.name].num_slabs)


def slabs_in_use(root: KmemCache) -> set[Slab]:
    """The slabs of *root* and its children with a live object; a slab is counted before its first object is used."""
    return {slab for cache in (root, *root.children) for slab in cache.slabs if slab.live}


@scenario(
    "readers-vs-rmdir",
    "the kernel's files about slabs and cgroups are read while cgroups are made and removed",
    Knob("reads", "how often each reader reads each of its files", 2, least=1, most=1000),
    Knob("cgroups", "cgroups that are made and removed, one after the other", 2, least=1, most=1000),
    Knob("kpagecgroup", "whether /proc/kpagecgroup is read too; its reader holds no lock", "no", choices=("no", "yes")),
    *machine(cgroup="v1"),
)
def readers_vs_rmdir(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha"), TWO_PAGES])
    caches = [machine.root_cache(name) for name in ("alpha", "beta")]
    cgroups: list[Cgroup] = []
    kept: list[tuple[KmemCache, SlabObject]] = []
    told = Told(caches)

    def add_reader(task: str, cpu: int) -> None:
        files = [file for file in map(find_file, FILES[task]) if not file.lacks(machine.config)]

        async def read(ctx: Context) -> None:
            for _ in range(stage.knobs["reads"]):
                for file in files:
                    await told.ask(ctx, file, cgroups[-1] if file.css else machine.root_cgroup)

        stage.task(task, read, cpu=cpu)

    async def make_cgroup(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, f"job{len(cgroups)}"))

    async def make_first(ctx: Context) -> None:
        await make_cgroup(ctx)
        await warm_up(ctx, cgroups[0], *caches)
        await allocate(ctx)

    async def allocate(ctx: Context) -> None:
        for cache in caches:
            kept.extend((cache, obj) for obj in await fill(ctx, cgroups[-1], cache, OBJECTS))

    async def go_and_come(ctx: Context) -> None:
        for _ in range(stage.knobs["cgroups"]):
            await rmdir(ctx, cgroups[-1])
            await make_cgroup(ctx)
            while kept:
                await kmem_cache_free(ctx, *kept.pop())
            await allocate(ctx)
        await rmdir(ctx, cgroups[-1])
        while kept:
            await kmem_cache_free(ctx, *kept.pop())

    async def allocate_unaccounted(ctx: Context) -> None:
        for _ in range(stage.knobs["reads"]):
            objects = [await kmem_cache_alloc(ctx, caches[0]) for _ in range(OBJECTS)]
            for obj in objects:
                if obj is not None:
                    await kmem_cache_free(ctx, caches[0], obj)

    stage.set_up(make_first)
    for cpu, task in enumerate(FILES if stage.knobs["kpagecgroup"] == "yes" else list(FILES)[:2], start=1):
        add_reader(task, cpu)
    stage.task("jobs", go_and_come)
    stage.task("daemon", allocate_unaccounted, cpu=1)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("a task waits for slab_mutex", lambda: bool(machine.slab_mutex.waiters))
    stage.sometimes("a reader is inside a cgroup that is being removed", lambda: any(map(is_waited_for, cgroups)))
    stage.sometimes("a file is gone before it is read", lambda: told.removed > 0)
    stage.always("slabinfo counts every slab that is in use all the time", lambda: not told.missing, is_local=True)
    stage.eventually("every cgroup is gone", stage.only_session_left)
    stage.eventually("no child cache is left", lambda: not machine.child_caches)


def is_waited_for(cgroup: Cgroup) -> bool:
    """Whether the removal of a cgroup waits for a reader of one of its files."""
    return bool(cgroup.css.files.waiters or cgroup.self_css.files.waiters)
