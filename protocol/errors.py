"""Whose fault it is, told by the type.

There are three bins, and they are never mixed. A *finding* is a flaw of the simulated kernel: a value
(`protocol.findings.Finding`), never an exception that leaves a run. A `UsageError` is the caller's: one
line that says what, where and what to do. An `InternalError` is ours.
"""

from __future__ import annotations


class UsageError(Exception):
    """The caller asked for something that cannot be done; the text is one line. Exit code 2."""


class InternalError(Exception):
    """slabrace itself is wrong: please report it. Exit code 3. Never shown as a finding."""


class DamagedLogError(UsageError):
    """A log whose bytes are not what was written: torn, flipped, foreign or from a later version."""
