"""How much there is that a search has not seen: from how often it has seen what it has, and from how it came there.

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
    """How often each trace class was seen."""

    total: int = 0
    _times: Counter[str] = attrs.field(factory=Counter)
    _frequencies: Counter[int] = attrs.field(factory=Counter)

    def add(self, trace_class: str) -> bool:
        """Count one more schedule; return whether its class is new."""
        times = self._times[trace_class]
        self._times[trace_class] = times + 1
        self._frequencies[times] -= 1
        self._frequencies[times + 1] += 1
        self.total += 1
        return not times

    @property
    def classes(self) -> int:
        """How many classes were seen."""
        return len(self._times)

    @property
    def chance_of_new(self) -> float:
        """The chance that the next schedule is of a class not seen yet (Good-Turing): singletons over schedules."""
        return self._frequencies[1] / self.total if self.total else 1.0

    @property
    def at_least_unseen(self) -> float:
        """A lower bound for the number of classes not seen yet (Chao1)."""
        once, twice = self._frequencies[1], self._frequencies[2]
        return once * once / (2 * twice) if twice else once * (once - 1) / 2


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
