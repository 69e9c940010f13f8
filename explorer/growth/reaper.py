"""The walks of SLAB's reaper on one machine, and the flows that wait for them (KERNEL.md 4.8)."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import TYPE_CHECKING

import attrs

from actors.system.world import call_stack

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.system.flow import Flow

REAPER = "cache_reap"
LOCKING = frozenset({"mutex_lock"})


@attrs.frozen
class Waits:
    """The number and the durations (ns) of one kernel function's waits for slab_mutex while the reaper held it."""

    function: str
    count: int
    total: int
    longest: int


@attrs.frozen
class Walks:
    """The walks of a period; `visited` (caches) and `held` (slab_mutex, ns) are means over the last walk of each CPU.

    The figures are scaled to a real host, which has so many times the caches of the model; times are scaled alike.
    """

    passes: int
    visited: float
    held: float
    waits: tuple[Waits, ...]


@attrs.define(eq=False)
class ReaperWatch:
    """Records the waits for slab_mutex while the reaper holds it; `look` is called after every step."""

    machine: Machine
    _since: dict[Flow, tuple[int, str]] = attrs.field(factory=dict, init=False)
    _waited: dict[str, list[int]] = attrs.field(factory=lambda: defaultdict(list), init=False)

    def look(self, _flow: Flow) -> None:
        """Record the begin of new waits and the end of finished ones."""
        mutex = self.machine.slab_mutex
        if mutex.waiters and mutex.holder is not None:
            new = [flow for flow in mutex.waiters if flow not in self._since]
            if new and REAPER in (code.co_name for code in call_stack(mutex.holder)):
                self._since.update((flow, (self.machine.world.now, waiting_function(flow))) for flow in new)
        if self._since:
            for flow in [flow for flow in self._since if flow not in mutex.waiters]:
                began, function = self._since.pop(flow)
                self._waited[function].append(self.machine.world.now - began)

    def take(self, unit: int) -> Walks:
        """The walks since the last call, scaled to a host that is *unit* times larger."""
        reaps = tuple(self.machine.reaps)
        self.machine.reaps.clear()
        last = reaps[-len(self.machine.cpus) :]
        waits = tuple(
            Waits(function, len(times), sum(times) * unit, max(times) * unit)
            for function, times in sorted(self._waited.items())
        )
        self._waited.clear()
        return Walks(
            passes=len(reaps),
            visited=statistics.fmean(visited for _, _, visited in last) * unit if last else 0.0,
            held=statistics.fmean(end - start for start, end, _ in last) * unit if last else 0.0,
            waits=waits,
        )


def waiting_function(flow: Flow) -> str:
    """The kernel function that takes the lock."""
    return next((code.co_name for code in call_stack(flow) if code.co_name not in LOCKING), flow.name)
