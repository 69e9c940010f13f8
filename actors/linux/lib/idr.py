"""Allocation of numbers, the lowest free one first. lib/idr.c @5.3.1."""

from __future__ import annotations

import attrs

from actors.system.actor import Shared
from protocol.operations import READ, UPDATE, operation


@attrs.define(eq=False)
class Ida(Shared):
    """struct ida: the numbers in use, and the `lowest` free one."""

    name: str
    lowest: int = 0
    used: set[int] = attrs.field(factory=set, init=False)

    @property
    def label(self) -> str:
        return self.name

    @operation(UPDATE)
    def ida_simple_get(self) -> int:
        number = self.lowest
        self.used.add(number)
        while self.lowest in self.used:
            self.lowest += 1
        return number

    @operation(READ)
    def is_used(self, number: int) -> bool:
        return number in self.used

    @operation(UPDATE)
    def ida_simple_remove(self, number: int) -> None:
        self.used.discard(number)
        self.lowest = min(self.lowest, number)
