"""Cgroups are made and removed while percpu memory is so short that making one often fails.

A memory cgroup needs a lot of percpu memory, and dying ones keep theirs: that is how a host runs out of it. mkdir gets
-ENOMEM, and whatever it has made by then has to go again, as at rmdir (KERNEL.md 3.1), so that the parent can go.
"""

from __future__ import annotations

from actors.api import Cgroup, Completion, Context
from actors.linux.kernel.cgroup.cgroup import cgroup_mkdir, cgroup_rmdir
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, mkdir, rmdir, scenario, small_cache


@scenario(
    "mkdir-fails",
    "cgroups are made and removed while percpu memory is short, so that making one often fails",
    Knob("failing", "of a hundred allocations of percpu memory, so many fail", 40, most=90),
    Knob("cgroups", "cgroups that each of two tasks wants", 2, least=1, most=60),
    *MACHINE,
)
def mkdir_fails(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    parents: list[Cgroup] = []
    refused: list[str] = []
    done = Completion(machine.cgroup_tree.actor, remaining=2)

    async def make_parent(ctx: Context) -> None:
        parents.append(await mkdir(ctx, machine.root_cgroup, "parent"))

    async def come_and_go(ctx: Context, name: str) -> None:
        for number in range(stage.knobs["cgroups"]):
            cgroup = await cgroup_mkdir(ctx, parents[0], f"{name}{number}")
            if cgroup is None:
                refused.append(f"{name}{number}")
            else:
                await rmdir(ctx, cgroup)
        await ctx.ask(done.complete)

    async def remove_parent(ctx: Context) -> None:
        """Its children are removed by now, or never were."""
        await ctx.ask(done.wait_for_completion)
        await cgroup_rmdir(ctx, parents[0])

    stage.make_scarce(stage.knobs["failing"], "percpu")
    stage.set_up(make_parent)
    stage.task("first", lambda ctx: come_and_go(ctx, "first"))
    stage.task("second", lambda ctx: come_and_go(ctx, "second"), cpu=1)
    stage.task("stop", remove_parent)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("a cgroup could not be made", lambda: bool(refused))
    stage.eventually("every cgroup is gone", stage.only_session_left)
