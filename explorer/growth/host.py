"""One host on one kernel, day by day."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from actors.system.stepper import run_stepper
from actors.system.world import World
from explorer.growth.memory import machine_bytes
from explorer.growth.reaper import ReaperWatch, Walks
from explorer.search.strategies.simple import Clock
from protocol.errors import InternalError
from protocol.findings import Finding
from scenarios.services import services
from scenarios.stage import Stage


@attrs.frozen
class Day:
    """What is there on one day, of so many real cgroups as the host stands for; memory in bytes.

    `cgroups` are all that have been made up to then in the model, `steps` and `seconds` (of one CPU) what that took.
    `walks` are those of SLAB's reaper since the day before, if they were watched.
    """

    day: int
    dying: int
    child_caches: int
    zombie_caches: int
    memory: int
    cgroups: int
    steps: int
    seconds: float
    walks: Walks | None = None


@attrs.frozen
class Job:
    """A host to simulate: on which kernel, which host, and the scenario's knobs."""

    kernel: str
    host: int
    knobs: Mapping[str, Any]

    def __str__(self) -> str:
        """For people."""
        return f"host {self.host} on {self.kernel}"

    @classmethod
    def of(cls, kernel: str, host: int, settings: Mapping[str, str]) -> Job:
        """As typed; UsageError if a knob is not right, or the machine cannot be booted so."""
        return cls(kernel, host, services.values({**settings, "host": str(host)}))


@attrs.define(eq=False)
class HostStage(Stage):
    """A stage that tells of each day when it is sampled."""

    on_day: Callable[[Day], None] = attrs.field(kw_only=True)
    watch: ReaperWatch | None = attrs.field(default=None, init=False)
    _days: itertools.count[int] = attrs.field(factory=itertools.count, init=False)
    _began: float = attrs.field(factory=time.process_time, init=False)

    def sample(self, point: str) -> None:
        """Sample the machine, and its memory; all times the unit."""
        super().sample(point)
        sample, unit = self.samples[-1], self.knobs["unit"]
        day = Day(
            day=next(self._days),
            dying=sample.dying_cgroups * unit,
            child_caches=sample.child_caches * unit,
            zombie_caches=sample.deactivated * unit,
            memory=machine_bytes(self.machine) * unit,
            cgroups=self.machine.root_cgroup.descendants()[-1].serial_nr - 1,  # the root's is 1
            steps=self.world.steps,
            seconds=time.process_time() - self._began,
            walks=self.watch.take(unit) if self.watch is not None else None,
        )
        self.on_day(day)


def set_stage(job: Job, on_day: Callable[[Day], None]) -> Stage:
    """The host, booted; UsageError if the machine lacks what the services need."""
    world = World(Clock(job.host))
    world.recycles_slots = True
    stage = HostStage(world, job.kernel, job.knobs, check="off", on_day=on_day)
    services.build(stage)
    if job.knobs["probe"] == "yes":
        stage.watch = ReaperWatch(stage.machine)
        world.checks.append(stage.watch.look)
    return stage


def simulate(job: Job, on_day: Callable[[Day], None]) -> tuple[Finding, ...]:
    """Run the host to its last day; what the kernel complained of."""
    stage = set_stage(job, on_day)
    world = stage.world
    stage.start()
    run_stepper(world)
    if world.stopped not in ("simulated", "finding"):
        msg = f"host {job.host} on {job.kernel} came to rest ({world.stopped}) before its last day"
        raise InternalError(msg)
    return tuple(world.findings.values())
