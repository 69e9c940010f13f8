"""The stage: what a scenario builds on, and where its properties and figures are kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs

from actors.kernel.cgroup import Cgroup, cgroup_mkdir, cgroup_rmdir
from actors.kernel.context import Context
from actors.kernel.invariants import Ledger
from actors.kernel.machine import Machine
from actors.system.flow import Flow
from actors.system.world import World
from protocol.slabinfo import parse_slabinfo

RMDIR_RETRY_NS = 1_000_000


@attrs.define(eq=False)
class Property:
    """`always` holds after every step, `sometimes` after at least one, `eventually` at quiescence."""

    kind: str
    name: str
    holds: Callable[[], bool]


@attrs.frozen
class Sample:
    """What the machine counts at a named point of the scenario."""

    point: str
    dying_cgroups: int
    child_caches: int
    deactivated: int
    slab_pages: int


@attrs.define(eq=False)
class Stage:
    """One scenario on one world: `knobs` are its values, `boot` gives the machine.

    `unreached` are the `sometimes` that have not been true yet.
    """

    world: World
    kernel: str
    knobs: Mapping[str, Any]
    check: str = "step"
    machine: Machine = attrs.field(init=False)
    ledger: Ledger = attrs.field(init=False)
    samples: list[Sample] = attrs.field(factory=list)
    always_properties: list[Property] = attrs.field(factory=list)
    unreached: list[Property] = attrs.field(factory=list)
    eventual_properties: list[Property] = attrs.field(factory=list)

    def boot(self, *names: str) -> Machine:
        """Boot a machine with the caches of the slabinfo knob: all of them, or only those in *names*."""
        rows = parse_slabinfo(self.knobs["slabinfo"], source="slabinfo")
        wanted = [row for row in rows if not names or row.name in names]
        machine = self.machine = Machine(self.world, self.kernel, cpus=self.knobs["cpus"], rows=wanted)
        self.ledger = Ledger(machine)
        if self.check == "step":
            self.world.checks.append(self.ledger.check_touched)
        if self.check != "off":
            self.world.endings.append(self.ledger.check_quiescent)
        self.world.checks.append(self._watch)
        self.world.endings.append(self._check_eventually)
        return machine

    # -- who does what --------------------------------------------------------------------------------------------

    def task(
        self, name: str, body: Callable[[Context], Awaitable[None]], *, cpu: int = 0, migrates: bool = False
    ) -> Context:
        """Start a task on *cpu*, modulo the CPUs there are; it begins with *body* when it is first chosen."""

        async def live(ctx: Context) -> None:
            await body(ctx)

        task = self.machine.new_task(name, cpu % len(self.machine.cpus), migrates=migrates)
        self.machine.spawn(task, live(task))
        return task

    # -- what must hold -------------------------------------------------------------------------------------------

    def always(self, name: str, holds: Callable[[], bool]) -> None:
        self.always_properties.append(Property("always", name, holds))

    def sometimes(self, name: str, holds: Callable[[], bool]) -> None:
        """The race that the scenario is about was really reached; if never, the run says so."""
        self.unreached.append(Property("sometimes", name, holds))

    def eventually(self, name: str, holds: Callable[[], bool]) -> None:
        self.eventual_properties.append(Property("eventually", name, holds))

    def _watch(self, flow: Flow) -> None:
        for prop in self.always_properties:
            if not prop.holds():
                self._violated(prop, flow)
        if self.unreached:
            self.unreached = [prop for prop in self.unreached if not prop.holds()]

    def _check_eventually(self) -> None:
        for prop in self.eventual_properties:
            if not prop.holds():
                self._violated(prop, None)

    def _violated(self, prop: Property, flow: Flow | None) -> None:
        self.world.report(
            "property", f"{prop.kind}: {prop.name}", f"{prop.kind} {prop.name!r} does not hold", flow=flow
        )

    # -- figures --------------------------------------------------------------------------------------------------

    def sample(self, point: str) -> None:
        """Note what the machine counts now."""
        final = self.ledger.figures()
        self.samples.append(
            Sample(
                point,
                final["nr_dying_descendants"],
                final["child_caches"],
                final["zombie_caches"],
                final["slab_pages"],
            )
        )


# -- what tasks do with cgroups ----------------------------------------------------------------------------------------


async def enter(ctx: Context, cgroup: Cgroup) -> None:
    """Move the running task into *cgroup* (a write to cgroup.procs)."""
    await move(ctx, ctx, cgroup)


async def move(ctx: Context, task: Context, cgroup: Cgroup) -> None:
    """Move *task*, wherever it is in its work, into *cgroup*."""
    old = ctx.machine.root_cgroup if task.memcg is None else task.memcg.css.cgroup
    await ctx.ask(cgroup.attach, 1)
    memcg = cgroup.css.memcg
    task.memcg = None if memcg is None or memcg.is_root else memcg
    await ctx.ask(old.attach, -1)


async def mkdir(ctx: Context, parent: Cgroup, name: str) -> Cgroup:
    return await cgroup_mkdir(ctx, parent, name)


async def rmdir(ctx: Context, cgroup: Cgroup) -> None:
    """Remove *cgroup*; as long as it is busy, try again a millisecond later."""
    while not await cgroup_rmdir(ctx, cgroup):
        await ctx.sleep(RMDIR_RETRY_NS)
