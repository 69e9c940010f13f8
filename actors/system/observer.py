"""Observer: the base class of the recorder, of watches and of all other observers of a running world."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.system.flow import Flow
    from actors.system.lane import Lane
    from actors.system.world import EnabledSet, World
    from protocol.findings import Finding


class Observer:
    """Follows a run.

    It never chooses, and it changes nothing except by `World.stop`. Each method does nothing by default.
    """

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:
        """Before a step: *lane*, at *index* of the *enabled* lanes, was chosen."""

    def value(self, count: int, value: int) -> None:
        """Within a step: the environment chose *value* below *count*."""

    def moved(self, flow: Flow) -> None:
        """*flow* is on another CPU from now on."""

    def phase(self, name: str) -> None:
        """A phase of the scenario begins."""

    def finding(self, finding: Finding) -> None:
        """A finding was reported; its signature is new in this run."""
