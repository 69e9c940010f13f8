"""The work that creates a child cache races with the offlining of the cgroup that the child is for.

Either the creation sees that the memcg goes offline, or the deactivation finds the new cache (KERNEL.md 5.3). The cache
must not be published for a memcg that is offline, and the work has to drop its reference to the memcg.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, kmem_cache_alloc, kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task
from actors.linux.mm.memcontrol import MemcgKmemCacheCreateWork
from scenarios.api import Knob, Stage, charge_elsewhere, machine, mkdir, rmdir, scenario, small_cache


@scenario(
    "create-vs-offline",
    "a child cache is being created while its cgroup is removed",
    Knob("tasks", "tasks whose first allocations each queue the creation", 2, least=1, most=8),
    *machine(),
)
def create_vs_offline(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []

    async def make_cgroup(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        for worker in workers:
            await cgroup_attach_task(ctx, cgroups[0], worker)

    async def allocate(ctx: Context) -> None:
        obj = await kmem_cache_alloc(ctx, cache)
        if obj is not None:
            await kmem_cache_free(ctx, cache, obj)

    stage.set_up(make_cgroup)
    workers = [stage.task(f"allocate{number}", allocate, cpu=number) for number in range(stage.knobs["tasks"])]
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("a creation is pending for a dying cgroup", lambda: any(map(is_late, machine.pending_creations)))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def is_late(work: MemcgKmemCacheCreateWork) -> bool:
    """Whether a creation is still pending when its cgroup is dead."""
    return work.memcg.css.cgroup.is_dead
