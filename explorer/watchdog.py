"""The watchdog: interrupts a step that never ends. A step normally takes some microseconds.

It checks periodically whether steps were made since the last check. It counts checks, and does not measure time: an
hour in which the process was stopped or the computer slept must not look like a loop of an hour.

It uses the alarm clock of the process (SIGALRM) in the main thread; if the program uses SIGALRM already, there is no
watchdog. An endless loop in C code that does not handle signals cannot be ended from here.
"""

from __future__ import annotations

import ast
import linecache
import os
import signal
import sys
import threading
from collections.abc import Callable, Container, Sequence
from types import FrameType
from typing import TypeAlias

import attrs

from protocol.blame import MACHINE, Place
from protocol.errors import BrokenRuleError

Stack: TypeAlias = list[tuple[FrameType, int]]

TICK = 1.0
"""Seconds of wall-clock time between two checks."""

LOOKS = 10
"""Checks in a row without a step until user code is interrupted: a million times the usual length of a step."""

LOOKS_AT_US = 60
"""The same limit while no user code is on the stack: a check of a machine with a million objects may take long."""

TRIES = 3
"""How often the error is raised in code that goes on all the same, before the watchdog ends the process."""


class StuckError(BrokenRuleError):
    """A step does not end. `lines` are the lines of a function of *file* at which the checks found it."""

    def __init__(self, text: str, file: str = "", function: str = "", lines: Sequence[int] = ()) -> None:
        super().__init__(text)
        self.file = file
        self.function = function
        self.lines = lines

    def where(self) -> Sequence[Place]:
        """The place of the loop. It is computed late, because the signal may have interrupted the parser itself."""
        return [(self.file, loop_around(self.file, self.lines), self.function)] if self.lines else []


@attrs.define(eq=False)
class Watchdog:
    """Checks that `steps()` increases while code of the machine runs, or user code in *files*.

    `last_words` makes the message for an error if only the end of the process can end the running code.
    """

    steps: Callable[[], int]
    files: Container[str]
    last_words: Callable[[StuckError], object]
    _within: FrameType | None = None
    _last: int = -1
    _seen: list[Stack] = attrs.field(factory=list)
    _is_on: bool = False

    def start(self) -> None:
        """Start checking the calls made by the caller's caller, unless SIGALRM is already in use."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL:
            self._within = sys._getframe(2)
            signal.signal(signal.SIGALRM, self._look)
            signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
            self._is_on = True

    def stop(self) -> None:
        """Stop checking."""
        if self._is_on:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            self._is_on = False
            self._within = None
            self._seen.clear()

    def _look(self, _signum: int, frame: FrameType | None) -> None:
        steps, stack = self.steps(), self._stack(frame)
        if steps != self._last or not stack:
            self._last = steps
            self._seen.clear()
            return
        self._seen.append(stack)
        looks = LOOKS if any(self._is_user_s(frame) for frame, _ in stack) else LOOKS_AT_US
        if len(self._seen) >= looks:
            self._end(looks)

    def _stack(self, frame: FrameType | None) -> Stack:
        """The frames of machine code and user code, outermost first, each with its line."""
        stack = []
        while frame is not None and frame is not self._within:
            if self._is_user_s(frame) or frame.f_code.co_filename.startswith(MACHINE):
                stack.append((frame, frame.f_lineno))
            frame = frame.f_back
        return stack[::-1]

    def _is_user_s(self, frame: FrameType) -> bool:
        return frame.f_code.co_filename in self.files

    def _end(self, looks: int) -> None:
        """Raise the error in the running code, again if it goes on all the same, and at last end the process."""
        text = f"it has not come back for {TICK * looks:g} s: a step has to end; does it loop for ever?"
        error = StuckError(text, *self._stuck())
        if len(self._seen) >= looks + TRIES:
            print("slabrace:", self.last_words(error), file=sys.stderr, flush=True)  # noqa: T201 -- the last output
            os._exit(2)
        raise error

    def _stuck(self) -> tuple[str, str, list[int]]:
        """The innermost call that was on the stack at each of the last checks, of user code if there is one.

        Returns its file, function and lines. Early checks do not count: other code may have run at the first of them.
        """
        seen = self._seen[-LOOKS // 2 :]
        always = [at for at, _ in seen[0] if all(any(at is frame for frame, _ in stack) for stack in seen)]
        stuck = [frame for frame in always if self._is_user_s(frame)] or always
        if not stuck:
            return "", "", []
        code = stuck[-1].f_code
        return code.co_filename, code.co_name, [line for stack in seen for at, line in stack if at is stuck[-1]]


def loop_around(file: str, lines: Sequence[int]) -> int:
    """The first line of the innermost loop around all *lines*; the last of *lines* if there is no such loop."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return lines[-1]
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While | ast.AsyncFor)]
    around = [loop for loop in loops if loop.lineno <= min(lines) and max(lines) <= (loop.end_lineno or 0)]
    return max((loop.lineno for loop in around), default=lines[-1])
