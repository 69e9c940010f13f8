"""The recorder turns what the world does into log payloads, and into the digest of a run.

It observes; it neither chooses nor changes. Names are given small numbers when they first occur (kept on the objects
themselves, so that a machine that frees its caches also forgets their names), and defined in the log just before.
The digest covers every payload between header and footer: same schedule and same kernel, same digest,
whatever the driver.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import msgpack

from actors.system.actor import MAIL
from actors.system.flow import Flow

if TYPE_CHECKING:
    import types

    from actors.system.actor import Shared
    from actors.system.lane import Lane
    from actors.system.world import EnabledSet, World
    from protocol.findings import Finding
    from protocol.operations import OperationInfo

DIGEST_BYTES = 16
_BATCH = 512


class Recorder:
    """Numbers names, packs payloads, hands them to `sink` (a log, a verifier, or nobody) and digests them."""

    def __init__(
        self,
        sink: Callable[[bytes], None] | None = None,
        *,
        on_batch: Callable[[], None] | None = None,
    ) -> None:
        """*on_batch* is called every few hundred records: a place for progress that costs a step nothing."""
        self.sink = sink
        self._on_batch = on_batch
        self._pack: Callable[[Any], bytes] = msgpack.Packer().pack
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._batch: list[bytes] = []
        self._last = 0
        self._functions: dict[types.CodeType, int] = {}
        self._function_names: dict[str, int] = {}
        self._operations: dict[OperationInfo, int] = {}
        self._sets = itertools.count()
        self._lanes = itertools.count()
        self._owners = itertools.count(1)

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:
        """Record that *lane*, the one at *index* of the enabled set, steps now."""
        if enabled.number < 0:
            self._define_set(enabled)
        target = None
        if isinstance(lane, Flow):
            request = lane.request
            code, info, target = request.code, request.info, request.target
        else:
            code, info = lane.coro.cr_code, MAIL  # type: ignore[union-attr]  # an actor has its coroutine
        function = self._functions.get(code)
        if function is None:
            function = self._define_function(code)
        operation = self._operations.get(info)
        if operation is None:
            operation = self._define_operation(info)
        owner = 0
        if target is not None:
            owner = target.number
            if owner < 0:
                owner = self._define_owner(target)
        now = world.now
        self._emit(self._pack((now - self._last, enabled.number, index, function, operation, owner)))
        self._last = now

    def value(self, count: int, value: int) -> None:
        """Record that the environment chose *value* out of *count* within the step just recorded."""
        self._emit(self._pack(("value", count, value)))

    def moved(self, flow: Flow) -> None:
        """Record that *flow* is on another CPU from now on."""
        if flow.number >= 0:
            self._emit(self._pack(("moved", flow.number, flow.cpu.id if flow.cpu else None)))

    def phase(self, name: str) -> None:
        """Record that a phase of the scenario begins."""
        self._emit(self._pack(("phase", name)))

    def finding(self, finding: Finding) -> None:
        """Record a finding when its signature is first seen."""
        self._emit(self._pack(("finding", attrs.asdict(finding))))

    def digest(self) -> str:
        """The digest of everything recorded so far, in hexadecimal."""
        self._absorb()
        return self._hash.hexdigest()

    def _emit(self, payload: bytes) -> None:
        self._batch.append(payload)
        if len(self._batch) >= _BATCH:
            self._absorb()
            if self._on_batch is not None:
                self._on_batch()
        if self.sink is not None:
            self.sink(payload)

    def _absorb(self) -> None:
        self._hash.update(b"".join(self._batch))
        self._batch.clear()

    def _define_set(self, enabled: EnabledSet) -> None:
        for lane in enabled.lanes:
            if lane.number < 0:
                self._define_lane(lane)
        enabled.number = next(self._sets)
        self._emit(self._pack(("set", enabled.number, [lane.number for lane in enabled.lanes])))

    def _define_lane(self, lane: Lane) -> None:
        lane.number = next(self._lanes)
        kind, cpu = (lane.kind.value, lane.cpu and lane.cpu.id) if isinstance(lane, Flow) else ("A", None)
        self._emit(self._pack(("lane", lane.number, lane.name, kind, cpu)))

    def _define_function(self, code: types.CodeType) -> int:
        name = code.co_name
        number = self._function_names.get(name)
        if number is None:
            number = self._function_names[name] = len(self._function_names)
            self._emit(self._pack(("fn", number, name)))
        self._functions[code] = number
        return number

    def _define_operation(self, info: OperationInfo) -> int:
        number = self._operations[info] = len(self._operations)
        self._emit(self._pack(("op", number, info.name, info.access.value)))
        return number

    def _define_owner(self, target: Shared) -> int:
        target.number = next(self._owners)
        self._emit(self._pack(("owner", target.number, target.label)))
        return target.number
