"""Speed measurement: contestants in the same process take turns, and only their ratios count.

A machine is never quiet, and its noise is slow: another job takes the core for a second, the clock is throttled for a
minute. So every contestant does the same work once per round, in turn, and the order is reversed from round to round. A
ratio is taken within each round, where both sides had the same conditions; the figure is the median over the rounds.
Before the first round every contestant runs once, unmeasured, to warm up. As in `timeit`, the garbage collector is off
while the clock runs; it collects in between.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

import attrs

ROUNDS = 5

Contestant = Callable[[], int]
"""Does the work once, and returns its number of units (messages, steps, runs)."""


@attrs.frozen
class Race:
    """The rates of each contestant, in units per second, by round."""

    rates: Mapping[str, tuple[float, ...]]

    def rate(self, name: str) -> float:
        """The median rate of a contestant (units per second)."""
        return statistics.median(self.rates[name])

    def ratio(self, name: str, *others: str) -> float:
        """The speed of *name* relative to the fastest of *others*: the median over the rounds."""
        return statistics.median(
            mine / max(self.rates[other][number] for other in others) for number, mine in enumerate(self.rates[name])
        )


def race(contestants: Mapping[str, Contestant], *, rounds: int = ROUNDS) -> Race:
    """Let all *contestants* run once in each of *rounds*, after a warm-up."""
    for run in contestants.values():
        run()
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants.items())
    for _ in range(rounds):
        for name, run in order:
            rates[name].append(_rate_of(run))
        order.reverse()
    return Race({name: tuple(found) for name, found in rates.items()})


def how(rounds: int) -> str:
    """The note about the method, for figures of so many rounds."""
    return (
        f"medians of {rounds} rounds, contestants in turn; ratios are medians of the ratios within a round; "
        "the garbage collector is off while the clock runs"
    )


def _rate_of(run: Contestant) -> float:
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        started = time.perf_counter()
        units = run()
        return units / (time.perf_counter() - started)
    finally:
        if was_enabled:
            gc.enable()
