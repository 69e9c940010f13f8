"""A task walks all caches with slab_mutex held, again and again, while cgroups come and go (KERNEL.md 4.8, 10.1).

The creation of child caches has to wait for each walk. The offlining of a cgroup has to wait too, with cgroup_mutex
held.
"""

from __future__ import annotations

from actors.api import Context, kmem_cache_free
from actors.files.kernel_files import read_file
from scenarios.api import Knob, Stage, charge_elsewhere, fill, machine, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "slab-mutex-hog",
    "/proc/slabinfo is read again and again while cgroups are made and removed",
    Knob("reads", "how often /proc/slabinfo is read", 5, least=1),
    Knob("cgroups", "cgroups that are made and removed, one after the other", 2, least=1),
    *machine(),
)
def slab_mutex_hog(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha"), small_cache("beta")])
    caches = [machine.root_cache(name) for name in ("alpha", "beta")]

    async def read(ctx: Context) -> None:
        for _ in range(stage.knobs["reads"]):
            await read_file(ctx, "slabinfo")

    async def live_and_go(ctx: Context) -> None:
        for number in range(stage.knobs["cgroups"]):
            cgroup = await mkdir(ctx, machine.root_cgroup, f"job{number}")
            await warm_up(ctx, cgroup, *caches)
            for cache in caches:
                for obj in await fill(ctx, cgroup, cache, 1):
                    await kmem_cache_free(ctx, cache, obj)
            await rmdir(ctx, cgroup)

    stage.task("slabtop", read, cpu=1)
    stage.task("jobs", live_and_go)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("a task waits for slab_mutex", lambda: bool(machine.slab_mutex.waiters))
    stage.eventually("every cgroup is gone", stage.only_session_left)
    stage.eventually("no child cache is left", lambda: not machine.child_caches)
