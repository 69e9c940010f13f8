"""Flows that a run left where they stood: Python closes their coroutines some time later, and says nothing of it."""

from __future__ import annotations

import sys


def leave_abandoned_flows_alone() -> None:
    """Let Python say nothing of flows that a run left where they stood and that do not end there: the run is over.

    Python closes them some time later, perhaps at its own end; if a `finally` of the user's awaits then, or raises,
    that is told on stderr. Nothing is done in a program that has a hook of its own for that.
    """
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _tell


def _tell(what: sys.UnraisableHookArgs) -> None:
    from protocol.blame import MACHINE  # noqa: PLC0415 -- most commands never need it

    code = getattr(what.object, "cr_code", None)
    if code is None or not code.co_filename.startswith(MACHINE):
        sys.__unraisablehook__(what)
