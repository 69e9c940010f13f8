"""Silence Python's warnings about flows that a run left unfinished: Python closes their coroutines some time later."""

from __future__ import annotations

import sys


def leave_abandoned_flows_alone() -> None:
    """Suppress errors that Python reports when it closes the coroutines of flows that a run left unfinished.

    Python closes them after the run, perhaps at its own exit. If a `finally` in the user's code then awaits or raises,
    Python reports that on stderr, though the run is over. A program that has its own unraisable hook keeps it.
    """
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _tell


def _tell(what: sys.UnraisableHookArgs) -> None:
    from protocol.blame import MACHINE  # noqa: PLC0415 -- most commands never need it

    code = getattr(what.object, "cr_code", None)
    if code is None or not code.co_filename.startswith(MACHINE):
        sys.__unraisablehook__(what)
