"""The work that creates a child cache races with the destruction of its root.

A module's first allocation in a cgroup queues the creation; then the module frees the object and destroys its cache.
There is no child yet, but the flush in kmem_cache_destroy() has to wait all the same: the work points to the root, and
holds no reference to it (KERNEL.md 5.2, 8.2). In the other two scenarios a second module is loaded and unloaded during
the race. Its cache may be merged with the first one's, or asks for the same name.
"""

from __future__ import annotations

from actors.api import (
    Context,
    KmemCache,
    SlabFlags,
    kmem_cache_alloc,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
)
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, mkdir, scenario, small_cache

TRY_AGAIN_NS = 20_000
LOADS = Knob("loads", "how often the other module is loaded and unloaded", 2, least=1)


@scenario("create-vs-destroy", "a cache is destroyed while a worker creates a child of it", *MACHINE)
def create_vs_destroy(stage: Stage) -> None:
    build(stage)


@scenario(
    "create-vs-destroy-merged",
    "create-vs-destroy, while a second module is loaded and unloaded whose cache may be merged with the first one's",
    LOADS,
    *MACHINE,
)
def create_vs_destroy_merged(stage: Stage) -> None:
    first, others = build(stage, other="beta")
    stage.sometimes("both modules have one cache", lambda: first != [] and first[0] in others)
    stage.sometimes("the modules have two caches", lambda: any(cache not in first for cache in others))


@scenario(
    "create-vs-destroy-again",
    "create-vs-destroy, while the module is loaded again and asks for a cache of the same name",
    LOADS,
    *MACHINE,
)
def create_vs_destroy_again(stage: Stage) -> None:
    first, others = build(stage, other="alpha")
    stage.sometimes("the name is used again", lambda: others != [] and all(s.freed for s in first))


def build(stage: Stage, *, other: str = "") -> tuple[list[KmemCache], list[KmemCache]]:
    """Set the stage, with a second module that asks for a cache named *other* if one is given.

    Return the caches that the first module created and those that the second one created. Two caches of the same name
    have a constructor, because they would be merged without one.
    """
    machine = stage.boot(caches=[small_cache("bystander")])
    first: list[KmemCache] = []
    others: list[KmemCache] = []

    async def create(ctx: Context, name: str, made: list[KmemCache]) -> KmemCache | None:
        """kmem_cache_create() of a module; None if the name is taken."""
        has_ctor = other == "alpha"
        cache = await kmem_cache_create(ctx, small_cache(name), SlabFlags.ACCOUNT, has_ctor=has_ctor)
        if cache is not None:
            made.append(cache)
        return cache

    async def load(ctx: Context) -> None:
        await create(ctx, "alpha", first)
        cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        for task in tasks:
            await cgroup_attach_task(ctx, cgroup, task)

    async def use_then_destroy(ctx: Context, cache: KmemCache) -> None:
        """The first allocation in the cgroup finds no child cache, and queues the creation of one."""
        obj = await kmem_cache_alloc(ctx, cache)
        if obj is not None:
            await kmem_cache_free(ctx, cache, obj)
        await kmem_cache_destroy(ctx, cache)

    async def unload(ctx: Context) -> None:
        for cache in first:
            await use_then_destroy(ctx, cache)

    async def come_and_go(ctx: Context) -> None:
        for _ in range(stage.knobs["loads"]):
            cache = await create(ctx, other, others)
            if cache is not None:
                await use_then_destroy(ctx, cache)
            else:
                await ctx.sleep(TRY_AGAIN_NS)

    stage.set_up(load)
    tasks = [stage.task("rmmod", unload)]
    if other:
        tasks.append(stage.task("modprobe", come_and_go, cpu=1))
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("the cache is being destroyed before its child is created", lambda: is_early(stage, first))
    stage.eventually("no cache of a module is left", lambda: len(machine.all_caches) == 1)
    return first, others


def is_early(stage: Stage, first: list[KmemCache]) -> bool:
    """Whether a creation is pending for a cache that is marked as dying."""
    return any(work.cachep in first and work.cachep.dying for work in stage.machine.pending_creations)
