"""The last object of a cache that a cgroup has inherited is freed, while that cgroup goes, too.

The cache was its child's, and is deactivated already: the page goes at once. Whose counters it is taken out of is read
from the cache, and may be the next cgroup's a moment later.
"""

from __future__ import annotations

from actors.kernel.cgroup import Cgroup
from actors.kernel.context import Context
from actors.kernel.kmem_cache import SlabObject
from actors.kernel.slub import kmem_cache_free
from scenarios.registry import MACHINE, scenario
from scenarios.stage import Stage, charge_elsewhere, fill, mkdir, rmdir, small_cache, warm_up


@scenario(
    "inherited-free",
    "the last object of an inherited cache is freed while the cgroup that has inherited it is removed",
    *MACHINE,
)
def inherited_free(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    root = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []

    async def make_cgroups(ctx: Context) -> None:
        """The child is gone when the race begins."""
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "parent"))
        cgroups.append(await mkdir(ctx, cgroups[0], "job"))
        await warm_up(ctx, cgroups[1], root)
        kept.extend(await fill(ctx, cgroups[1], root, 1))
        await charge_elsewhere(ctx, stage.session)
        await rmdir(ctx, cgroups[1])
        await ctx.settle()

    async def free(ctx: Context) -> None:
        for obj in kept:
            await kmem_cache_free(ctx, root, obj)

    stage.set_up(make_cgroups)
    stage.task("free", free)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("the object is freed when the cgroup is going", lambda: bool(cgroups) and is_late(kept, cgroups[0]))
    stage.eventually("no child cache is left", lambda: not machine.child_caches)
    stage.eventually("every cgroup is gone", stage.only_session_left)


def is_late(kept: list[SlabObject], cgroup: Cgroup) -> bool:
    """Whether the object's page is still there when the cgroup is dead already."""
    return cgroup.is_dead and any(obj.slab.freed is None for obj in kept)
