"""The watchdog: a step that never ends is interrupted, for nobody else can; a step is over in some microseconds.

It looks from time to time whether anything has been done since. It counts how often it found nothing, not how late it
is: a process that is stopped for an hour, or a computer that sleeps, has not been looping for an hour.

It needs the alarm clock of the process (SIGALRM), in its main thread; if another program has that already, there is no
watchdog. What loops in C for ever and heeds no signal cannot be ended from here.
"""

from __future__ import annotations

import ast
import linecache
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from types import FrameType
from typing import TypeAlias

import attrs

from protocol.blame import MACHINE, Place
from protocol.errors import BrokenRuleError

Stack: TypeAlias = list[tuple[FrameType, int]]

TICK = 1.0
"""Seconds, on the wall clock, between two looks."""

LOOKS = 10
"""How many looks in a row find that nothing has been done, until the step is ended: a million times what it takes."""

LOOKS_AT_US = 60
"""As many if it is no code of the user's: to look through a machine with a million objects may take its time."""

TRIES = 3
"""How often the code is told. If it takes no notice of that, all that is left is to end the process."""


class StuckError(BrokenRuleError):
    """A step does not come to its end. `lines` are those of a function of *file* that were seen to run meanwhile."""

    def __init__(self, text: str, file: str = "", function: str = "", lines: Sequence[int] = ()) -> None:
        super().__init__(text)
        self.file = file
        self.function = function
        self.lines = lines

    def where(self) -> Sequence[Place]:
        """The loop. While that runs, a parser may be at work, and could not be asked."""
        return [(self.file, loop_around(self.file, self.lines), self.function)] if self.lines else []


@attrs.define(eq=False)
class Watchdog:
    """Looks whether `steps()` goes on while code of the machine runs, or of the user's in *files*.

    `last_words` is what is said of an error if the code that runs cannot be ended but with the process.
    """

    steps: Callable[[], int]
    files: Collection[str]
    last_words: Callable[[StuckError], object]
    _within: FrameType | None = None
    _last: int = -1
    _seen: list[Stack] = attrs.field(factory=list)
    _is_on: bool = False

    def start(self) -> None:
        """Begin to look at what is called from the caller's caller on, unless somebody else has the alarm clock."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL:
            self._within = sys._getframe(2)
            signal.signal(signal.SIGALRM, self._look)
            signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
            self._is_on = True

    def stop(self) -> None:
        """Look no more."""
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
        """The frames of the machine and of the user, outermost first, each with its line."""
        stack = []
        while frame is not None and frame is not self._within:
            if self._is_user_s(frame) or frame.f_code.co_filename.startswith(MACHINE):
                stack.append((frame, frame.f_lineno))
            frame = frame.f_back
        return stack[::-1]

    def _is_user_s(self, frame: FrameType) -> bool:
        return frame.f_code.co_filename in self.files

    def _end(self, looks: int) -> None:
        """Raise the error in the code that runs, and again if it goes on all the same; at last, end the process."""
        text = f"it has not come back for {TICK * looks:g} s: a step has to end; does it loop for ever?"
        error = StuckError(text, *self._stuck())
        if len(self._seen) >= looks + TRIES:
            print("slabrace:", self.last_words(error), file=sys.stderr, flush=True)  # noqa: T201 -- nobody else can
            os._exit(2)
        raise error

    def _stuck(self) -> tuple[str, str, list[int]]:
        """The innermost call that was there at each of the last looks, of the user's if one was.

        Its file, function and lines. Before the first of all looks something else may have gone on for a while.
        """
        seen = self._seen[-LOOKS // 2 :]
        always = [at for at, _ in seen[0] if all(any(at is frame for frame, _ in stack) for stack in seen)]
        stuck = [frame for frame in always if self._is_user_s(frame)] or always
        if not stuck:
            return "", "", []
        code = stuck[-1].f_code
        return code.co_filename, code.co_name, [line for stack in seen for at, line in stack if at is stuck[-1]]


def loop_around(file: str, lines: Sequence[int]) -> int:
    """The line in which the innermost loop begins that all *lines* are in; the last of these if there is none."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return lines[-1]
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While | ast.AsyncFor)]
    around = [loop for loop in loops if loop.lineno <= min(lines) and max(lines) <= (loop.end_lineno or 0)]
    return max((loop.lineno for loop in around), default=lines[-1])
