"""The policy of Python's garbage collector for searches.

A world is full of reference cycles, and a search makes thousands of worlds. With Python's default, most collections
come within a run, when they find nothing. Here they come every few worlds, and leave out all that was there before.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = (10_000, 3, 20)
"""Of `gc.set_threshold`. A world has some 4,000 objects, so the youngest generation holds two or three of them."""


def collect_rarely() -> bool:
    """Collect rarely from now on, and leave out the objects that exist now; False if this is in force already."""
    if gc.get_threshold() == THRESHOLDS:
        return False
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    return True


@contextmanager
def collected_rarely() -> Iterator[None]:
    """Collect rarely within the block."""
    before = gc.get_threshold()
    begins = collect_rarely()
    try:
        yield
    finally:
        if begins:
            gc.set_threshold(*before)
            gc.unfreeze()
