"""One host on one kernel, day by day."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from actors.system.stepper import run_stepper
from actors.system.world import World
from explorer.garbage import collected_rarely
from explorer.growth.memory import machine_bytes
from explorer.growth.reaper import ReaperWatch, Walks
from explorer.search.strategies.simple import Clock
from protocol.errors import InternalError
from protocol.findings import Finding
from scenarios.services import services
from scenarios.stage import Stage


@attrs.frozen
class Day:
    """The figures of one day, scaled to the number of real cgroups that one of the model stands for; memory in bytes.

    `cgroups` counts all cgroups created so far in the model, and `steps` and `seconds` (of one CPU) the effort so far.
    `walks` are the walks of SLAB's reaper since the day before, if they were watched.
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
class HostJob:
    """A host to simulate: the kernel, the number of the host, and the scenario's knobs."""

    kernel: str
    host: int
    knobs: Mapping[str, Any]

    def __str__(self) -> str:
        """The job in words, for messages."""
        return f"host {self.host} on {self.kernel}"

    @classmethod
    def of(cls, kernel: str, host: int, settings: Mapping[str, str]) -> HostJob:
        """A job with *settings* as typed; UsageError if a knob is wrong, or if such a machine cannot boot."""
        return cls(kernel, host, services.values({**settings, "host": str(host)}))


@attrs.define(eq=False)
class HostStage(Stage):
    """A stage that calls `on_day` with each day that is sampled."""

    on_day: Callable[[Day], None] = attrs.field(kw_only=True)
    watch: ReaperWatch | None = attrs.field(default=None, init=False)
    _days: itertools.count[int] = attrs.field(factory=itertools.count, init=False)
    _began: float = attrs.field(factory=time.process_time, init=False)

    def sample(self, point: str) -> None:
        """Sample the machine and its memory, multiplied by the unit."""
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


def set_stage(job: HostJob, on_day: Callable[[Day], None]) -> Stage:
    """The booted host; UsageError if the machine lacks a feature that the services need."""
    world = World(Clock(job.host))
    world.recycles_slots = True
    stage = HostStage(world, job.kernel, job.knobs, check="off", on_day=on_day)
    services.build(stage)
    if job.knobs["probe"] == "yes":
        stage.watch = ReaperWatch(stage.machine)
        world.checks.append(stage.watch.look)
    return stage


@collected_rarely()
def simulate(job: HostJob, on_day: Callable[[Day], None]) -> tuple[Finding, ...]:
    """Run the host to its last day; return the findings."""
    stage = set_stage(job, on_day)
    world = stage.world
    stage.start()
    run_stepper(world)
    if world.stopped not in ("simulated", "finding"):
        msg = f"host {job.host} on {job.kernel} came to rest ({world.stopped}) before its last day"
        raise InternalError(msg)
    return tuple(world.findings.values())
