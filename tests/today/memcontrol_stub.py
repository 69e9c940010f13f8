"""A memory controller that does nothing but tell: for tests of cgroups and statistics, on any kernel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from actors.linux.include.rstat import __mod_memcg_lruvec_state as mod_memcg_lruvec_state
from actors.linux.kernel.cgroup.cgroup import Cgroup, Css
from actors.linux.mm.memcontrol import Memcg, mem_cgroup_alloc
from actors.machine.context import Context
from actors.system.stepper import run_stepper
from actors.system.strategy import Strategy
from actors.system.world import World
from actors.versions.kernel_fn import make_body
from actors.versions.patching import Patch
from explorer.search.registry import make_strategy
from protocol.records import PatchRecord
from scenarios.registry import MACHINE, default_value
from scenarios.stage import Stage

Hook = Callable[[Context, str, str], Awaitable[None]]
"""Called with the name of a callback and the cgroup's (or the task's) name."""


@attrs.define(eq=False)
class Stub:
    """The callbacks of a controller: `events` are their names with the cgroup or task, in order.

    `seen` is called in each of them; it may wait. `fails` are the cgroups whose css cannot go online. `others` are
    further bodies by their C name.
    """

    events: list[tuple[str, str]] = attrs.field(factory=list)
    seen: Hook | None = None
    fails: tuple[str, ...] = ()
    others: dict[str, Callable[..., Any]] = attrs.field(factory=dict)

    async def tell(self, ctx: Context, callback: str, name: str) -> None:
        self.events.append((callback, name))
        if self.seen is not None:
            await self.seen(ctx, callback, name)

    def patch(self, kernel: str) -> Patch:
        async def css_alloc(ctx: Context, css: Css, parent_css: Css) -> Memcg:
            await self.tell(ctx, "alloc", css.cgroup.name)
            return mem_cgroup_alloc(ctx.machine, css, parent_css.memcg)

        async def css_online(ctx: Context, memcg: Memcg) -> bool:
            await self.tell(ctx, "online", memcg.name)
            return memcg.name not in self.fails

        async def css_offline(ctx: Context, memcg: Memcg) -> None:
            await self.tell(ctx, "offline", memcg.name)

        async def css_released(ctx: Context, memcg: Memcg) -> None:
            await self.tell(ctx, "released", memcg.name)

        async def css_free(ctx: Context, memcg: Memcg) -> None:
            await self.tell(ctx, "free", memcg.name)
            ctx.kfree(*memcg.parts())

        async def attach(ctx: Context, task: Context) -> None:
            await self.tell(ctx, "attach", task.name)

        async def fork(ctx: Context, task: Context) -> None:
            await self.tell(ctx, "fork", task.name)

        async def exits(ctx: Context) -> None:
            await self.tell(ctx, "exit", ctx.name)

        bodies: dict[str, Callable[..., Any]] = {
            "mem_cgroup_css_alloc": css_alloc,
            "mem_cgroup_css_online": css_online,
            "mem_cgroup_css_offline": css_offline,
            "mem_cgroup_css_released": css_released,
            "mem_cgroup_css_free": css_free,
            "mem_cgroup_attach": attach,
            "mem_cgroup_fork": fork,
            "mem_cgroup_exit": exits,
            **self.others,
        }
        return Patch(
            PatchRecord("stub"),
            {name: make_body(code, name, "mm/memcontrol.c", (kernel,)) for name, code in bodies.items()},
        )


def perform(
    stub: Stub,
    build: Callable[[Stage], None],
    *,
    kernel: str = "6.12",
    strategy: str = "random",
    seed: int = 0,
    finds: tuple[str, ...] = (),
    **machine: object,
) -> Stage:
    """Run the stage that *build* sets, with *stub* as the memory controller and without the shadow accounting.

    The run must have findings of the kinds *finds*, and no others.
    """
    knobs = {knob.name: machine.get(knob.name, default_value(knob)) for knob in MACHINE}
    chosen: Strategy = make_strategy(strategy, seed)
    world = World(chosen)
    stage = Stage(world, kernel, knobs, check="off", patches=(stub.patch(kernel),))
    stage.has_session = False
    stage.boot("dentry")
    build(stage)
    stage.start()
    run_stepper(world)
    found = {finding.kind for finding in world.findings.values()}
    assert found == {*finds}, world.findings
    return stage


async def add(ctx: Context, cgroup: Cgroup, item: str, nr: int) -> None:
    """Count *nr* of *item* for a cgroup on this CPU."""
    assert cgroup.css.memcg is not None
    with ctx.preempt_section:
        await mod_memcg_lruvec_state(ctx, cgroup.css.memcg, 0, item, nr)
