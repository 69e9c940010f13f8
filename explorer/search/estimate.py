"""Estimates of how much a search has not seen, from class counts and from the choices of random walks.

The first two estimates need independent draws: schedules that a strategy draws with the same distribution each time,
whatever was seen before, and such that every schedule can be drawn (`StrategyEntry.is_unbiased`). The schedules of an
exact search are in different classes on purpose, and a bounded or selective walk leaves some out. Their counts do not
contribute to the estimates, but the classes that they have shown count as seen. The draws of several strategies are
pooled: the estimates hold for the mixture, whatever the proportions. The third estimate uses random walks only.

Good, "The Population Frequencies of Species and the Estimation of Population Parameters", Biometrika 1953 (the chance
that the next one is new); Chao, "Nonparametric Estimation of the Number of Classes in a Population", 1984 (a lower
bound for the number of classes); Knuth, "Estimating the Efficiency of Backtrack Programs", Mathematics of Computation
1975 (the number of leaves of a tree).
"""

from __future__ import annotations

import math
from collections import Counter

import attrs

from explorer.search.class_table import ClassTable

MANY = 3
"""The estimates need to know which classes were seen or drawn once, and which twice; from here on they are alike."""


@attrs.define
class Sightings:
    """Class counts: how often each trace class was seen, and how often drawn. `draws` counts the draws by strategy.

    `_times` has both counts of each class, up to `MANY`. `_frequencies` has the number of classes with each count of
    draws.
    """

    total: int = 0
    draws: Counter[str] = attrs.field(factory=Counter)
    _times: ClassTable = attrs.field(factory=ClassTable, init=False)
    _frequencies: Counter[int] = attrs.field(factory=Counter, init=False)
    _once: int = attrs.field(default=0, init=False)

    def add(self, trace_class: str, drawn_by: str = "") -> None:
        """Count one more schedule. *drawn_by* is its strategy if that makes independent draws, otherwise empty."""
        one = int(trace_class, 16)
        drawn, times = divmod(self._times[one], MANY + 1)
        self.total += 1
        if times == 1:
            self._once -= drawn
        if drawn_by:
            self.draws[drawn_by] += 1
            self._once += not times
            if drawn < MANY:
                self._frequencies[drawn] -= 1
                drawn += 1
                self._frequencies[drawn] += 1
        self._times[one] = drawn * (MANY + 1) + min(times + 1, MANY)

    @classmethod
    def of(cls, classes: bytes, total: int) -> Sightings:
        """The counts of an exact search, which draws nothing; *classes* are those of a `ClassTable`."""
        sightings = cls(total)
        sightings._times = ClassTable.of(classes)
        return sightings

    @property
    def classes(self) -> int:
        """The number of classes seen."""
        return len(self._times)

    @property
    def chance_of_new(self) -> float | None:
        """The chance that the next draw is of an unseen class (Good-Turing); None without draws.

        It is the share of the draws whose class was seen only once, by that draw.
        """
        draws = self.draws.total()
        return self._once / draws if draws else None

    @property
    def at_least_unseen(self) -> float | None:
        """A lower bound for the number of unseen classes; None without draws.

        Chao1 bounds the number of classes that were not drawn. Classes that were seen without a draw are subtracted.
        """
        if not self.draws:
            return None
        once, twice, more = (self._frequencies[count] for count in range(1, MANY + 1))
        not_drawn = once * once / (2 * twice) if twice else once * (once - 1) / 2
        seen_otherwise = len(self._times) - (once + twice + more)
        return max(not_drawn - seen_otherwise, 0.0)


@attrs.define
class Probes:
    """Knuth's estimator: the number of schedules, from the numbers of alternatives at each choice of random walks.

    A walk reaches its schedule with a probability of one over the product of these numbers. So the mean of the products
    is an unbiased estimate of the number of schedules; with few walks it is often far too low. A fault counts as a
    choice of two, whatever its probability.
    """

    walks: int = 0
    _log10_sum: float = -math.inf

    def add(self, log10_product: float) -> None:
        """Add one walk, by the decimal logarithm of its product: the products are too large for a float."""
        self.walks += 1
        low, high = sorted((self._log10_sum, log10_product))
        self._log10_sum = high + math.log10(1 + 10 ** (low - high))

    @property
    def log10_schedules(self) -> float | None:
        """The decimal logarithm of the mean; None before the first walk."""
        return self._log10_sum - math.log10(self.walks) if self.walks else None
