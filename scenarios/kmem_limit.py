"""cgroup v1: kernel memory hits its limit in the middle of a removal (KERNEL.md 9.2).

A charge that fails has to undo exactly its own charges at every level, while caches change their memcg. Two cgroups are
below the limit, and one of them is removed. The counters of the other one must be right at the end.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, SlabObject, kmem_cache_alloc, kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task, memcg_of
from actors.versions.profiles import WITH_CHILD_CACHES
from scenarios.api import Knob, Stage, charge_elsewhere, machine, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "kmem-limit",
    "allocations hit the kmem limit of a cgroup (v1) that is being removed",
    Knob("limit", "memory.kmem.limit of the parent, in pages", 2, least=1),
    Knob("objects", "objects that each task allocates, four in a page", 8, least=1),
    *machine(cgroup="v1"),
    kernels=WITH_CHILD_CACHES,
)
def kmem_limit(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []

    async def make_cgroups(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "parent"))
        cgroups.append(await mkdir(ctx, cgroups[0], "job"))
        cgroups.append(await mkdir(ctx, cgroups[0], "stays"))
        for cgroup in cgroups[1:]:
            await warm_up(ctx, cgroup, cache)
        kmem = memcg_of(cgroups[0].css).kmem
        if kmem is not None:
            kmem.max = stage.knobs["limit"]
        for number, worker in enumerate(workers):
            await cgroup_attach_task(ctx, cgroups[1 + number % 2], worker)

    def add_worker(cpu: int) -> Context:
        async def allocate(ctx: Context) -> None:
            for _ in range(stage.knobs["objects"]):
                obj = await kmem_cache_alloc(ctx, cache)
                if obj is not None:
                    kept.append(obj)

        return stage.task(f"allocate{cpu}", allocate, cpu=cpu)

    async def free_all(ctx: Context) -> None:
        for obj in kept:
            await kmem_cache_free(ctx, cache, obj)
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(make_cgroups)
    workers = [add_worker(cpu) for cpu in range(len(machine.cpus))]
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[1]), cpu=1)
    stage.wind_up(free_all)
    stage.sometimes("the limit is hit", lambda: any(memcg.kmem and memcg.kmem.failcnt for memcg in machine.memcgs()))
