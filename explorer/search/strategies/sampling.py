"""Common parts of the strategies that draw schedules."""

from __future__ import annotations

import random

from actors.system.strategy import Strategy


class RandomValues(Strategy):
    """Base of the sampling strategies: draws values and faults, and does not control the clock."""

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)
        self.random = self._source.random

    def choose_value(self, count: int) -> int:
        """Draw a number below *count*."""
        return int(self.random() * count)

    def choose_fault(self, probability: float) -> bool:
        """Draw whether a fault happens."""
        return self.random() < probability


def draw(point: float, weights: list[float]) -> int:
    """The index among *weights* that *point*, a random number in [0, 1), selects."""
    point *= sum(weights)
    last = len(weights) - 1
    for index, weight in enumerate(weights):
        if point < weight or index == last:
            return index
        point -= weight
    msg = "there is nothing to draw from"
    raise ValueError(msg)
