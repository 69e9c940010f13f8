"""Shrink the schedule of a failing run: make it as easy to follow as possible while it still shows the same flaw.

Easier means fewer operations of a generated program, then fewer preemptions, then fewer switches between lanes, then
fewer steps, lanes and CPUs, then smaller knobs of the scenario. The passes, in this order (SEARCH.md 4.9, after the
papers and tools named there): leave out operations of the program; cut the steps after the flaw; drop whole lanes; drop
the steps outside the causal past of the flaw; join preempted blocks of steps, and swap independent neighbours; drop
chunks of choices (Zeller, Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", TSE 2002); lower the knobs.
A candidate is kept only if it shows the same signature and is easier, so the result never gets worse.

A program without some of its operations may need another schedule. If the best run's schedule, followed by the names of
lanes, does not show the flaw, some random schedules are tried, from the same seeds every time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import attrs

from actors.system.observer import Observer
from explorer import defaults
from explorer.schedule import Follow
from explorer.search.registry import make_strategy
from explorer.trace import LONGEST_ORDERED, Trace, run_traced
from protocol.errors import UsageError
from protocol.schedule import Choice, Schedule

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import EnabledSet, World
    from explorer.experiment import Experiment
    from scenarios.registry import Knob

LOOKS = 1_024
"""Interval, in steps, at which a run reads the clock."""

OUT_OF_TIME = "out of time"

DRAWS = 5
"""Random schedules that are tried for a shorter program on which the best schedule so far does not show the flaw."""

Size = tuple[int, int, int, int, int, int]


def size_of(trace: Trace) -> Size:
    """The measure to minimize: operations of a program, preemptions, switches, steps of the race, lanes, CPUs."""
    lanes = {step.lane for step in trace.steps}
    cpus = {step.cpu for step in trace.steps}
    operations = len(trace.stage.present_operations())
    return operations, trace.preemptions, trace.switches, len(trace.steps), len(lanes), len(cpus)


class TimeLimit(Observer):
    """An observer that stops the world at a time limit (`time.monotonic`)."""

    def __init__(self, end: float) -> None:
        self._end = end
        self._steps = 0

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:  # noqa: ARG002 -- the protocol
        """Read the clock every `LOOKS` steps."""
        self._steps += 1
        if self._steps % LOOKS == 0 and time.monotonic() > self._end:
            world.stop(OUT_OF_TIME)


@attrs.define
class Shrinker:
    """Shrinks one finding. `best` is the easiest run so far, of `experiment`; `runs` counts the runs, at most *budget*.

    It stops at *end* (`time.monotonic`) with the best run so far. *progress* is called after every run.
    """

    experiment: Experiment
    best: Trace
    controls_clock: bool = False
    budget: float = defaults.SHRINK_RUNS
    end: float = math.inf
    progress: Callable[[Shrinker], None] | None = None
    runs: int = 0
    signature: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.signature = self.best.signature

    def shrink(self) -> None:
        """Repeat all passes until none of them makes the run easier."""
        size = None
        while size != (size := size_of(self.best)) and not self.is_spent:
            self._leave_out()
            self._cut_tail()
            self._drop_lanes()
            self._keep_causal_past()
            self._join_blocks()
            self._merge_blocks()
            self._drop_chunks()
            self._lower_knobs()

    @property
    def is_spent(self) -> bool:
        """Whether the runs or the time are used up."""
        return self.runs >= self.budget or time.monotonic() > self.end

    def _attempt(self, schedule: Schedule, experiment: Experiment | None = None) -> bool:
        """Run *schedule*; keep the run if it shows the flaw and is easier."""
        if self.is_spent:
            return False
        self.runs += 1
        experiment = experiment or self.experiment
        follow = Follow(schedule, controls_clock=self.controls_clock)
        trace = run_traced(experiment, follow, self.signature, TimeLimit(self.end))
        is_kept = trace.found is not None and self._is_progress(trace, experiment)
        if is_kept:
            self.best, self.experiment = trace, experiment
        if self.progress is not None:
            self.progress(self)
        return is_kept

    def _is_progress(self, trace: Trace, experiment: Experiment) -> bool:
        size, best = size_of(trace), size_of(self.best)
        return size < best or (size == best and experiment is not self.experiment)

    # -- the passes ---------------------------------------------------------------------------------------------------

    def _leave_out(self) -> None:
        """Leave out operations of the program: chunks of them, long ones first, then one by one."""
        for knob in self.experiment.scenario.knobs:
            if knob.leaves_out:
                length = len(self.best.stage.present_operations())
                while length:
                    self._leave_out_chunks(knob, length)
                    length //= 2

    def _leave_out_chunks(self, knob: Knob, length: int) -> None:
        start = 0
        while not self.is_spent and (chunk := self.best.stage.present_operations()[start : start + length]):
            gone = [one.number for one in self.best.stage.operations if one.is_left_out or one in chunk]
            if not self._attempt_program(self.experiment.with_knob(knob.name, knob.joined(gone))):
                start += length

    def _attempt_program(self, experiment: Experiment) -> bool:
        """Run a shorter program by the same schedule, or by a random one that shows the flaw."""
        if self._attempt(self.best.schedule, experiment):
            return True
        for seed in range(DRAWS):
            if self.is_spent:
                break
            self.runs += 1
            drawn = run_traced(experiment, make_strategy("random", seed), self.signature, TimeLimit(self.end))
            if drawn.found is not None and self._attempt(drawn.schedule, experiment):
                return True
        return False

    def _cut_tail(self) -> None:
        """Cut the end of the schedule, so that the non-preemptive order begins as early as possible."""
        schedule = self.best.schedule
        low, high = 0, len(schedule)
        while low < high:
            middle = (low + high) // 2
            if self._attempt(schedule[:middle]):
                high = middle
            else:
                low = middle + 1

    def _drop_lanes(self) -> None:
        """Drop all steps of a lane, one lane after another."""
        for lane in dict.fromkeys(step.lane for step in self.best.steps):
            self._attempt(flatten(step for step in units(self.best) if step[0] != lane))

    def _keep_causal_past(self) -> None:
        """Drop the steps that the flaw does not depend on."""
        if self.best.ends_at_rest or not 0 < len(self.best.steps) <= LONGEST_ORDERED:
            return
        past = self.best.order().past[-1]
        kept = [unit for number, unit in enumerate(units(self.best)) if past >> number & 1]
        self._attempt(flatten([*kept, units(self.best)[-1]]))

    def _drop_chunks(self) -> None:
        """Drop chunks of successive choices, long ones first."""
        length = max(len(self.best.steps) // 2, 1)
        while length:
            start = 0
            while start < len(self.best.steps) and not self.is_spent:
                kept = units(self.best)
                del kept[start : start + length]
                if not self._attempt(flatten(kept)):
                    start += length
            length //= 2

    def _lower_knobs(self) -> None:
        """Lower each integer knob of the scenario: to its minimum, or half-way there."""
        header = self.experiment.header
        for knob in self.experiment.scenario.knobs:
            value = header.parameters[knob.name]
            if knob.leaves_out:
                self._forget_missing(knob)
            elif isinstance(value, int) and not (knob.choices or knob.is_seed):
                for lower in dict.fromkeys((knob.least, (value + knob.least) // 2)):
                    if lower < value and self._attempt(self.best.schedule, self.experiment.with_knob(knob.name, lower)):
                        break

    def _forget_missing(self, knob: Knob) -> None:
        """Leave out no operation that the program would not have anyway."""
        value = knob.joined(one.number for one in self.best.stage.operations if one.is_left_out)
        if value != self.experiment.header.parameters[knob.name]:
            self._attempt(self.best.schedule, self.experiment.with_knob(knob.name, value))

    def _join_blocks(self) -> None:
        """Join the blocks of a preempted lane: continue it at once, or move the steps in between to later."""
        at = 0
        while at + 1 < len(self.best.steps) and not self.is_spent:
            if not (self.best.preempts(at) and self._join_block(at)):
                at += 1

    def _join_block(self, at: int) -> bool:
        """Try to undo the preemption after step *at*."""
        steps, chosen = self.best.steps, units(self.best)
        lane = steps[at].lane
        begin = next((place for place in range(at + 1, len(steps)) if steps[place].lane == lane), len(steps))
        end = next((place for place in range(begin, len(steps)) if steps[place].lane != lane), len(steps))
        before, between, own, after = chosen[: at + 1], chosen[at + 1 : begin], chosen[begin:end], chosen[end:]
        return any(
            self._attempt(flatten(schedule))
            for schedule in ([*before, *own, *between, *after], [*before, *own, *after], [*before, *after])
        )

    def _merge_blocks(self) -> None:
        """Swap independent neighbours so that each lane continues for as long as possible."""
        if len(self.best.steps) > LONGEST_ORDERED:
            return
        order = self.best.order()
        todo = dict(enumerate(units(self.best)))
        merged: list[list[Choice]] = []
        done, lane = 0, None
        while todo:
            ready = [number for number in todo if not order.past[number] & ~done]
            number = next((n for n in ready if todo[n][0] == lane), ready[0])
            done |= 1 << number
            lane = todo[number][0]
            merged.append(todo.pop(number))
        self._attempt(flatten(merged))


def reproduce(experiment: Experiment, schedule: Schedule, signature: str) -> tuple[Trace, bool]:
    """Reproduce a failing run from its schedule alone; also return whether this needs *controls_clock* of `Follow`.

    UsageError if the flaw needs the timing of the log (of the `clock` strategy), which a schedule does not contain.
    """
    for controls_clock in (False, True):
        trace = run_traced(experiment, Follow(schedule, controls_clock=controls_clock), signature)
        if trace.found is not None:
            return trace, controls_clock
    msg = f"{signature}: the choices of the log alone do not lead there; it needs the log's timing"
    raise UsageError(msg)


def units(trace: Trace) -> list[list[Choice]]:
    """The choices of each step: the lane, and the values chosen within the step."""
    return [step.choices for step in trace.steps]


def flatten(chosen: Iterator[list[Choice]] | list[list[Choice]]) -> Schedule:
    """The schedule that consists of these steps' choices."""
    return tuple(choice for unit in chosen for choice in unit)
