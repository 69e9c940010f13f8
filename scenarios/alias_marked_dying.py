"""Two caches are merged into one. One of the two is destroyed, and cgroups go on using the other.

The destruction only drops an alias. The surviving cache must not be marked as dying, and its child caches have to be
created and removed as before.
"""

from __future__ import annotations

import attrs

from actors.api import Cgroup, Context, SlabFlags, kmem_cache_create, kmem_cache_destroy, kmem_cache_free
from scenarios.api import Knob, Stage, charge_elsewhere, fill, machine, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "alias-marked-dying",
    "two mergeable caches, one of them is destroyed, then cgroups use the other",
    Knob("cycles", "cgroups that come and go; the first is there when the alias is destroyed", 2, least=1),
    *machine(),
    also=("d38a2b7a9c93",),
)
def alias_marked_dying(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    survivor = machine.root_cache("alpha")

    async def destroy_alias_then_cycle(ctx: Context) -> None:
        """The first cgroup has its child cache before the alias is destroyed."""
        row = attrs.evolve(small_cache("alpha"), name="beta")
        alias = await kmem_cache_create(ctx, row, SlabFlags.ACCOUNT)
        if alias is None:
            return  # there was no memory for it
        assert alias is survivor, "the caches are not merged"
        first = await mkdir(ctx, machine.root_cgroup, "job0")
        await warm_up(ctx, first, survivor)
        await kmem_cache_destroy(ctx, alias)
        await use_then_remove(ctx, first)
        for number in range(1, stage.knobs["cycles"]):
            cgroup = await mkdir(ctx, machine.root_cgroup, f"job{number}")
            await warm_up(ctx, cgroup, survivor)
            await use_then_remove(ctx, cgroup)

    async def use_then_remove(ctx: Context, cgroup: Cgroup) -> None:
        for obj in await fill(ctx, cgroup, survivor, 2):
            await kmem_cache_free(ctx, survivor, obj)
        await rmdir(ctx, cgroup)
        await ctx.settle()

    stage.task("cycle", destroy_alias_then_cycle)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("the survivor has a child", lambda: bool(survivor.children))
    stage.always("the survivor is there", lambda: survivor.freed is None, is_local=True)
