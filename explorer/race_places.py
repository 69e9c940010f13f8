"""The places of racing operations in a schedule."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from actors.system.observer import Observer
from explorer.accesses import part_of
from protocol.operations import UPDATE, Access

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import EnabledSet, World
    from explorer.watch import RacingPair, Watch


class RacePlaces(Observer):
    """An observer of the race that finds, for each ordered pair of racing operations, its first two steps.

    The pairs are those of `Watch.racing_pairs`, and the places are those in the schedule of *watch*, which has to
    observe the run before this observer.
    """

    def __init__(self, watch: Watch) -> None:
        self.places: dict[RacingPair, tuple[int, int]] = {}
        self._watch = watch
        self._watches = False
        self._last: dict[Hashable, tuple[Lane, Access, tuple[str, str], int]] = {}

    def phase(self, name: str) -> None:
        """Watch the race only."""
        self._watches = name == "race"

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:  # noqa: ARG002 -- the protocol
        """Compare the request of *lane* with the last one for the same thing."""
        request = lane.request
        if not self._watches or request is None or request.target is None:
            return
        thing, mode = (request.target, part_of(request)), request.info.access
        site, place = (request.code.co_name, request.info.name), len(self._watch.schedule) - 1
        if thing in self._last:
            before, before_mode, before_site, before_place = self._last[thing]
            if before is not lane and (mode is UPDATE or before_mode is not mode):
                self.places.setdefault((before_site, site), (before_place, place))
        self._last[thing] = lane, mode, site, place
