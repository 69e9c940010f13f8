"""One run of `shared-dentry` in a process of its own, metered: `python -m benchmarks.generations KERNEL N HELD`.

Memory measured inside a process that did other work before means little, so `scale` starts this module afresh for every
measurement. It prints the readings as one JSON list. The garbage collector is on, as in any run: collectable memory is
not part of a generation's cost.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import attrs

from actors.system.recorder import Recorder
from actors.system.stepper import run_stepper
from actors.system.world import World
from explorer.search.strategies.simple import RandomWalk
from explorer.watch import Watch
from scenarios import find_scenario
from scenarios.stage import Stage

SLICE = 1_000
"""Generations between two readings."""


@attrs.frozen
class Reading:
    """The meters at one point: CPU seconds and steps since the start, and the peak of resident memory (KiB)."""

    point: str
    seconds: float
    steps: int
    peak: int


@attrs.define(eq=False)
class MeteredStage(Stage):
    """A stage that reads the meters where the scenario would sample the machine: a sample walks through all of it."""

    started: float = attrs.field(factory=time.process_time, init=False)
    readings: list[Reading] = attrs.field(factory=list, init=False)

    def sample(self, point: str) -> None:
        """Record the resources that this process has used up to now."""
        seconds = time.process_time() - self.started
        self.readings.append(Reading(point, seconds, self.world.steps, peak_resident()))


def peak_resident() -> int:
    """The peak of this process's resident memory so far (KiB).

    It counts this program only: `ru_maxrss` would include the parent's memory at the fork.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def run_generations(kernel: str, generations: int, held: int) -> list[Reading]:
    """Run the scenario on the stepper, recorded and checked as `slabrace run` does; return a reading for each slice."""
    scenario = find_scenario("shared-dentry")
    knobs = {"generations": str(generations), "held": str(held), "every": str(SLICE)}
    world = World(RandomWalk(0))
    world.observers = (Recorder(), Watch(world))
    stage = MeteredStage(world, kernel, scenario.values(knobs))
    scenario.build(stage)
    stage.start()
    run_stepper(world)
    assert world.stopped == "quiescent", f"the run ended as {world.stopped}"
    assert not world.findings, f"the run found {', '.join(world.findings)}"
    stage.sample("end")
    return stage.readings


def main() -> None:
    """Run with the given arguments, and print the readings."""
    kernel, generations, held = sys.argv[1:4]
    readings = run_generations(kernel, int(generations), int(held))
    json.dump([attrs.asdict(reading) for reading in readings], sys.stdout)


if __name__ == "__main__":
    main()
