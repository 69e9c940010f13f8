"""The policy of Python's garbage collector, whose default fits neither imports nor simulations.

An import leaves no garbage, and the collector would look through all that is new. A world is full of reference cycles,
and a search makes thousands of worlds; with the default, most collections come within a run, when they find nothing.
The machine of one long run grows, and nearly all of it is alive.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = (10_000, 3, 20)
"""Of `gc.set_threshold`. A world has some 4,000 objects, so the youngest generation holds two or three of them."""


@contextmanager
def paused() -> Iterator[None]:
    """A block without the collector, for imports."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


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
