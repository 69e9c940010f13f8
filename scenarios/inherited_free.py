"""The last objects of caches that a cgroup has inherited are freed, while this cgroup is removed too.

The caches belonged to its child and are already deactivated, so their empty slabs are freed at once. The free reads
from the cache which memcg to uncharge, and reparenting may change this memcg immediately afterwards.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, KmemCache, SlabObject, kmem_cache_free
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, fill, mkdir, rmdir, scenario, small_cache, warm_up

NAMES = ("alpha", "beta", "filp", "dentry")


@scenario(
    "inherited-free",
    "the last objects of inherited caches are freed while the cgroup that has inherited them is removed",
    Knob("caches", "caches, with one object each", 3, least=1, most=len(NAMES)),
    *MACHINE,
)
def inherited_free(stage: Stage) -> None:
    names = NAMES[: stage.knobs["caches"]]
    machine = stage.boot(caches=[small_cache(name) for name in names])
    roots = [machine.root_cache(name) for name in names]
    cgroups: list[Cgroup] = []
    kept: list[tuple[KmemCache, SlabObject]] = []

    async def make_cgroups(ctx: Context) -> None:
        """Make parent and child, and remove the child before the race begins."""
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "parent"))
        cgroups.append(await mkdir(ctx, cgroups[0], "job"))
        await warm_up(ctx, cgroups[1], *roots)
        for root in roots:
            kept.extend([(root, obj) for obj in await fill(ctx, cgroups[1], root, 1)])
        await charge_elsewhere(ctx, stage.session)
        await rmdir(ctx, cgroups[1])
        await ctx.settle()

    async def free(ctx: Context) -> None:
        for root, obj in kept:
            await kmem_cache_free(ctx, root, obj)

    stage.set_up(make_cgroups)
    stage.task("free", free)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes(
        "an object is freed after the cgroup is killed", lambda: bool(cgroups) and is_late(kept, cgroups[0])
    )
    stage.eventually("no child cache is left", lambda: not machine.child_caches)
    stage.eventually("every cgroup is gone", stage.only_session_left)


def is_late(kept: list[tuple[KmemCache, SlabObject]], cgroup: Cgroup) -> bool:
    """Whether the cgroup is dead while the page of one of its objects is still allocated."""
    return cgroup.is_dead and any(obj.slab.freed is None for _, obj in kept)
