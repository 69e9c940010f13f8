"""The three kinds of errors, told apart by type.

They are never mixed. A *finding* is a flaw of the simulated kernel: a value (`protocol.findings.Finding`), never an
exception that leaves a run. A `UsageError` is the caller's mistake: one line that says what, where and what to do. An
`InternalError` is a flaw of slabrace.
"""

from __future__ import annotations

from collections.abc import Sequence


class UsageError(Exception):
    """The caller asked for something impossible; the text is one line."""

    exit_code = 2


class InternalError(Exception):
    """slabrace itself is wrong: please report it. Never shown as a finding."""

    exit_code = 3


class NoAnswerError(InternalError):
    """A command cannot answer; the reason is one line, without a traceback."""


class DamagedLogError(UsageError):
    """A log whose bytes are not as written: torn, flipped, foreign or from a later version."""


class BrokenRuleError(BaseException):
    """The user's code does something that no patch and no scenario may do; the text names it, in words for the user.

    It is a BaseException, so that an `except Exception` in user code does not catch it.

    `places` gives the position, if the traceback does not: file, line and function, innermost last.
    """

    def __init__(self, text: str, places: Sequence[tuple[str, int, str]] = ()) -> None:
        super().__init__(text)
        self.places = places

    def where(self) -> Sequence[tuple[str, int, str]]:
        """`places`, or the position found later, when the code does not run any more."""
        return self.places
