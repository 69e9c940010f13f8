"""Slabs are charged to a child cgroup on several CPUs; the child is removed, then its objects are freed.

Each CPU caches a part of the child's statistics. The frees come after the reparenting and are counted in the parent.
Every cached part has to be added to the parent exactly once; the flaws lose a part or add it twice.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, SlabObject, kmem_cache_alloc, kmem_cache_free
from scenarios.api import Knob, Stage, charge_elsewhere, enter, machine, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "stranded-vmstat",
    "slabs are charged on every CPU, the cgroup is removed, and then the slabs are freed",
    Knob("objects", "objects that each CPU allocates, four in a page", 16, least=1),
    *machine(),
    also=("bee07b33db78",),
)
def stranded_vmstat(stage: Stage) -> None:
    machine = stage.boot("dentry", caches=[small_cache("alpha")])
    caches = [machine.root_cache("alpha"), machine.root_cache("dentry")]
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []

    async def make_cgroups(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "parent"))
        cgroups.append(await mkdir(ctx, cgroups[0], "job"))
        await warm_up(ctx, cgroups[1], *caches)

    def add_worker(cpu: int) -> None:
        async def allocate(ctx: Context) -> None:
            await enter(ctx, cgroups[1])
            for number in range(stage.knobs["objects"]):
                obj = await kmem_cache_alloc(ctx, caches[number % 2])
                if obj is not None:
                    kept.append(obj)
            await enter(ctx, machine.root_cgroup)

        stage.task(f"allocate{cpu}", allocate, cpu=cpu)

    async def remove_then_free(ctx: Context) -> None:
        await rmdir(ctx, cgroups[1])
        await ctx.settle()
        for obj in kept:
            await kmem_cache_free(ctx, obj.slab.slab_cache.root, obj)
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(make_cgroups)
    for cpu in range(len(machine.cpus)):
        add_worker(cpu)
    stage.wind_up(remove_then_free)
    stage.sometimes("slabs of the removed cgroup belong to its parent", lambda: has_inherited(cgroups))


def has_inherited(cgroups: list[Cgroup]) -> bool:
    """Whether the parent has caches that were created for its child."""
    memcg = cgroups[0].css.memcg if cgroups else None
    return memcg is not None and any(not cache.name.endswith(":parent)") for cache in memcg.kmem_caches)
