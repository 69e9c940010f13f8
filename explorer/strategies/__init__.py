"""Who steps next: strategies by name.

A name may have an argument after a colon: `pct:3`, `surw:memcg_kmem_wq_lock`. Each module is one algorithm; its
docstring says from which paper, with what guarantee, and where we depart from it.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from actors.system.strategy import Strategy
from explorer.strategies.pct import DEPTH, PriorityWalk
from explorer.strategies.pos import PartialOrderWalk
from explorer.strategies.sampling import Knowledge, Profile, seed_of
from explorer.strategies.simple import Clock, RandomWalk, RoundRobin
from explorer.strategies.surw import SelectiveWalk
from explorer.strategies.urw import UniformWalk
from protocol.errors import UsageError
from protocol.names import no_such

__all__ = ["STRATEGIES", "Knowledge", "Profile", "StrategyEntry", "find_strategy", "make_strategy", "seed_of"]


@attrs.frozen
class StrategyEntry:
    """One strategy: what it is, and how a schedule by it is made from a seed, the argument and what is known.

    `argument` says what may follow the colon; empty if nothing may. `learns`: it is of little use before one run has
    been learnt from. `is_unbiased`: its schedules are drawn, each one like the others and whatever they showed, and
    none is left out, so that how often they repeat each other says how much is unseen. Those with a bound leave out
    what lies beyond it, those that look at some steps only leave the others in one order.
    """

    name: str
    summary: str
    make: Callable[[int, str, Knowledge], Strategy]
    argument: str = ""
    learns: bool = False
    is_unbiased: bool = False


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
            "random",
            "each step is uniform over the enabled lanes",
            lambda seed, _, __: RandomWalk(seed),
            is_unbiased=True,
        ),
        StrategyEntry(
            "roundrobin", "lanes take turns; the seed says whose is first", lambda seed, _, __: RoundRobin(seed)
        ),
        StrategyEntry("clock", "by virtual time, with latencies from the seed", lambda seed, _, __: Clock(seed)),
        StrategyEntry(
            "urw",
            "uniform over interleavings; the lengths of the lanes are learnt",
            lambda seed, _, known: UniformWalk(seed, known),
            learns=True,
            is_unbiased=True,
        ),
        StrategyEntry(
            "surw",
            "uniform over the orders of lifecycle steps, or of those on objects named so; lengths are learnt",
            SelectiveWalk,
            argument="OBJECT",
            learns=True,
        ),
        StrategyEntry(
            "pos",
            "random priorities of steps, drawn anew for those that race with the one that happens",
            lambda seed, _, __: PartialOrderWalk(seed),
            is_unbiased=True,
        ),
        StrategyEntry(
            "pct",
            f"priorities with D-1 random changes (D is {DEPTH} if not given); the length of a run is learnt",
            lambda seed, depth, known: PriorityWalk(seed, _depth(depth), known),
            argument="D",
            learns=True,
        ),
    )
}
"""The strategies by name; `replay` is made from a log."""


def find_strategy(text: str) -> tuple[StrategyEntry, str]:
    """The strategy and the argument that *text* (NAME or NAME:ARGUMENT) means; UsageError names those there are."""
    name, _, argument = text.partition(":")
    entry = STRATEGIES.get(name)
    if entry is None:
        msg = f"--strategy {text}: {no_such('strategy', name, STRATEGIES)}"
        raise UsageError(msg)
    check_argument(text, entry.argument)
    entry.make(0, argument, Knowledge())  # an argument that it does not take is said now, not in the middle
    return entry, argument


def check_argument(text: str, takes: str) -> None:
    """UsageError if NAME:ARGUMENT has an argument and *takes* none, or a colon and no argument."""
    name, colon, argument = text.partition(":")
    if colon and not takes:
        msg = f"--strategy {text}: {name} takes no argument"
        raise UsageError(msg)
    if colon and not argument:
        msg = f"--strategy {text}: give {name}:{takes}, or {name} alone"
        raise UsageError(msg)


def make_strategy(text: str, seed: int, known: Knowledge | None = None) -> Strategy:
    """One schedule of the strategy that *text* means."""
    entry, argument = find_strategy(text)
    return entry.make(seed, argument, known or Knowledge())
