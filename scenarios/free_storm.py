"""Other CPUs free objects all the time while caches are reparented and shrunk.

Each free reads the cache's memcg pointer, before or after the reparenting changes it. Slabs become empty while the IPI
flushes the CPUs, and while the shrink walks the partial list (KERNEL.md 7.1.3 and 4, 7.2.6).
"""

from __future__ import annotations

from actors.api import Cgroup, Context, SlabObject, kmem_cache_free
from scenarios.api import Knob, Stage, charge_elsewhere, fill, machine, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "free-storm",
    "every CPU frees objects of a cgroup while it is removed",
    Knob("objects", "objects in the cgroup, four in a page", 24, least=1),
    *machine(),
)
def free_storm(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []

    async def make_cgroup(ctx: Context) -> None:
        parent = await mkdir(ctx, machine.root_cgroup, "parent")
        cgroups.append(await mkdir(ctx, parent, "job"))
        await warm_up(ctx, cgroups[0], cache)
        kept.extend(await fill(ctx, cgroups[0], cache, stage.knobs["objects"]))

    def add_freer(cpu: int) -> None:
        async def free(ctx: Context) -> None:
            for obj in kept[cpu :: len(machine.cpus)]:
                await kmem_cache_free(ctx, cache, obj)

        stage.task(f"free{cpu}", free, cpu=cpu)

    stage.set_up(make_cgroup)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]))
    for cpu in range(len(machine.cpus)):
        add_freer(cpu)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes(
        "an object is freed after its cgroup died", lambda: bool(kept) and is_cgroup_dead_with_objects(stage)
    )
    stage.eventually("no child cache is left", lambda: not machine.child_caches)


def is_cgroup_dead_with_objects(stage: Stage) -> bool:
    """Whether a dying cgroup exists while child caches still have objects."""
    return stage.machine.root_cgroup.nr_dying_descendants > 0 and any(
        s.live_objects for s in stage.machine.child_caches
    )
