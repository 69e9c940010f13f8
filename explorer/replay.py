"""Replay: a strategy that makes the choices of a log, and compares every record of the run with the log's."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeGuard

import attrs
import msgspec

from actors.system.lane import Lane
from actors.system.strategy import Strategy
from protocol.log import LogReader
from protocol.records import (
    DEFINITIONS,
    Definition,
    FindingRecord,
    Names,
    Record,
    SetRecord,
    Step,
    ValueRecord,
    decode,
)

if TYPE_CHECKING:
    from actors.system.world import World

THE_END = "the end of the run"


@attrs.frozen
class Divergence:
    """The first difference between a replay and its log: the step, the recorded event and the present one."""

    step: int
    then: str
    now: str


class Replay(Strategy):
    """Makes the recorded choices. `verify` is the sink of the replaying run's recorder.

    The first record that differs is stored in `divergence`, and stops the world. The world also stops at the end of the
    log, or after `until` steps.
    """

    name = "replay"
    controls_clock = True
    is_replay = True

    def __init__(self, log: LogReader, *, until: int | None = None) -> None:
        self.divergence: Divergence | None = None
        self._log = log
        self._records: Iterator[tuple[bytes, Record]] = log.records()
        self._ahead: deque[tuple[bytes, Record]] = deque()
        self._names = Names()
        self._names_now = Names()
        self._until = until
        self._steps = 0
        self._time = 0
        self._world: World | None = None

    # -- the strategy -------------------------------------------------------------------------------------------------

    def advance(self, world: World) -> None:
        """Go to the recorded time of the next step; stop at the end of the log, or at step `until`."""
        self._world = world
        if self.divergence is not None:  # before the first step
            world.stop("diverged")
            return
        record = self._next_step()
        if record is not None and self._steps != self._until:
            self._time += record.dt
            world.now = max(world.now, self._time)
            world.fire_timers()
        elif self._steps == self._until:
            world.stop("until")
        elif world.mask or world.let_time_pass():
            world.stop("log ended")
            if self._is_whole():
                self._part(THE_END, "the run goes on")

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        record = self._next_step()
        self._steps += 1
        assert record is not None, "advance() stops a world whose log has no further step"
        return min(record.index, len(lanes) - 1)

    def choose_value(self, count: int) -> int:
        if not self._ahead:
            self._read_record()
        value = next((record.value for _, record in self._ahead if isinstance(record, ValueRecord)), 0)
        return min(value, count - 1)

    # -- comparing the run with the log -------------------------------------------------------------------------------

    def verify(self, payload: bytes) -> None:
        """Compare a record of the replaying run with the log's next record."""
        if self.divergence is not None:
            return
        if not self._ahead and not self._read_record():
            self._check_nothing_new(payload)
            return
        then, record = self._ahead.popleft()
        if then != payload:
            self._diverge(record, decode(payload))
            return
        self._names.learn(record)
        self._names_now.learn(record)

    def finish(self, digest: str) -> None:
        """Check the end of the run: no record may be left in the log, and the digest has to equal the footer's."""
        if self.divergence is not None:
            return
        footer = self._log.footer
        if self._ahead or self._read_record():
            self._diverge(self._ahead.popleft()[1], None)
        elif footer is not None and footer.digest != digest:
            self._part(f"digest {footer.digest}", f"digest {digest}")

    def _check_nothing_new(self, payload: bytes) -> None:
        """Report a record after the end of a complete log; a log that was cut off allows further records."""
        if self._is_whole():
            self._diverge(None, decode(payload))

    def _is_whole(self) -> bool:
        """Whether the log reaches the end of its run; if so, no record may follow its last one.

        A log that was made to show a finding ends at the finding.
        """
        footer = self._log.footer
        return footer is not None and footer.outcome != "interrupted" and not self._log.header.shows

    def _next_step(self) -> Step | None:
        """The record of the next step; the records before it stay queued for `verify`."""
        step = next((record for _, record in self._ahead if isinstance(record, Step)), None)
        while step is None and self._read_record():
            record = self._ahead[-1][1]
            step = record if isinstance(record, Step) else None
        return step

    def _read_record(self) -> bool:
        """Read one more record of the log; False if there is none."""
        entry = next(self._records, None)
        if entry is not None:
            self._ahead.append(entry)
        return entry is not None

    def _diverge(self, then: Record | None, now: Record | None) -> None:
        """Set the divergence: the recorded and the present record; None is the end of the run."""
        if now is not None:
            self._names_now.learn(now)
        if is_definition(then):
            then = self._step_of(then)
        now_text = in_words(self._names_now, now)
        if now is not None and self._world is not None and (isinstance(then, Step) or is_definition(now)):
            now_text += f"; enabled now: {', '.join(lane.name for lane in self._world.enabled_lanes())}"
        self._part(in_words(self._names, then), now_text)

    def _part(self, then: str, now: str) -> None:
        self.divergence = Divergence(max(self._steps - 1, 0), then, now)
        if self._world is not None:
            self._world.stop("diverged")

    def _step_of(self, definition: Definition) -> Record:
        """The step that *definition* belongs to: definitions come just before their step."""
        self._names.learn(definition)
        step = self._next_step()
        for _, record in self._ahead:
            self._names.learn(record)
        return definition if step is None else step


def is_definition(record: Record | None) -> TypeGuard[Definition]:
    """Whether a record defines the meaning of a number."""
    return isinstance(record, DEFINITIONS)


def in_words(names: Names, record: Record | None) -> str:
    """A record in words, for reports of a divergence; None is the end of the run."""
    match record:
        case None:
            return THE_END
        case Step():
            return (
                f"{names.lane(record).name} in {names.functions[record.function]}: "
                f"{names.operations[record.operation][0]} of {names.owners[record.owner] or 'its own CPU'} "
                f"at +{record.dt} ns; enabled: {', '.join(names.enabled(record))}"
            )
        case SetRecord():
            return f"enabled: {', '.join(names.lanes[number].name for number in record.lanes)}"
        case FindingRecord():
            return f"finding {record.finding.kind}: {record.finding.message}"
    return " ".join(map(str, msgspec.to_builtins(record)))
