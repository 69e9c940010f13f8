"""A new cgroup gets the kmemcg_id of one that has just gone offline, whose caches may still be looked up.

The id is free at once, without a grace period. A lookup that read the id before must not use the new cgroup's cache by
mistake, and a creation must not overwrite the new cgroup's entry.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, kmem_cache_alloc, kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task, cgroup_mkdir, memcg_of
from scenarios.api import MACHINE, Stage, charge_elsewhere, mkdir, rmdir, scenario, small_cache, warm_up


@scenario("id-reuse", "a cgroup is made while another goes offline and gives up its kmemcg_id", *MACHINE)
def id_reuse(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    old_ids: list[int] = []

    async def make_cgroup(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "old"))
        old_ids.append(memcg_of(cgroups[0].css).kmemcg_id)
        await warm_up(ctx, cgroups[0], cache)
        await cgroup_attach_task(ctx, cgroups[0], worker)

    async def allocate(ctx: Context) -> None:
        for _ in range(3):
            obj = await kmem_cache_alloc(ctx, cache)
            if obj is not None:
                await kmem_cache_free(ctx, cache, obj)

    async def remove(ctx: Context) -> None:
        await cgroup_attach_task(ctx, machine.root_cgroup, worker)
        await rmdir(ctx, cgroups[0])

    async def replace(ctx: Context) -> None:
        """A service starts in a new cgroup, at any time during the race."""
        cgroup = await cgroup_mkdir(ctx, machine.root_cgroup, "new")
        if cgroup is not None:
            cgroups.append(cgroup)
            await cgroup_attach_task(ctx, cgroup, ctx)
            await allocate(ctx)

    async def remove_new(ctx: Context) -> None:
        await charge_elsewhere(ctx, stage.session)
        for cgroup in cgroups[1:]:
            await rmdir(ctx, cgroup)
        await ctx.settle()
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(make_cgroup)
    worker = stage.task("allocate", allocate)
    stage.task("rmdir", remove, cpu=1)
    stage.task("mkdir", replace, cpu=1)
    stage.wind_up(remove_new)
    stage.sometimes("the old id is given out again", lambda: is_reused(cgroups, old_ids))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def is_reused(cgroups: list[Cgroup], old_ids: list[int]) -> bool:
    """Whether the new cgroup has the id that the old one had."""
    memcg = cgroups[1].css.memcg if len(cgroups) > 1 and cgroups[1].has_css else None
    return memcg is not None and memcg.kmemcg_id in old_ids
