"""Which benchmarks there are.

A benchmark is a function that needs no arguments and returns a `Report`; the first line of its docstring is its
summary. To add one, write its module and name it here.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.growth import growth
from benchmarks.kernel import kernel
from benchmarks.report import Report
from benchmarks.ring import ring
from benchmarks.scale import scale

BENCHMARKS: dict[str, Callable[[], Report]] = {"ring": ring, "kernel": kernel, "scale": scale, "growth": growth}
"""Every benchmark by its stable name, in the order in which they run."""


def summary(name: str) -> str:
    """What the benchmark measures, in one line."""
    return (BENCHMARKS[name].__doc__ or "").partition("\n")[0]
