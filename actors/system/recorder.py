"""The recorder turns the events of a world into log payloads, and into the digest of a run.

It observes; it neither chooses nor changes. A name gets a small number when it first occurs, and its definition
precedes that use in the log. The number is kept on the named object, so a machine that frees its caches also frees the
memory of their names. The digest covers every payload between header and footer. The same schedule on the same kernel
gives the same digest under either driver.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgpack
import msgspec

from actors.system.flow import Flow
from actors.system.observer import Observer
from protocol.messages import MAIL
from protocol.records import STEP_BYTE, new_digest

if TYPE_CHECKING:
    from actors.system.actor import Shared
    from actors.system.lane import Lane
    from actors.system.world import EnabledSet, World
    from protocol.findings import Finding
    from protocol.operations import OperationInfo

TAIL_STEPS = 24
_BATCH = 512
_SMALL = 0x80  # msgpack writes numbers below this as themselves, one byte each
_pack_small = struct.Struct("7B").pack


class Recorder(Observer):
    """Numbers names, packs payloads, sends them to `sink` (a log, a verifier, or None) and digests them.

    `last` is the virtual time of the last step recorded (ns).
    """

    def __init__(
        self,
        sink: Callable[[bytes], None] | None = None,
        *,
        learn: Callable[[bytes], None] | None = None,
        on_finding: Callable[[], None] | None = None,
        on_batch: Callable[[], None] | None = None,
    ) -> None:
        """*learn* gets all records but steps; *on_finding* is called after the record of each finding.

        *on_batch* is called every 512 records, for work too slow to do per step (progress display).
        """
        self.sink = sink
        self._learn = learn
        self._on_finding = on_finding
        self._on_batch = on_batch
        self.last = 0
        self._pack: Callable[[Any], bytes] = msgpack.Packer().pack
        self._hash = new_digest()
        self._batch: list[bytes] = []
        self._before_batch: list[bytes] = []
        self._functions: dict[str, int] = {}
        self._operations: dict[OperationInfo, int] = {}
        self._sets = itertools.count()
        self._lanes = itertools.count()
        self._owners = itertools.count(1)

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:
        """Record that *lane*, at *index* of the enabled set, steps now."""
        if enabled.number < 0:
            self._define_set(enabled)
        request = lane.request
        if request is not None:
            name, info, target = request.code.co_name, request.info, request.target
        else:
            name, info, target = lane.coro.__name__, MAIL, None  # type: ignore[union-attr]  # an actor has it
        try:
            function, operation = self._functions[name], self._operations[info]
        except KeyError:
            function, operation = self._define_function(name), self._define_operation(info)
        owner = 0
        if target is not None:
            owner = target.number
            if owner < 0:
                owner = self._define_owner(target)
        now = world.now
        dt = now - self.last
        self.last = now
        number = enabled.number
        if dt | number | index | function | operation | owner < _SMALL:
            payload = _pack_small(STEP_BYTE, dt, number, index, function, operation, owner)
        else:
            payload = self._pack((dt, number, index, function, operation, owner))
        self._batch.append(payload)
        if len(self._batch) >= _BATCH:
            self._end_batch()
        if self.sink is not None:
            self.sink(payload)

    def value(self, count: int, value: int) -> None:
        """Record that the environment chose *value* out of *count* within the step just recorded."""
        self._emit(("value", count, value))

    def moved(self, flow: Flow) -> None:
        """Record that *flow* is on another CPU from now on."""
        if flow.number >= 0:
            self._emit(("moved", flow.number, flow.cpu.id if flow.cpu else None))

    def phase(self, name: str) -> None:
        """Record that a phase of the scenario begins."""
        self._emit(("phase", name))

    def finding(self, finding: Finding) -> None:
        """Record a finding, whose signature is new in this run."""
        self._emit(("finding", msgspec.to_builtins(finding)))
        if self._on_finding is not None:
            self._on_finding()

    def digest(self) -> str:
        """The digest of everything recorded so far, in hexadecimal."""
        self._absorb()
        return self._hash.hexdigest()

    def last_steps(self) -> list[bytes]:
        """The payloads of the last `TAIL_STEPS` steps, newest first."""
        newest_first = itertools.chain(reversed(self._batch), self._before_batch)
        steps = (payload for payload in newest_first if payload[0] == STEP_BYTE)
        return list(itertools.islice(steps, TAIL_STEPS))

    def _emit(self, record: tuple[Any, ...]) -> None:
        payload = self._pack(record)
        self._batch.append(payload)
        if len(self._batch) >= _BATCH:
            self._end_batch()
        if self._learn is not None:
            self._learn(payload)
        if self.sink is not None:
            self.sink(payload)

    def _end_batch(self) -> None:
        self._absorb()
        if self._on_batch is not None:
            self._on_batch()

    def _absorb(self) -> None:
        self._before_batch = self.last_steps()
        self._hash.update(b"".join(self._batch))
        self._batch.clear()

    def _define_set(self, enabled: EnabledSet) -> None:
        for lane in enabled.lanes:
            if lane.number < 0:
                self._define_lane(lane)
        enabled.number = next(self._sets)
        self._emit(("set", enabled.number, [lane.number for lane in enabled.lanes]))

    def _define_lane(self, lane: Lane) -> None:
        lane.number = next(self._lanes)
        kind, cpu = (lane.kind.value, lane.cpu and lane.cpu.id) if isinstance(lane, Flow) else ("A", None)
        self._emit(("lane", lane.number, lane.name, kind, cpu))

    def _define_function(self, name: str) -> int:
        if name not in self._functions:
            number = self._functions[name] = len(self._functions)
            self._emit(("fn", number, name))
        return self._functions[name]

    def _define_operation(self, info: OperationInfo) -> int:
        if info not in self._operations:
            number = self._operations[info] = len(self._operations)
            self._emit(("op", number, info.name, info.access.name.lower()))
        return self._operations[info]

    def _define_owner(self, target: Shared) -> int:
        target.number = next(self._owners)
        self._emit(("owner", target.number, target.label))
        return target.number
