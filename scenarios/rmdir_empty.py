"""rmdir of a cgroup whose child cache is empty; nothing else runs.

The cache has no other reference when its count is switched to atomic mode, so it is shut down and freed at the earliest
possible step. SLAB has no sysfs directory, which would keep the cache a little longer.
"""

from __future__ import annotations

from actors.api import Context
from scenarios.api import Stage, machine, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "rmdir-empty",
    "a cgroup with an empty child cache is removed",
    *machine(allocator="slab"),
    also=("work-fn-store-after-free",),
)
def rmdir_empty(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])

    async def live_and_go(ctx: Context) -> None:
        cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        await warm_up(ctx, cgroup, machine.root_cache("alpha"))
        await rmdir(ctx, cgroup)

    stage.task("job", live_and_go)
    stage.sometimes("a cgroup is dying", lambda: machine.root_cgroup.nr_dying_descendants > 0)
    stage.eventually("every cgroup is gone", stage.only_session_left)
    stage.eventually("no child cache is left", lambda: not machine.child_caches)
