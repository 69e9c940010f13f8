"""Modules create, share and destroy caches, and cgroups need child caches of them, while memory is short.

The creation of a cache takes several allocations. If one of them fails, everything that was made before has to be
undone: the struct, its parts, its directory in sysfs, its place on the lists, and the user that was already counted
(KERNEL.md 5.3, 8.3). An allocation uses the root cache if the child cannot be created. If a high-order page allocation
fails, a slab is made of fewer pages and has fewer objects.
"""

from __future__ import annotations

from functools import partial

from actors.api import (
    Context,
    KmemCache,
    SlabFlags,
    kmem_cache_alloc,
    kmem_cache_alloc_bulk,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
    kmem_cache_free_bulk,
)
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task
from scenarios.api import MACHINE, PAGE_SIZE, Knob, SlabinfoRow, Stage, charge_elsewhere, mkdir, scenario, small_cache

SITES = ("kmem_cache", "cache_name", "memcg_caches", "cache_parts", "sysfs", "percpu", "work", "page")


@scenario(
    "creation-fails",
    "modules create, share and destroy caches, and cgroups need child caches of them, while memory is short",
    Knob("failing", "percentage of these allocations that fail", 15, most=90),
    *MACHINE,
)
def creation_fails(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("bystander")])
    refused: list[str] = []

    async def make_cgroup(ctx: Context) -> None:
        cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        for task in tasks:
            await cgroup_attach_task(ctx, cgroup, task)

    async def load_and_unload(ctx: Context, size: int) -> None:
        """Create two caches, which are merged unless one creation fails; use them and destroy them."""
        made: list[KmemCache] = []
        for name in (f"first-{size}", f"second-{size}"):
            row = SlabinfoRow(name, 0, 0, size, 2 * PAGE_SIZE // size, 2)
            cache = await kmem_cache_create(ctx, row, SlabFlags.ACCOUNT)
            if cache is None:
                refused.append(name)
            else:
                made.append(cache)
                await use(ctx, cache)
        for cache in made:
            await kmem_cache_destroy(ctx, cache)

    stage.make_scarce(stage.knobs["failing"], *SITES)
    stage.set_up(make_cgroup)
    tasks = [
        stage.task(f"module{cpu}", partial(load_and_unload, size=size), cpu=cpu)
        for cpu, size in enumerate((1024, 2048))
    ]
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("a cache could not be made", lambda: bool(refused))
    stage.sometimes("a cache has a child", lambda: bool(machine.child_caches))
    stage.eventually("no cache of a module is left", lambda: len(machine.all_caches) == 1)


async def use(ctx: Context, cache: KmemCache) -> None:
    """Allocate and free one object, then more than one slab's worth in bulk.

    The first allocation queues the creation of the child cache; the bulk allocation may find it.
    """
    obj = await kmem_cache_alloc(ctx, cache)
    if obj is not None:
        await kmem_cache_free(ctx, cache, obj)
    objects = await kmem_cache_alloc_bulk(ctx, cache, cache.objects + 1)
    if objects:
        await kmem_cache_free_bulk(ctx, cache, objects)
