"""Replay: the strategy that makes the choices of a log, and holds every record against it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from actors.system.lane import Lane
from protocol.log import LogReader, Names, Step, unpack

if TYPE_CHECKING:
    from actors.system.world import World

Record = list[Any]

_END, _MORE = "the end of the run", "the run goes on"
DEFINITIONS = frozenset({"lane", "set", "fn", "op", "owner"})


@attrs.frozen
class Divergence:
    """Where a replay left its log: the step, and what was recorded then and what happens now."""

    step: int
    then: str
    now: str


class Replay:
    """Makes the recorded choices. `verify` is the sink of the replaying run's recorder.

    The first record that differs is kept in `divergence` and stops the world; so does the end of the log, or
    `until` steps.
    """

    name = "replay"
    keeps_time = True
    follows_a_log = True

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
        """Go to the recorded time of the next step, or stop where the log (or the user) does."""
        self._world = world
        record = self._next_step()
        if record is not None and self._steps != self._until:
            self._time += record[0]
            world.now = max(world.now, self._time)
            world.fire_timers()
        elif self._steps == self._until:
            world.stop("until")
        elif world.mask or world.let_time_pass():
            world.stop("log ended")
            if self._is_whole():
                self._diverge([_END], [_MORE])

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        record = self._next_step()
        self._steps += 1
        assert record is not None, "advance() stops a world whose log has no further step"
        index: int = record[2]
        return min(index, len(lanes) - 1)

    def choose_value(self, count: int) -> int:
        if not self._ahead:
            self._read_ahead(lambda _record: True)
        value = next((record[2] for _, record in self._ahead if record[0] == "value"), 0)
        return min(value, count - 1)

    def choose_fault(self, _probability: float) -> bool:
        return self.choose_value(2) == 1

    def draw_latency(self, _low: int, _high: int) -> int:
        return 0

    # -- holding the run against the log ------------------------------------------------------------------------------

    def verify(self, payload: bytes) -> None:
        """Compare what the replaying run records with what the log says."""
        if self.divergence is not None:
            return
        if not self._ahead and self._read_ahead(lambda _record: True) is None:
            self._check_nothing_new(payload)
            return
        then, record = self._ahead.popleft()
        if then != payload:
            self._diverge(record, unpack(payload))
        self._names.learn(record)
        self._names_now.learn(record)

    def finish(self, digest: str) -> None:
        """The run is over: anything left in the log has not happened again, and a whole log says what it comes to."""
        if self.divergence is not None:
            return
        footer = self._log.footer
        if self._ahead or self._read_ahead(lambda _record: True):
            self._diverge(self._ahead[0][1], [_END])
        elif footer is not None and footer.digest != digest:
            self._diverge(["digest", footer.digest], ["digest", digest])

    def _check_nothing_new(self, payload: bytes) -> None:
        """A log that was cut off has nothing to say about what comes after it; a whole one has."""
        if self._is_whole():
            self._diverge([_END], unpack(payload))

    def _is_whole(self) -> bool:
        """Whether the log goes to the end of its run; only then nothing may come after its last record."""
        footer = self._log.footer
        return footer is not None and footer.outcome != "interrupted"

    def _next_step(self) -> Record | None:
        """The record of the next step; everything before it stays for `verify`."""
        for _, record in self._ahead:
            if isinstance(record[0], int):
                return record
        return self._read_ahead(lambda record: isinstance(record[0], int))

    def _read_ahead(self, wanted: Callable[[Record], bool]) -> Record | None:
        for payload, record in self._records:
            self._ahead.append((payload, record))
            if wanted(record):
                return record
        return None

    def _diverge(self, then: Record, now: Record) -> None:
        step = max(self._steps - 1, 0)
        self._names_now.learn(now)
        if then[0] in DEFINITIONS:
            then = self._step_of(then)
        now_text = describe_record(self._names_now, now)
        if now[0] != _END and (isinstance(then[0], int) or now[0] in DEFINITIONS):
            assert self._world is not None
            now_text += f"; enabled now: {', '.join(lane.name for lane in self._world.enabled_lanes())}"
        self.divergence = Divergence(step, describe_record(self._names, then), now_text)
        if self._world is not None:
            self._world.stop("diverged")

    def _step_of(self, definition: Record) -> Record:
        """The step that *definition* was made for: definitions come just before it."""
        self._names.learn(definition)
        step = self._next_step()
        for _, record in self._ahead:
            self._names.learn(record)
        return definition if step is None else step


def describe_record(names: Names, record: Record) -> str:
    """A record in words, for someone who asks why a replay left its log; as it is if its numbers mean nothing here."""
    try:
        return _in_words(names, record)
    except (LookupError, TypeError):
        return str(record)


def _in_words(names: Names, record: Record) -> str:
    match record:
        case [int(), *_]:
            step = Step(*record)
            return (
                f"{names.lane(step)[0]} in {names.functions[step.function]}: {names.operations[step.operation][0]}"
                f" of {names.owners[step.owner] or 'its own CPU'} at +{step.dt} ns;"
                f" enabled: {', '.join(names.enabled(step))}"
            )
        case ["set", _, lanes]:
            return f"enabled: {', '.join(names.lanes[number][0] for number in lanes)}"
        case ["finding", finding]:
            return f"finding {finding['kind']}: {finding['message']}"
        case [tag, *fields]:
            return " ".join(map(str, [tag, *fields]))
    return str(record)
