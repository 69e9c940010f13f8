"""Strategies by name, and the only parser of `--strategy` texts.

A name may have an argument after a colon: `pct:3`, `surw:memcg_kmem_wq_lock`, `dfs:delays=2`. The algorithms are in
`explorer.search.strategies`. Each is imported at its first use, so that commands can list all of them quickly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import attrs

from explorer.profile import Knowledge
from protocol.errors import UsageError
from protocol.names import no_such

if TYPE_CHECKING:
    from actors.system.strategy import Strategy
    from explorer.search.estimate import Sightings
    from explorer.search.protocol import Search
    from explorer.search.strategies.dfs import Dfs
    from protocol.records import CodeRecord

PCT_DEPTH = 3
"""Default depth of pct: the number of ordering constraints, one more than the number of priority changes."""

PORTFOLIO, GUIDED, DPOR = "portfolio", "guided", "dpor"


@attrs.frozen
class StrategyEntry:
    """A strategy by its name. `argument` describes the text after the colon; empty if none is allowed."""

    name: str
    summary: str
    argument: str = attrs.field(default="", kw_only=True)


@attrs.frozen
class Sampler(StrategyEntry):
    """A strategy that draws its schedules; `make` takes a seed, the argument and the run statistics.

    `learns`: it needs the run statistics of at least one run. `is_unbiased`: its schedules are independent draws from
    one distribution in which every schedule has a probability above zero, so that repeated classes say how much is
    unseen. A bounded strategy leaves out the schedules beyond its bound, and a selective one leaves the other steps in
    one order.
    """

    make: Callable[[int, str, Knowledge], Strategy]
    learns: bool = False
    is_unbiased: bool = False


@attrs.frozen
class ExactEntry(StrategyEntry):
    """A search that ends when all schedules were tried; `make` takes the argument (empty if not given)."""

    make: Callable[[str], Search]


def _random(seed: int, _argument: str, _known: Knowledge) -> Strategy:
    from explorer.search.strategies.simple import RandomWalk

    return RandomWalk(seed)


def _roundrobin(seed: int, _argument: str, _known: Knowledge) -> Strategy:
    from explorer.search.strategies.simple import RoundRobin

    return RoundRobin(seed)


def _clock(seed: int, _argument: str, _known: Knowledge) -> Strategy:
    from explorer.search.strategies.simple import Clock

    return Clock(seed)


def _urw(seed: int, _argument: str, known: Knowledge) -> Strategy:
    from explorer.search.strategies.urw import UniformWalk

    return UniformWalk(seed, known)


def _surw(seed: int, word: str, known: Knowledge) -> Strategy:
    from explorer.search.strategies.surw import SelectiveWalk

    return SelectiveWalk(seed, word, known)


def _pos(seed: int, _argument: str, _known: Knowledge) -> Strategy:
    from explorer.search.strategies.pos import PartialOrderWalk

    return PartialOrderWalk(seed)


def _pct(seed: int, depth: str, known: Knowledge) -> Strategy:
    from explorer.search.strategies.pct import PriorityWalk

    return PriorityWalk(seed, _depth(depth), known)


def _depth(text: str) -> int:
    if not text:
        return PCT_DEPTH
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100):
        msg = f"--strategy pct:{text}: give a depth from 1 to 100"
        raise UsageError(msg)
    return int(text)


def _dfs(text: str) -> Dfs:
    from explorer.search.strategies.dfs import Dfs

    match = re.fullmatch(r"(preemptions|delays)=([0-9]{1,3})", text)
    if text and match is None:
        msg = f"--strategy dfs:{text}: give dfs, dfs:preemptions=N or dfs:delays=N"
        raise UsageError(msg)
    return Dfs(**{match[1]: int(match[2])}) if match else Dfs()


def _dpor(_argument: str) -> Search:
    from explorer.search.strategies.dpor import Dpor

    return Dpor()


STRATEGIES: dict[str, Sampler] = {
    entry.name: entry
    for entry in (
        Sampler("random", "each step is uniform over the enabled lanes", _random, is_unbiased=True),
        Sampler("roundrobin", "lanes take turns; the seed says whose is first", _roundrobin),
        Sampler("clock", "by virtual time, with latencies from the seed", _clock),
        Sampler(
            "urw",
            "uniform over interleavings; the lengths of the lanes are learnt",
            _urw,
            learns=True,
            is_unbiased=True,
        ),
        Sampler(
            "surw",
            "uniform over the orders of lifecycle steps, or of those on objects named so; lengths are learnt",
            _surw,
            argument="OBJECT",
            learns=True,
        ),
        Sampler(
            "pos",
            "random priorities of steps, drawn anew for those that race with the one that happens",
            _pos,
            is_unbiased=True,
        ),
        Sampler(
            "pct",
            f"priorities with D-1 random changes (D is {PCT_DEPTH} if not given); the length of a run is learnt",
            _pct,
            argument="D",
            learns=True,
        ),
    )
}
"""The samplers by name; `replay` is not among them, as it needs a log."""

EXACT: dict[str, ExactEntry] = {
    entry.name: entry
    for entry in (
        ExactEntry(
            "dfs",
            "every schedule, or every one within a bound (dfs:preemptions=2, dfs:delays=2)",
            _dfs,
            argument="BOUND",
        ),
        ExactEntry(DPOR, "one schedule of each trace class: source sets and sleep sets", _dpor),
    )
}
"""The exact searches by name; only `explore` can use them."""

SEARCHES: dict[str, StrategyEntry] = {
    entry.name: entry
    for entry in (
        StrategyEntry(
            PORTFOLIO,
            "the samplers by yield, and an exact search if it seems to fit (explore's default): dpor, or dfs if an "
            "oracle or a property looks at several objects after each step; with one more sampler, if you name one",
            argument="SAMPLER",
        ),
        StrategyEntry(
            GUIDED,
            "the portfolio, with mutations of schedules that showed something new, aimed at orders that are missing",
        ),
        *STRATEGIES.values(),
        *EXACT.values(),
    )
}
"""All strategies of `explore`."""


@attrs.frozen
class ParsedStrategy:
    """A parsed strategy text: the `text`, its entry, the argument (empty if none was given), and a user's code."""

    text: str
    entry: StrategyEntry
    argument: str
    code: CodeRecord | None = None


def parse_strategy(
    text: str, known: Mapping[str, StrategyEntry] = SEARCHES, code: CodeRecord | None = None
) -> ParsedStrategy:
    """Parse *text* (NAME or NAME:ARGUMENT); UsageError, with the known names, if there is no such strategy.

    Strategies of the user's (`explorer.search.own`) are always accepted, except where only exact searches are.
    With *code* no file is read for them.
    """
    name, colon, argument = text.partition(":")
    entry = known.get(name)
    if entry is None and name not in SEARCHES and known is not EXACT:
        from explorer.search.own import find_own

        entry, argument, code = find_own(text, known, code)
        colon, name = ":" if argument else "", entry.name
    if entry is None:
        msg = f"--strategy {text}: {no_such('strategy', name, known)}"
        raise UsageError(msg)
    if colon and not entry.argument:
        msg = f"--strategy {text}: {name} takes no argument"
        raise UsageError(msg)
    if colon and not argument:
        msg = f"--strategy {text}: give {name}:{entry.argument}, or {name} alone"
        raise UsageError(msg)
    return ParsedStrategy(text, entry, argument, code)


def find_strategy(text: str, code: CodeRecord | None = None) -> tuple[Sampler, str]:
    """The sampler and the argument of *text*; UsageError, with the known names, if there is none."""
    named = parse_strategy(text, STRATEGIES, code)
    assert isinstance(named.entry, Sampler), "STRATEGIES has only samplers"
    return named.entry, named.argument


def make_strategy(text: str, seed: int, known: Knowledge | None = None, code: CodeRecord | None = None) -> Strategy:
    """A strategy for one schedule, by the sampler that *text* names; UsageError if its argument is wrong."""
    entry, argument = find_strategy(text, code)
    return entry.make(seed, argument, known or Knowledge())


def make_exact_search(text: str) -> Search:
    """The exact search that *text* names."""
    named = parse_strategy(text, EXACT)
    assert isinstance(named.entry, ExactEntry), "EXACT has only exact searches"
    return named.entry.make(named.argument)


def make_search(text: str, seed: int, sightings: Sightings, *, reduces: bool = True) -> Search:
    """The search that *text* names, for a campaign with the class counts *sightings*.

    If it *reduces*, the exact part of the portfolio runs one schedule of each trace class, otherwise every schedule.
    """
    from explorer.search.guided import Guide, Guided
    from explorer.search.portfolio import Portfolio, Samplers
    from explorer.search.sampling import Draws, Sampling

    named = parse_strategy(text)
    entry = named.entry
    if isinstance(entry, ExactEntry):
        return make_exact_search(text)
    if isinstance(entry, Sampler):
        return Sampling(text, Draws(seed))
    samplers = Guided(Guide(seed)) if entry.name == GUIDED else Samplers(seed, named.argument)
    return Portfolio(sightings, make_exact_search(DPOR if reduces else "dfs"), samplers)


def check_strategy(text: str) -> ParsedStrategy:
    """Parse *text*, and check its argument; UsageError if the strategy or the argument is wrong."""
    named = parse_strategy(text)
    if isinstance(named.entry, ExactEntry):
        make_exact_search(text)
    elif isinstance(named.entry, Sampler):
        named.entry.make(0, named.argument, Knowledge())
    elif named.argument:
        make_strategy(named.argument, 0)
    return named
