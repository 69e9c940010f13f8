"""rmdir of a parent as soon as its child is removed from the tree, while the child has not gone offline yet.

A parent css goes offline only after all its children have (online_cnt). So caches move up one level at a time, and
never to a memcg that has already handed its own caches on.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, SlabObject, kmem_cache_free
from scenarios.api import MACHINE, Stage, charge_elsewhere, fill, mkdir, rmdir, scenario, small_cache, warm_up


@scenario("parent-while-child-offlines", "a parent cgroup is removed right after its child", *MACHINE)
def parent_while_child_offlines(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []

    async def make_cgroups(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "parent"))
        cgroups.append(await mkdir(ctx, cgroups[0], "child"))
        for cgroup in cgroups:
            await warm_up(ctx, cgroup, cache)
            kept.extend(await fill(ctx, cgroup, cache, 1))

    async def free_all(ctx: Context) -> None:
        for obj in kept:
            await kmem_cache_free(ctx, cache, obj)
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(make_cgroups)
    stage.task("rmdir-child", lambda ctx: rmdir(ctx, cgroups[1]))
    stage.task("rmdir-parent", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
    stage.wind_up(free_all)
    stage.sometimes("both are dying, and the child is still online", lambda: is_child_late(cgroups))
    stage.eventually("every cgroup is gone", stage.only_session_left)
    stage.eventually("no child cache is left", lambda: not machine.child_caches)


def is_child_late(cgroups: list[Cgroup]) -> bool:
    """Whether both cgroups are dead and the child is not offline yet."""
    return len(cgroups) == 2 and all(cgroup.is_dead for cgroup in cgroups) and cgroups[1].css.is_online
