"""Silence Python's warnings about flows that a run left unfinished: Python closes their coroutines some time later."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def leave_abandoned_flows_alone() -> None:
    """Suppress errors that Python reports when it closes the coroutines of flows that a run left unfinished.

    Python closes them after the run, perhaps at its own exit. If a `finally` in the user's code then awaits or raises,
    Python reports that on stderr, though the run is over. A program that has its own unraisable hook keeps it.
    """
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _tell


@contextmanager
def warnings_held() -> Iterator[list[tuple[Any, ...]]]:
    """Hold Python's warnings about forgotten awaits back until the end of the block, and show those that are left.

    A command that refuses the user's code says in one line why, and drops them (`drop_warnings`).
    """
    show = warnings.showwarning
    held: list[tuple[Any, ...]] = []

    def hold(message: Warning | str, *more: Any, **options: Any) -> None:
        if "was never awaited" in str(message):
            held.append((message, *more))
        else:
            show(message, *more, **options)

    warnings.showwarning = hold
    try:
        yield held
    finally:
        warnings.showwarning = show
        for warning in held:
            show(*warning)


def drop_warnings(held: list[tuple[Any, ...]]) -> None:
    """Drop the warnings that are held back, and those about coroutines that are left until this process ends."""
    held.clear()
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


def _tell(what: sys.UnraisableHookArgs) -> None:
    from protocol.blame import MACHINE  # noqa: PLC0415 -- most commands never need it

    code = getattr(what.object, "cr_code", None)
    if code is None or not code.co_filename.startswith(MACHINE):
        sys.__unraisablehook__(what)
