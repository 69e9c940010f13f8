"""Observers of a run, each with one purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.system.observer import Observer

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import EnabledSet, World
    from protocol.findings import Finding

FOUND = "found"
"""The world's stop reason when it has shown the wanted finding."""


class Labels(Observer):
    """An observer that collects the labels of all objects that requests name in the race."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._watches = False

    def phase(self, name: str) -> None:
        """Watch the race only, not the sequential set-up."""
        self._watches = name == "race"

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:  # noqa: ARG002 -- the protocol
        """Record the label of this step's target."""
        if self._watches and lane.request is not None and lane.request.target is not None:
            self.seen.add(lane.request.target.label)


class StopAt(Observer):
    """An observer that stops the world at the finding with this signature."""

    def __init__(self, world: World, signature: str) -> None:
        self._world = world
        self._signature = signature

    def finding(self, finding: Finding) -> None:
        """Stop if the signature matches."""
        if finding.signature == self._signature:
            self._world.stop(FOUND)
