"""A strategy that notes the choices of another one."""

from __future__ import annotations

from actors.system.lane import Lane
from actors.system.strategy import Strategy
from actors.system.world import World


class Noting(Strategy):
    """Delegates every choice, and notes it."""

    name = "noting"

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.controls_clock = strategy.controls_clock
        self.choices: list[str | int] = []

    def advance(self, world: World) -> None:
        self.strategy.advance(world)

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        index = self.strategy.choose(lanes)
        self.choices.append(lanes[index].name)
        return index

    def choose_value(self, count: int) -> int:
        value = self.strategy.choose_value(count)
        self.choices.append(value)
        return value

    def choose_fault(self, probability: float) -> bool:
        fails = self.strategy.choose_fault(probability)
        self.choices.append(int(fails))
        return fails
