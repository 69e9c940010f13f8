"""Observers of a run that look at one thing each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.system.observer import Observer

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import EnabledSet, World
    from protocol.findings import Finding

FOUND = "found"
"""Why a world stops that has shown the finding it was run for."""


class Labels(Observer):
    """An observer that remembers the labels of all objects that are asked for in the race."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._watches = False

    def phase(self, name: str) -> None:
        """Calm phases are none of the race."""
        self._watches = name == "race"

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:  # noqa: ARG002 -- the protocol
        """Remember the object that this step asks for."""
        if self._watches and lane.request is not None and lane.request.target is not None:
            self.seen.add(lane.request.target.label)


class StopAt(Observer):
    """An observer that stops the world at a finding with this signature."""

    def __init__(self, world: World, signature: str) -> None:
        self._world = world
        self._signature = signature

    def finding(self, finding: Finding) -> None:
        """Stop, if it is the one."""
        if finding.signature == self._signature:
            self._world.stop(FOUND)
