"""A root cache is shrunk (/sys/kernel/slab/*/shrink) while its objects are freed and a cgroup is removed.

The shrink does not take slab_mutex. It flushes the CPUs and walks the partial lists while the deactivation does this to
the children (KERNEL.md 4.6).
"""

from __future__ import annotations

from actors.api import Cgroup, Context, SlabObject, kmem_cache_free, kmem_cache_shrink
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, fill, mkdir, rmdir, scenario, small_cache, warm_up

OBJECTS = 2


@scenario(
    "shrink-vs-rmdir",
    "a root cache is shrunk while its objects are freed, and a cgroup with a child of it is removed",
    Knob("slabs", "slabs of the root, whose objects are freed in the race", 3, least=1),
    *MACHINE,
)
def shrink_vs_rmdir(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha", objects=OBJECTS)])
    root = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []
    shrinker_remains: list[bool] = []

    async def make_objects(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await warm_up(ctx, cgroups[0], root)
        kept.extend(await fill(ctx, cgroups[0], root, OBJECTS))
        kept.extend(await fill(ctx, machine.root_cgroup, root, OBJECTS * stage.knobs["slabs"]))

    async def free(ctx: Context) -> None:
        for obj in kept:
            await kmem_cache_free(ctx, root, obj)

    async def shrink(ctx: Context) -> None:
        shrinker_remains.append(await kmem_cache_shrink(ctx, root))

    stage.set_up(make_objects)
    stage.task("free", free)
    stage.task("shrink", shrink, cpu=1)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("a slab was left after the shrink", lambda: shrinker_remains == [True])
    stage.eventually("every cgroup is gone", stage.only_session_left)
