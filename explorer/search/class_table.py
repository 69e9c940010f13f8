"""A table of trace classes, for searches of millions of schedules."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator

LEAST_SLOTS = 1 << 10


class ClassTable:
    """A small number (1 to 255) for each trace class, in 9 bytes a slot; a class that is not in it has 0.

    Open addressing with linear probing: the classes are 64-bit hashes, so their low bits choose the slots evenly. The
    table doubles when two of three slots are in use. A dictionary of the same classes takes ten times the memory.
    """

    def __init__(self) -> None:
        self._count = 0
        self._make_slots(LEAST_SLOTS)

    def _make_slots(self, slots: int) -> None:
        self._mask = slots - 1
        self._classes = array("Q", bytes(8 * slots))
        self._numbers = bytearray(slots)

    def __len__(self) -> int:
        """The number of classes."""
        return self._count

    def __eq__(self, other: object) -> bool:
        """Whether the other table has the same numbers."""
        return isinstance(other, ClassTable) and dict(self.items()) == dict(other.items())

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __getitem__(self, trace_class: int) -> int:
        """The number of a class."""
        return self._numbers[self._slot_of(trace_class)]

    def __setitem__(self, trace_class: int, number: int) -> None:
        """Set the number of a class; ValueError unless it is 1 to 255."""
        if not 1 <= number <= 255:
            msg = f"the number of a class is 1 to 255, not {number}"
            raise ValueError(msg)
        slot = self._slot_of(trace_class)
        is_new = not self._numbers[slot]
        self._numbers[slot] = number
        self._classes[slot] = trace_class
        self._count += is_new
        if is_new and 3 * self._count > 2 * self._mask:
            self._grow()

    def items(self) -> Iterator[tuple[int, int]]:
        """Each class with its number, in no particular order."""
        slots = zip(self._classes, self._numbers, strict=True)
        return ((one, number) for one, number in slots if number)

    def to_bytes(self) -> bytes:
        """The classes, 8 bytes each, in order and little-endian."""
        classes = array("Q", sorted(one for one, _ in self.items()))
        if sys.byteorder == "big":
            classes.byteswap()
        return classes.tobytes()

    @classmethod
    def of(cls, data: bytes) -> ClassTable:
        """A table of the classes that `to_bytes` has written, each with the number 1."""
        classes = array("Q", data)
        if sys.byteorder == "big":
            classes.byteswap()
        table = cls()
        for one in classes:
            table[one] = 1
        return table

    def _slot_of(self, trace_class: int) -> int:
        """The slot of a class, or the free slot for it."""
        slot, classes, numbers = trace_class & self._mask, self._classes, self._numbers
        while numbers[slot] and classes[slot] != trace_class:
            slot = (slot + 1) & self._mask
        return slot

    def _grow(self) -> None:
        old = self.items()
        self._make_slots(2 * (self._mask + 1))
        for trace_class, number in old:
            slot = self._slot_of(trace_class)
            self._classes[slot], self._numbers[slot] = trace_class, number
