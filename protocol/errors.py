"""Whose fault it is, told by the type.

There are three bins, and they are never mixed. A *finding* is a flaw of the simulated kernel: a value
(`protocol.findings.Finding`), never an exception that leaves a run. A `UsageError` is the caller's: one
line that says what, where and what to do. An `InternalError` is ours.
"""

from __future__ import annotations

from collections.abc import Sequence


class UsageError(Exception):
    """The caller asked for something that cannot be done; the text is one line. Exit code 2."""


class InternalError(Exception):
    """slabrace itself is wrong: please report it. Exit code 3. Never shown as a finding."""


class NoAnswerError(InternalError):
    """A command cannot answer, for a reason that is told in one line, without a traceback. `exit_code` is its."""

    exit_code = 3


class DamagedLogError(UsageError):
    """A log whose bytes are not what was written: torn, flipped, foreign or from a later version."""


class BrokenRuleError(BaseException):
    """The user's code does what no patch and no scenario may do; the text says what, in words for the user.

    No `except Exception` of the user's is meant to catch it.

    `places` is where, if the traceback does not say it: file, line and function, innermost last.
    """

    def __init__(self, text: str, places: Sequence[tuple[str, int, str]] = ()) -> None:
        super().__init__(text)
        self.places = places

    def where(self) -> Sequence[tuple[str, int, str]]:
        """`places`, or what they are found to be now that the code does not run any more."""
        return self.places
