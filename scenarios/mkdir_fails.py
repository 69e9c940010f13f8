"""Cgroups are made and removed while percpu memory is so short that mkdir often fails.

A memory cgroup needs a lot of percpu memory, and a dying cgroup keeps its percpu memory; hosts with many dying cgroups
run out of it. mkdir then fails with -ENOMEM and has to undo everything that it has made, as rmdir does (KERNEL.md 3.1).
Otherwise the parent can never be released.
"""

from __future__ import annotations

from actors.api import Cgroup, Completion, Context
from actors.linux.kernel.cgroup.cgroup import cgroup_mkdir, cgroup_rmdir
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, mkdir, rmdir, scenario, small_cache


@scenario(
    "mkdir-fails",
    "cgroups are made and removed while percpu memory is short, so that mkdir often fails",
    Knob("failing", "percentage of percpu allocations that fail", 40, most=90),
    Knob("cgroups", "cgroups that each of two tasks tries to make", 2, least=1, most=60),
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
        """Remove the parent when both tasks have finished, so that it has no children any more."""
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
