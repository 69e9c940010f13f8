"""The smallest race of the series: a cgroup is removed while the only object that it allocated is freed elsewhere."""

from __future__ import annotations

from actors.kernel.cgroup import Cgroup
from actors.kernel.context import Context
from actors.kernel.kmem_cache import SlabObject
from actors.kernel.slub import kmem_cache_free
from scenarios.registry import MACHINE, scenario
from scenarios.stage import Stage, fill, mkdir, rmdir, small_cache, warm_up


@scenario("last-object", "a cgroup is removed while the last object that it allocated is freed", *MACHINE)
def last_object(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []

    async def keep_one_object(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await warm_up(ctx, cgroups[0], cache)
        kept.extend(await fill(ctx, cgroups[0], cache, 1))

    async def free(ctx: Context) -> None:
        await kmem_cache_free(ctx, cache, kept[0])

    stage.set_up(keep_one_object)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]))
    stage.task("free", free, cpu=1)
