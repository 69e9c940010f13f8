"""A module gives its objects to kfree_rcu() and destroys their cache, as from 6.12 on. KERNEL-today 27.12.

kfree_rcu() frees in batches, after seconds: by a monitor, and by the works of batches after another grace period. The
destruction waits for all of them, and so the module need not. In the second scenario the cache is type-safe, and a
task writes to the file `shrink` of its directory in sysfs.
"""

from __future__ import annotations

from actors.api import (
    Context,
    KmemCache,
    SlabFlags,
    SlabObject,
    kmem_cache_alloc,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
    kmem_cache_shrink,
    synchronize_rcu,
)
from actors.linux.include.rcupdate import kfree_rcu_object, kvfree_rcu_barrier
from actors.linux.mm.kvfree_rcu import KFREE_DRAIN_NS
from actors.linux.mm.slub_sysfs import KN_ACTIVE, Kobject, kobject_of
from actors.versions.profiles import WITHOUT_CHILD_CACHES
from scenarios.api import MACHINE, Knob, Stage, scenario, small_cache

BEFORE_NS, STEP_NS, MOMENTS = 3_000, 500, 8
"""The unload comes at one of so many moments around the time when the monitor starts."""


@scenario(
    "destroy-vs-kfree-rcu",
    "a cache is destroyed while the monitor of kfree_rcu() frees its last objects",
    Knob("objects", "objects of the module", 6, least=1, most=64),
    Knob("others", "objects of another cache, given to kfree_rcu() at the same time", 6, most=64),
    Knob("cpu", "CPU of the module's exit; from 7.2 on, objects of another node wait for the monitor", 0, most=63),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def destroy_vs_kfree_rcu(stage: Stage) -> None:
    stage.has_session = False  # nothing here belongs to a cgroup
    machine = stage.boot(caches=[small_cache("module", objects=2), small_cache("other")])
    module, other = machine.root_cache("module"), machine.root_cache("other")
    objects: dict[KmemCache, list[SlabObject]] = {module: [], other: []}
    destroying: list[KmemCache] = []

    async def allocate(ctx: Context) -> None:
        for cache, count in ((module, stage.knobs["objects"]), (other, stage.knobs["others"])):
            for _ in range(count):
                obj = await kmem_cache_alloc(ctx, cache)
                if obj is not None:
                    objects[cache].append(obj)

    async def unload(ctx: Context) -> None:
        """The module's exit: about five seconds after it let its last object go."""
        for obj in objects[module]:
            await kfree_rcu_object(ctx, module, obj)
        await ctx.sleep(KFREE_DRAIN_NS - BEFORE_NS + STEP_NS * await ctx.choose(MOMENTS))
        destroying.append(module)
        await kmem_cache_destroy(ctx, module)
        destroying.clear()

    async def free_others(ctx: Context) -> None:
        """Another user of kfree_rcu() and of grace periods."""
        for obj in objects[other]:
            await kfree_rcu_object(ctx, other, obj)
            await synchronize_rcu(ctx)

    async def free_the_rest(ctx: Context) -> None:
        """Pointers that came during the destruction may have no monitor."""
        await kvfree_rcu_barrier(ctx)

    def is_monitor_running() -> bool:
        monitors = [krcp.monitor_work for krcp in machine.krc.per_cpu]
        return any(
            worker.current is not None and worker.current.work in monitors for worker in machine.unbound_pool.busy
        )

    stage.set_up(allocate)
    stage.task("rmmod", unload, cpu=stage.knobs["cpu"])
    stage.task("other", free_others, cpu=1)
    stage.wind_up(free_the_rest)
    stage.sometimes("a monitor runs during the destruction", lambda: bool(destroying) and is_monitor_running())
    stage.eventually("only the other cache is left", lambda: list(machine.all_caches) == [other])
    stage.eventually("kfree_rcu() is at rest", lambda: machine.krc.is_at_rest)


@scenario(
    "destroy-vs-shrink",
    "a type-safe cache is destroyed while a task writes to its file shrink in sysfs",
    Knob("objects", "objects that the module frees before", 4, least=1, most=64),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def destroy_vs_shrink(stage: Stage) -> None:
    stage.has_session = False
    machine = stage.boot(caches=[small_cache("other")])
    caches: list[KmemCache] = []

    async def load(ctx: Context) -> None:
        """Create the cache, and leave an empty slab on this CPU."""
        cache = await kmem_cache_create(ctx, small_cache("module"), SlabFlags.TYPESAFE_BY_RCU)
        if cache is None:
            return
        caches.append(cache)
        made = [await kmem_cache_alloc(ctx, cache) for _ in range(stage.knobs["objects"])]
        for obj in made:
            if obj is not None:
                await kmem_cache_free(ctx, cache, obj)

    async def unload(ctx: Context) -> None:
        for cache in caches:
            await kmem_cache_destroy(ctx, cache)

    async def write_shrink(ctx: Context) -> None:
        """shrink_store(), through a file that was opened before."""
        for kobj in files:
            if await ctx.ask(kobj.sd.kernfs_get_active, ctx):
                machine.lockdep.acquire(ctx, KN_ACTIVE, reads=True)
                await kmem_cache_shrink(ctx, kobj.cache)
                machine.lockdep.release(ctx, KN_ACTIVE)
                await ctx.ask(kobj.sd.kernfs_put_active, ctx)

    async def open_files(ctx: Context) -> None:
        await load(ctx)
        files.extend(kobject_of(cache) for cache in caches)

    files: list[Kobject] = []
    stage.set_up(open_files)
    stage.task("rmmod", unload)
    stage.task("echo", write_shrink, cpu=1)
    stage.sometimes("the writer is inside the file", lambda: any(kobj.sd.active for kobj in files))
    stage.eventually("the cache is gone", lambda: not any(cache in machine.all_caches for cache in caches))
