"""Strategies of the user's: how they are declared, and how a text names them.

    @strategy("stubborn", "stays with a lane for N steps at a time", argument="N")
    class Stubborn(Strategy):
        def __init__(self, seed: int, argument: str, known: Knowledge) -> None: ...

A strategy object makes the choices of one schedule; a search makes one object from each seed.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any

import attrs

from actors.system.lane import Lane
from actors.system.strategy import Strategy
from actors.system.world import World
from actors.versions.patch_rules import STRATEGY_GUARDS, guarded
from actors.versions.user_code import check_declared, is_line, parse_reference
from explorer.blame import Blame
from explorer.profile import Knowledge
from explorer.references import ReferenceKind, Resolved, entry_points, find_by_name, load, name_code
from explorer.search.registry import SEARCHES, STRATEGIES, Sampler
from protocol.blame import SLABRACE, in_words, places_of
from protocol.errors import UsageError
from protocol.names import no_such
from protocol.records import CodeRecord

Make = Callable[[int, str, Knowledge], Strategy]

STRATEGY = ReferenceKind(
    "strategy",
    "strategies",
    Sampler,
    lambda entry: entry.make,
    lambda: STRATEGIES,
    option="--strategy ",
    change=guarded,
    names=STRATEGY_GUARDS,
)


def strategy(name: str, summary: str, *, argument: str = "", learns: bool = False) -> Callable[[Make], Sampler]:
    """Declare a strategy: a class, or a function that makes one, from a seed, an argument and run statistics.

    *argument* describes the text that may follow the name after a colon; empty if none may. A strategy that *learns*
    gets the lengths of lanes and runs, from a first run and from all later ones.
    """

    def declare(make: Make) -> Sampler:
        check_declared("strategy", name, summary, make, 0, "argument", "known")
        lacks = ", ".join(sorted(getattr(make, "__abstractmethods__", ())))
        if lacks:
            msg = f"the strategy {name} lacks {lacks}"
            raise TypeError(msg)
        if not is_line(argument) or type(learns) is not bool:
            msg = f"the strategy {name} has an argument that is one line of printable text, and learns=True or False"
            raise TypeError(msg)
        return Sampler(name, summary, make, learns, argument=argument)

    return declare


def find_own(text: str, known: Iterable[str], code: CodeRecord | None = None) -> tuple[Sampler, str, CodeRecord | None]:
    """The user's strategy that *text* names (`FILE[:NAME][:ARGUMENT]`, or an installed name), its argument, its code.

    With *code* the file is not read: all schedules of a search run one text, in every worker, though the file changes.
    """
    named = parse_reference(text, SEARCHES)
    if not named.file:
        name, _, argument = text.partition(":")
        installed = entry_points(STRATEGY)
        if not any(point.name == name for point in installed):
            known_by_now = [*known, *(point.name for point in installed)]
            msg = f"--strategy {text}: {no_such('strategy', name, known_by_now)}"
            raise UsageError(msg)
        return _installed(name), argument, None
    member, _, argument = named.member.partition(":")
    record = code or name_code(STRATEGY, f"{named.file}:{member}" if member else named.file)
    return _of_a_file(record), argument, record


@functools.lru_cache(maxsize=16)
def _of_a_file(record: CodeRecord) -> Sampler:
    """The strategy in that text; cached, because a search needs it again for every schedule."""
    return _checked(load(STRATEGY, record))


@functools.lru_cache(maxsize=16)
def _installed(name: str) -> Sampler:
    return _checked(find_by_name(STRATEGY, name))


def _checked(found: Resolved[Sampler]) -> Sampler:
    """The strategy, wrapped so that its errors are attributed to the user's code."""
    (entry,) = found.things
    name = entry.name if found.code is None else f"{PurePath(found.code.path).name}:{entry.name}"

    def make(seed: int, argument: str, known: Knowledge) -> Strategy:
        with Blame((), found.files):
            made: object = entry.make(seed, argument, known)
            if not isinstance(made, Strategy):
                msg = f"--strategy {name}: it makes an object of type {type(made).__name__}, not a Strategy"
                raise UsageError(msg)
            return Checked(name, made)

    return attrs.evolve(entry, name=name, make=make)


class Checked(Strategy):
    """Delegates every choice to the user's strategy; an impossible choice, or an error in it, is the user's."""

    def __init__(self, name: str, strategy: Strategy) -> None:
        self.name = name
        self.strategy = strategy
        for method in ("advance", "choose", "choose_value", "choose_fault", "draw_latency"):
            if inspect.iscoroutinefunction(getattr(strategy, method)):
                raise self._error(method, "is declared with 'async def'; it has to be 'def'")
        clock: object = strategy.controls_clock
        if not isinstance(clock, bool):
            msg = f"--strategy {name}: controls_clock is a {type(clock).__name__}; it has to be True or False"
            raise UsageError(msg)
        self.controls_clock = clock

    def advance(self, world: World) -> None:
        """Delegate to the other strategy."""
        self._ask("advance", world)

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Delegate to the other strategy, and check the index."""
        return self._within(0, len(lanes) - 1, "choose", self._ask("choose", lanes))

    def choose_value(self, count: int) -> int:
        """Delegate to the other strategy, and check the value."""
        return self._within(0, count - 1, "choose_value", self._ask("choose_value", count))

    def choose_fault(self, probability: float) -> bool:
        """Delegate to the other strategy."""
        return bool(self._ask("choose_fault", probability))

    def draw_latency(self, low: int, high: int) -> int:
        """Delegate to the other strategy, and check the time."""
        value = self._ask("draw_latency", low, high)
        return self._within(0 if value == 0 else low, high, "draw_latency", value)

    def _within(self, least: int, most: int, method: str, value: object) -> int:
        if type(value) is int and least <= value <= most:
            return value
        raise self._error(method, f"returned {value!r:.40}, where {least} to {most} is allowed")

    def _error(self, method: str, text: str) -> UsageError:
        """The error of a method, with its place if it is the user's."""
        code: types.CodeType | None = getattr(getattr(self.strategy, method), "__code__", None)
        where = f"--strategy {self.name}"
        if code is not None and not code.co_filename.startswith(SLABRACE):
            where = f"{code.co_filename}, line {code.co_firstlineno}"
        return UsageError(f"{where}: {method}() {text}")

    def _ask(self, method: str, *arguments: object) -> Any:
        """Call *method*. An error in slabrace's part of the strategy is due to the user's part, too."""
        try:
            return getattr(self.strategy, method)(*arguments)
        except (AttributeError, TypeError) as error:
            if not places_of(error)[-1][0].startswith(SLABRACE):
                raise
            hint = "; is super().__init__() called?" if isinstance(error, AttributeError) else ""
            raise self._error(method, f"fails: {in_words(error)}{hint}") from None
