"""The list of benchmarks.

A benchmark is a function without required arguments that returns a `Report`; the first line of its docstring is its
summary. To add one, write its module and list it here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Protocol

from benchmarks import bisect, bugs, causes, coverage, findings, guided, mutants, profile, shrunk
from benchmarks.engines import engines
from benchmarks.growth import growth
from benchmarks.kernel import kernel
from benchmarks.profiles import profiles
from benchmarks.report import Report
from benchmarks.ring import ring
from benchmarks.scale import scale
from benchmarks.search import search
from benchmarks.speed import speed

BENCHMARKS: dict[str, Callable[[], Report]] = {
    "ring": ring,
    "kernel": kernel,
    "profiles": profiles,
    "search": search,
    "scale": scale,
    "growth": growth,
    "engines": engines,
    "speed": speed,
}
"""Every benchmark by its stable name, in the order in which they run."""


class Study(Protocol):
    """The interface of a study: a module with a long search and options of its own, not a race."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add its options."""

    def run(self, options: argparse.Namespace) -> int:
        """Run the study; return the exit code."""


STUDIES: dict[str, Study] = {
    "bugs": bugs,
    "bisect": bisect,
    "causes": causes,
    "findings": findings,
    "guided": guided,
    "mutants": mutants,
    "shrunk": shrunk,
    "coverage": coverage,
    "profile": profile,
}
"""Every study by its stable name."""


def summary(name: str) -> str:
    """The quantity that the benchmark measures, in one line."""
    return (BENCHMARKS[name].__doc__ or "").partition("\n")[0]
