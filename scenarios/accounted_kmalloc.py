"""A cgroup has buffers of two sizes from kmalloc() with GFP_KERNEL_ACCOUNT, and frees all of them. KERNEL-today 7.1.

The first accounted object of a slab gives the slab a vector. A vector for a slab of 64 objects is as large as a larger
buffer, and one for a slab of 8 as a smaller one. So it matters where vectors come from.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, KmemCache, SlabObject, kmem_cache_alloc, kmem_cache_free, kmem_cache_shrink
from actors.linux.mm.obj_cgroup import OBJ_EXT_SIZE
from actors.machine.gfp import GFP_KERNEL_ACCOUNT
from actors.versions.profiles import WITHOUT_CHILD_CACHES
from protocol.formats.slabinfo import SlabinfoRow
from scenarios.api import MACHINE, PAGE_SIZE, Knob, Stage, mkdir, rmdir, run_in, scenario

SMALL, LARGE = 64, PAGE_SIZE // 64 * OBJ_EXT_SIZE
"""Bytes of a buffer. A page of small ones needs a vector of the large size, a page of large ones one of the small."""


@scenario(
    "accounted-kmalloc",
    "buffers of two sizes are allocated in a cgroup and freed outside of it, and their slabs must go",
    Knob("small", "buffers of 64 bytes", 2, most=64),
    Knob("large", "buffers of 512 bytes", 2, most=64),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def accounted_kmalloc(stage: Stage) -> None:
    sizes = (SMALL, LARGE)
    rows = [SlabinfoRow(f"kmalloc-{size}", 0, 0, size, PAGE_SIZE // size, 1) for size in sizes]
    machine = stage.boot(caches=rows)
    caches = [machine.root_cache(row.name) for row in rows]
    cgroups: list[Cgroup] = []
    buffers: dict[KmemCache, list[SlabObject]] = {cache: [] for cache in caches}

    async def make_cgroup(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await run_in(ctx, cgroups[0], allocate)

    async def allocate(ctx: Context) -> None:
        for cache, count in zip(caches, (stage.knobs["small"], stage.knobs["large"]), strict=True):
            for _ in range(count):
                obj = await kmem_cache_alloc(ctx, cache, GFP_KERNEL_ACCOUNT)
                if obj is not None:
                    buffers[cache].append(obj)

    async def free(ctx: Context, cache: KmemCache) -> None:
        for obj in buffers[cache]:
            await kmem_cache_free(ctx, cache, obj)

    async def free_small(ctx: Context) -> None:
        await free(ctx, caches[0])

    async def free_large(ctx: Context) -> None:
        await free(ctx, caches[1])

    async def shrink(ctx: Context) -> None:
        """What CPUs and nodes keep of empty slabs goes, too; the second time those that a vector was in."""
        for cache in (*caches, *caches):
            await kmem_cache_shrink(ctx, cache)

    stage.set_up(make_cgroup)
    stage.task("free-small", free_small)
    stage.task("free-large", free_large, cpu=1)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]))
    stage.wind_up(shrink)
    stage.eventually("no slab is left", lambda: not any(cache.slabs for cache in caches))
