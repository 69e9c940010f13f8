"""Who steps next: strategies by name, and searches that make schedule after schedule with them.

A name may have an argument after a colon: `pct:3`, `surw:memcg_kmem_wq_lock`. Each module is one algorithm; its docstring
says from which paper, with what guarantee, and where we depart from it.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from actors.system.strategy import Strategy
from explorer.strategies.pct import DEPTH, Pct
from explorer.strategies.pos import Pos
from explorer.strategies.sampling import Sampler, Search
from explorer.strategies.simple import Clock, RandomWalk, RoundRobin
from explorer.strategies.surw import Surw
from explorer.strategies.urw import Urw
from protocol.errors import UsageError

__all__ = ["STRATEGIES", "Search", "StrategyEntry", "make_search", "make_strategy"]


@attrs.frozen
class StrategyEntry:
    """One strategy: what it is, and how a search with it is made from a seed and the argument (empty if not given).

    `argument` says what may follow the colon; empty if nothing may.
    """

    name: str
    summary: str
    make: Callable[[int, str], Search]
    argument: str = ""


def _depth(text: str) -> int:
    if not text:
        return DEPTH
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100):
        msg = f"--strategy pct:{text}: give a depth from 1 to 100"
        raise UsageError(msg)
    return int(text)


STRATEGIES: dict[str, StrategyEntry] = {
    entry.name: entry
    for entry in (
        StrategyEntry(
            "random", "each step is uniform over the enabled lanes", lambda seed, _: Sampler(RandomWalk, seed)
        ),
        StrategyEntry(
            "roundrobin", "lanes take turns; the seed says whose is first", lambda seed, _: Sampler(RoundRobin, seed)
        ),
        StrategyEntry("clock", "by virtual time, with latencies from the seed", lambda seed, _: Sampler(Clock, seed)),
        StrategyEntry("urw", Urw.__doc__ or "", lambda seed, _: Urw(seed)),
        StrategyEntry("surw", Surw.__doc__ or "", lambda seed, word: Surw(seed, word), "OBJECT"),
        StrategyEntry("pos", Pos.__doc__ or "", lambda seed, _: Pos(seed)),
        StrategyEntry("pct", Pct.__doc__ or "", lambda seed, depth: Pct(seed, _depth(depth)), "D"),
    )
}
"""The strategies by name; `replay` is made from a log."""


def make_search(text: str, seed: int) -> Search:
    """The search that *text* (NAME or NAME:ARGUMENT) means; UsageError names those there are."""
    name, colon, argument = text.partition(":")
    entry = STRATEGIES.get(name)
    if entry is None:
        msg = f"--strategy {text}: there is no such strategy; there are {', '.join(STRATEGIES)}"
        raise UsageError(msg)
    if colon and not entry.argument:
        msg = f"--strategy {text}: {name} takes no argument"
        raise UsageError(msg)
    return entry.make(seed, argument)


def make_strategy(text: str, seed: int) -> Strategy:
    """The first strategy of that search, for a single run."""
    strategy = make_search(text, seed).next_schedule()
    assert strategy is not None, "a search has at least one schedule"
    return strategy
