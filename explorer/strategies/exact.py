"""Searches that end when everything has been tried, by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from actors.system.strategy import Strategy
from explorer.replay import Divergence
from explorer.strategies import check_argument
from explorer.strategies.dfs import Dfs
from explorer.strategies.dpor import Dpor
from protocol.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.system.world import World
    from explorer.watch import Watch


class ExactSchedule(Strategy, Protocol):
    """One schedule of an exact search. `divergence`: where its first choices led to another state than before."""

    divergence: Divergence | None

    def end(self) -> None:
        """After the run: it must not have been over before all the choices were made that are known."""


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


@attrs.frozen
class ExactEntry:
    """One exact search: what it is, and how it is made from its argument (empty if not given)."""

    name: str
    summary: str
    make: Callable[[str], ExactSearch]
    argument: str = ""


def _bounded(text: str) -> Dfs:
    match = re.fullmatch(r"(preemptions|delays)=([0-9]{1,3})", text)
    if text and match is None:
        msg = f"--strategy dfs:{text}: give dfs, dfs:preemptions=N or dfs:delays=N"
        raise UsageError(msg)
    return Dfs(**{match[1]: int(match[2])}) if match else Dfs()


EXACT: dict[str, ExactEntry] = {
    entry.name: entry
    for entry in (
        ExactEntry(
            "dfs", "every schedule, or every one within a bound (dfs:preemptions=2, dfs:delays=2)", _bounded, "BOUND"
        ),
        ExactEntry("dpor", "one schedule of each trace class: source sets and sleep sets", lambda _: Dpor()),
    )
}
"""The exact searches by name; only `explore` can use them."""


def make_exact_search(text: str) -> ExactSearch:
    """The search that *text* (NAME or NAME:ARGUMENT) means."""
    name, _, argument = text.partition(":")
    entry = EXACT[name]
    check_argument(text, entry.argument)
    return entry.make(argument)
