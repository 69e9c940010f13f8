"""An allocation chooses its child cache before the cgroup is removed, and gets its page only afterwards.

The task allocates from an empty child cache and has to wait in the page allocator. In this time it is moved out of the
cgroup, and the cgroup is removed. The allocation needs a reference that keeps the cache alive, and the late page must
be charged to the same memcg that it is uncharged from later.
"""

from __future__ import annotations

import attrs

from actors.api import Cgroup, Context, kmem_cache_alloc, kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task
from scenarios.api import MEMORY, Knob, Stage, charge_elsewhere, machine, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "late-allocation",
    "an allocation from an empty child cache waits for memory while its cgroup is removed",
    attrs.evolve(MEMORY, default="short"),
    Knob("objects", "objects that the task allocates, one after the other", 1, least=1),
    *machine(),
    also=("alloc-without-cache-ref", "root-uncharge-underflow"),
)
def late_allocation(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []

    async def make_cgroup(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await warm_up(ctx, cgroups[0], cache)
        await cgroup_attach_task(ctx, cgroups[0], worker)

    async def allocate(ctx: Context) -> None:
        for _ in range(stage.knobs["objects"]):
            obj = await kmem_cache_alloc(ctx, cache)
            if obj is not None:
                await kmem_cache_free(ctx, cache, obj)

    async def remove(ctx: Context) -> None:
        await cgroup_attach_task(ctx, machine.root_cgroup, worker)
        await rmdir(ctx, cgroups[0])

    stage.set_up(make_cgroup)
    worker = stage.task("allocate", allocate)
    stage.task("rmdir", remove, cpu=1)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("an allocation runs in a cache that is deactivated", stage.has_late_allocation)
