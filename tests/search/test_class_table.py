"""The table of trace classes, against a dictionary; and its memory."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from explorer.search.class_table import ClassTable

CROWDED = (*(1 << 40 | number for number in range(64)), 0, 1, (1 << 64) - 1)
"""Classes that want neighbouring slots, and the smallest and the largest."""


@pytest.mark.parametrize("seed", range(10))
def test_it_counts_as_a_dictionary_does(seed: int) -> None:
    rng = random.Random(seed)
    table, truth = ClassTable(), dict[int, int]()
    classes = [*CROWDED, *(rng.getrandbits(64) for _ in range(3_000))]
    for _ in range(8_000):
        one, number = rng.choice(classes), rng.randrange(1, 256)
        assert table[one] == truth.get(one, 0)
        table[one] = truth[one] = number
        assert len(table) == len(truth)

    assert dict(table.items()) == truth
    again = ClassTable.of(table.to_bytes())
    assert dict(again.items()) == dict.fromkeys(truth, 1)
    assert again.to_bytes() == table.to_bytes()


def test_a_number_is_1_to_255() -> None:
    table = ClassTable()
    for number in (0, -1, 256):
        with pytest.raises(ValueError, match="255"):
            table[5] = number

    assert len(table) == 0
    assert table[5] == 0


def test_a_class_takes_few_bytes() -> None:
    rng = random.Random(0)
    tracemalloc.start()
    try:
        table = ClassTable()
        for _ in range(20_000):
            table[rng.getrandbits(64)] = 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(table) == 20_000
    assert peak < 40 * 20_000, "while it grows, there are two tables"
