"""Objects are allocated and freed in bulk, while the cgroup that they are charged to is removed.

A bulk allocation holds one reference to the cache for all its objects, and may wait for several pages. If a page
allocation fails, the objects that it has allocated so far are freed again. During the allocation the task is moved out
of the cgroup, and a second task frees objects of the same slabs in bulk on another CPU.
"""

from __future__ import annotations

import attrs

from actors.api import Cgroup, Context, SlabObject, kmem_cache_alloc_bulk, kmem_cache_free_bulk
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task
from scenarios.api import (
    MEMORY,
    Knob,
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

PER_SLAB = 4


@scenario(
    "bulk-allocation",
    "objects are allocated and freed in bulk while their cgroup is removed",
    attrs.evolve(MEMORY, default="short"),
    Knob("objects", "objects that each call allocates or frees, four in a page", 6, least=1),
    Knob("rounds", "how often the task allocates and frees", 2, least=1),
    *machine(),
)
def bulk_allocation(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha", objects=PER_SLAB)])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []
    spans: list[int] = []

    async def make_cgroup(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await warm_up(ctx, cgroups[0], cache)
        kept.extend(await fill(ctx, cgroups[0], cache, stage.knobs["objects"]))
        await cgroup_attach_task(ctx, cgroups[0], worker)

    async def allocate(ctx: Context) -> None:
        for _ in range(stage.knobs["rounds"]):
            objects = await kmem_cache_alloc_bulk(ctx, cache, stage.knobs["objects"])
            spans.append(len({obj.slab for obj in objects}))
            if objects:
                await kmem_cache_free_bulk(ctx, cache, objects)

    async def free(ctx: Context) -> None:
        if kept:
            await kmem_cache_free_bulk(ctx, cache, kept)

    async def remove(ctx: Context) -> None:
        await cgroup_attach_task(ctx, machine.root_cgroup, worker)
        await rmdir(ctx, cgroups[0])

    stage.set_up(make_cgroup)
    worker = stage.task("allocate", allocate)
    stage.task("free", free, cpu=1)
    stage.task("rmdir", remove, cpu=1)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("a bulk allocation runs in a cache that is deactivated", stage.has_late_allocation)
    stage.sometimes("a bulk allocation takes objects of two slabs", lambda: max(spans, default=0) > 1)
