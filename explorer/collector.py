"""Python's garbage collector, which costs much where objects are made that stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

RARELY = 20_000
"""New objects between two collections; Python's own default is 700."""


@contextmanager
def paused() -> Iterator[None]:
    """A block without the collector, for imports: they leave no garbage, and it would look through all that is new."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def rare() -> Iterator[None]:
    """A block with rare collections, for one long run: its machine grows, and nearly all that is new is alive."""
    first, *others = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(RARELY, *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)
        gc.unfreeze()
