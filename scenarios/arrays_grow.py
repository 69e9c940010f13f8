"""The arrays of child caches are replaced by longer ones while a task looks up its cache in them.

So many cgroups are made that their ids do not fit into the old arrays. A reader of an old array may go on with it
until the grace period ends. An entry that is added during the replacement must be in the new array too.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, kmem_cache_alloc, kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task
from actors.versions.profiles import WITH_CHILD_CACHES
from scenarios.api import Knob, Stage, charge_elsewhere, machine, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "arrays-grow",
    "the arrays of child caches grow while a task looks its cache up",
    Knob("cgroups", "cgroups that are made during the race", 3, least=1, most=60),
    *machine(),
    kernels=WITH_CHILD_CACHES,
)
def arrays_grow(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    sizes: list[int] = []

    async def make_cgroup(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await warm_up(ctx, cgroups[0], cache)
        await cgroup_attach_task(ctx, cgroups[0], worker)
        sizes.append(machine.memcg_nr_cache_ids)

    async def allocate(ctx: Context) -> None:
        for _ in range(3):
            obj = await kmem_cache_alloc(ctx, cache)
            if obj is not None:
                await kmem_cache_free(ctx, cache, obj)

    async def make_many(ctx: Context) -> None:
        """Make the cgroups; the last one gets a child cache too."""
        names = [f"job{number}" for number in range(stage.knobs["cgroups"])]
        cgroups.extend([await mkdir(ctx, machine.root_cgroup, name) for name in names])
        await cgroup_attach_task(ctx, cgroups[-1], ctx)
        await allocate(ctx)

    async def remove_all(ctx: Context) -> None:
        await charge_elsewhere(ctx, stage.session)
        for cgroup in cgroups:
            await rmdir(ctx, cgroup)
        await ctx.settle()
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(make_cgroup)
    worker = stage.task("allocate", allocate)
    stage.task("mkdir", make_many, cpu=1)
    stage.wind_up(remove_all)
    stage.sometimes("the arrays have grown", lambda: sizes != [] and machine.memcg_nr_cache_ids > sizes[0])
    stage.eventually("every cgroup is gone", stage.only_session_left)
