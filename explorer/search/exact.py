"""What a search that ends when everything has been tried can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from actors.system.world import World
    from explorer.watch import Watch


class ExactSearch(Protocol):
    """Schedule after schedule until none is left. Each must be run to its end, and learnt from, before the next.

    One that has diverged is not learnt from: the search is over then.
    """

    def next_schedule(self) -> Any:
        """The strategy of the next schedule; None when there is none left."""

    def watch(self, schedule: Any, watch: Watch) -> None:
        """Before the run: what will know what each step accesses."""

    def learn(self, schedule: Any, world: World) -> None:
        """After the run."""
