"""How much there is that a search has not seen: from how often it has seen what it has, and from how it came there.

The first two estimates are about draws: schedules that a strategy drew one like the other, whatever was seen before, so
that each schedule there is could have been drawn (`StrategyEntry.is_unbiased`). Those of an exact search are each of
another class on purpose, and those of a bounded or a selective walk leave some out; they say nothing about what is
unseen, but what they have shown is seen. Draws of several strategies are taken together: the estimates hold for them as
they are mixed, whatever the proportions. The third is about random walks only.

Good, "The Population Frequencies of Species and the Estimation of Population Parameters", Biometrika 1953 (the chance
that the next one is new); Chao, "Nonparametric Estimation of the Number of Classes in a Population", 1984 (how many
there are at least); Knuth, "Estimating the Efficiency of Backtrack Programs", Mathematics of Computation 1975 (how many
leaves a tree has).
"""

from __future__ import annotations

import math
from collections import Counter

import attrs


@attrs.define
class Sightings:
    """How often each trace class was seen, and how often by draws. `draws` are their numbers, by strategy."""

    total: int = 0
    draws: Counter[str] = attrs.field(factory=Counter)
    _times: Counter[str] = attrs.field(factory=Counter)
    _drawn: Counter[str] = attrs.field(factory=Counter)
    _frequencies: Counter[int] = attrs.field(factory=Counter)
    _once: int = 0

    def add(self, trace_class: str, drawn_by: str = "") -> None:
        """Count one more schedule. *drawn_by*: the strategy, if it is one whose schedules are draws."""
        times, drawn = self._times[trace_class], self._drawn[trace_class]
        self._times[trace_class] = times + 1
        self.total += 1
        if times == 1:
            self._once -= drawn
        if drawn_by:
            self.draws[drawn_by] += 1
            self._drawn[trace_class] = drawn + 1
            self._frequencies[drawn] -= 1
            self._frequencies[drawn + 1] += 1
            self._once += not times

    @property
    def classes(self) -> int:
        """How many classes were seen."""
        return len(self._times)

    @property
    def chance_of_new(self) -> float | None:
        """The chance that the next draw is of a class not seen yet (Good-Turing); None without draws.

        Of all draws, those whose class nothing else has shown.
        """
        draws = self.draws.total()
        return self._once / draws if draws else None

    @property
    def at_least_unseen(self) -> float | None:
        """A lower bound for the number of classes not seen yet; None without draws.

        Chao1 says how many there are at least besides those that were drawn; some of these were seen otherwise.
        """
        if not self.draws:
            return None
        once, twice = self._frequencies[1], self._frequencies[2]
        not_drawn = once * once / (2 * twice) if twice else once * (once - 1) / 2
        seen_otherwise = len(self._times) - len(self._drawn)
        return max(not_drawn - seen_otherwise, 0.0)


@attrs.define
class Probes:
    """How many schedules there are, from the numbers of alternatives that random walks had at each choice.

    A walk comes to a schedule with one over the product of these numbers, so the mean of the products estimates without
    bias how many there are; few walks are often far too low. A fault counts as a choice of two, however likely it is.
    """

    walks: int = 0
    _log10_sum: float = -math.inf

    def add(self, log10_product: float) -> None:
        """Take in one walk, by the decimal logarithm of its product: the products are too large for a float."""
        self.walks += 1
        low, high = sorted((self._log10_sum, log10_product))
        self._log10_sum = high + math.log10(1 + 10 ** (low - high))

    @property
    def log10_schedules(self) -> float | None:
        """The decimal logarithm of the mean; None before the first walk."""
        return self._log10_sum - math.log10(self.walks) if self.walks else None
