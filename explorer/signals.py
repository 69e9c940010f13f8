"""Ctrl-C, SIGTERM and SIGHUP: each ends a command in order, and none is lost.

While signals are `caught`, the first of them is raised as `Interrupted`: at once; where a world runs, after its step;
where something has to be done as a whole, after that. Who can give an answer up to there catches KeyboardInterrupt. A
second Ctrl-C does not wait for anything. Other signals just after the first change nothing: a closed terminal sends
SIGHUP more than once, and a service manager SIGTERM and SIGHUP.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

TYPE_CHECKING = False  # importing typing takes longer than all the rest, and Ctrl-C does not wait for it

if TYPE_CHECKING:
    from types import FrameType

    from actors.system.world import World

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

EXIT_INTERRUPTED = 130
"""The exit code of a command that was interrupted, whatever by; `exit_code` makes it that of the signal."""

PATIENCE_SECONDS = 2.0
"""How long the first signal has for an answer, before another one ends the command at once."""

AGAIN_SECONDS = 0.01


class Interrupted(KeyboardInterrupt):
    """A signal of `SIGNALS` has come: the command is to end."""


class _State:
    """The `first` signal that has come, when (s), and whether it is `pending`: not raised yet.

    That is so where it is `held` back, and while one of `worlds` runs. `hook` is Python's, for what is swallowed.
    """

    def __init__(self) -> None:
        self.hook = sys.unraisablehook
        self.held = 0
        self.worlds: list[World] = []
        self.begin()

    def begin(self) -> None:
        """Nothing has come in this command."""
        self.first = 0
        self.came = 0.0
        self.pending = False


_state = _State()


@contextmanager
def caught(signals: Sequence[signal.Signals] = SIGNALS) -> Iterator[None]:
    """Within the block, these *signals* end what runs; nothing changes if they do so already.

    What was ignored before (nohup) stays ignored. Only the main thread can catch signals; in others nothing changes.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or any(signal.getsignal(one) is _come for one in SIGNALS):
        yield
        return
    _state.begin()
    before = {one: signal.getsignal(one) for one in signals}
    _state.hook, sys.unraisablehook = sys.unraisablehook, _raise_again
    try:
        for one, handler in before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(one, _come)
        yield
    finally:
        for one, handler in before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(one, handler)
        sys.unraisablehook = _state.hook


@contextmanager
def held_back() -> Iterator[None]:
    """A signal that comes within the block is raised at its end."""
    _state.held += 1
    try:
        yield
    finally:
        _state.held -= 1
    raise_pending()


@contextmanager
def answering() -> Iterator[None]:
    """Within the block a command tells what it has come to: as a whole, and a signal is too late to change it."""
    with held_back():
        yield
        take_pending()


@contextmanager
def ending(world: World) -> Iterator[None]:
    """A signal that comes within the block ends *world* after the step that it makes, and is pending after the block.

    No step is ever cut in half, so that what was recorded up to there can be replayed.
    """
    _state.worlds.append(world)
    try:
        if _state.pending and not _state.held:
            world.stop_before_next = "interrupted"
        yield
    finally:
        _state.worlds.pop()


def raise_pending() -> None:
    """Raise the signal that has come and was not raised yet, if there is one and this is the place for it."""
    if _state.pending and not _state.held and not _state.worlds:
        _state.pending = False
        raise Interrupted


def take_pending() -> None:
    """The signal that has come, if one has, is taken care of: it is not raised any more."""
    _state.pending = False


def is_pending() -> bool:
    """Whether a signal has come that is held back."""
    return _state.pending


def exit_code(code: int) -> int:
    """The exit code of a command: of one that was interrupted, 128 and the number of the signal (130, 143, 129)."""
    return 128 + _state.first if code == EXIT_INTERRUPTED and _state.first else code


def _come(signum: int, _frame: FrameType | None) -> None:
    """A signal has come."""
    now = time.monotonic()
    if _state.first:
        if signum == signal.SIGINT or now - _state.came > PATIENCE_SECONDS:
            raise Interrupted
        return
    _state.first, _state.came = signum, now
    if not _state.held and not _state.worlds:
        raise Interrupted
    _state.pending = True
    if not _state.held:
        _state.worlds[-1].stop_before_next = "interrupted"


def _raise_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised while it destroys an object: raise it again, when that is over."""
    if not isinstance(unraisable.exc_value, Interrupted):
        _state.hook(unraisable)
        return
    signum, _state.first = _state.first, 0
    _thread.start_new_thread(_send_again, (signum,))


def _send_again(signum: int) -> None:
    time.sleep(AGAIN_SECONDS)
    if signal.getsignal(signum) is _come:
        signal.pthread_kill(threading.main_thread().ident or 0, signum)
