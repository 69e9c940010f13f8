"""Prefix replay: runs that repeat a log's choices up to some step, and then take the choices of a strategy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from actors.system.strategy import Strategy
from protocol.errors import UsageError
from protocol.log import LogReader
from protocol.records import PhaseRecord, Step, ValueRecord

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World


@attrs.frozen
class Start:
    """The step of a log before which the strategy takes over; for *trust* see `Experiment.of_log`."""

    log: Path
    at: int
    trust: bool = False


@attrs.frozen
class Beginning:
    """The recorded choices before that step: of each step its time since the last (ns) and its index; each value."""

    steps: tuple[tuple[int, int], ...]
    values: tuple[int, ...]


def read_beginning(log: LogReader, at: int) -> Beginning:
    """The choices of *log* before step *at*; UsageError if *at* is not a step of the log's race."""
    steps: list[tuple[int, int]] = []
    values: list[int] = []
    phase = ""
    for _, record in log.records():
        if isinstance(record, Step):
            if len(steps) == at:
                break
            steps.append((record.dt, record.index))
        elif isinstance(record, ValueRecord):
            values.append(record.value)
        elif isinstance(record, PhaseRecord):
            phase = record.name
    else:
        if len(steps) <= at:
            msg = f"--at {at}: {log.path} has steps 0 to {len(steps) - 1} only"
            raise UsageError(msg)
    if phase != "race":
        msg = f"--at {at}: that step belongs to the phase {phase!r} of {log.path}, in which nothing races"
        raise UsageError(msg)
    return Beginning(tuple(steps), tuple(values))


class Onward(Strategy):
    """Prefix replay: makes the choices of a beginning, and then hands over to another strategy."""

    controls_clock = True
    is_replay = True

    def __init__(self, beginning: Beginning, strategy: Strategy) -> None:
        self.name = strategy.name
        self._strategy = strategy
        self._steps = iter(beginning.steps)
        self._values = iter(beginning.values)
        self._time = 0
        self._place = 0

    def advance(self, world: World) -> None:
        """Go to the recorded time of the next step; after the last one, hand over."""
        step = next(self._steps, None)
        if step is None:
            world.go_on_with(self._strategy)
            return
        since, self._place = step
        self._time += since
        world.now = max(world.now, self._time)
        world.fire_timers()

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """The recorded lane."""
        return min(self._place, len(lanes) - 1)

    def choose_value(self, count: int) -> int:
        """The recorded value."""
        return min(next(self._values, 0), count - 1)
