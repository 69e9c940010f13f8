"""Ctrl-C, SIGTERM and SIGHUP: each ends a command in an orderly way, and none is lost.

While signals are `caught`, the first of them is raised as `Interrupted`: normally at once; while a world runs, after
its current step; in a block that must not be interrupted, after the block. Code that can answer with a partial result
catches KeyboardInterrupt. A second Ctrl-C is raised at once, and a third ends the process. Other signals shortly after
the first are ignored: a closed terminal sends SIGHUP more than once, and a service manager sends both SIGTERM and
SIGHUP. After the command's answer all are ignored.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

TYPE_CHECKING = False  # to import typing takes longer than all the rest, and Ctrl-C can come meanwhile

if TYPE_CHECKING:
    from types import FrameType

    from actors.system.world import World

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

EXIT_INTERRUPTED = 130
"""The exit code of an interrupted command, whatever the signal; `exit_code` replaces it by the signal's own."""

PATIENCE_SECONDS = 2.0
"""Time for an answer after the first signal; after that, another signal ends the command at once."""

AGAIN_SECONDS = 0.01


class Interrupted(KeyboardInterrupt):
    """A signal of `SIGNALS` has come, and the command has to end."""


class _State:
    """The `first` signal, when it `came` (s), and whether it is `pending`: not raised yet.

    `was_insisted` means that a further one has come that counts. `held` and `firm` count the blocks that hold signals
    back, and those of them that do so firmly. Nothing is raised any more once the command `has_answered`.

    A signal is pending while it is `held` back, and while one of `worlds` runs. `hook` is the previous
    sys.unraisablehook, for all other errors.
    """

    def __init__(self) -> None:
        self.hook = sys.unraisablehook
        self.held = 0
        self.firm = 0
        self.worlds: list[World] = []
        self.begin()

    def begin(self) -> None:
        """Reset the state at the start of a command."""
        self.first = 0
        self.came = 0.0
        self.pending = False
        self.torn = False
        self.was_insisted = False
        self.has_answered = False


_state = _State()


@contextmanager
def caught(signals: Sequence[signal.Signals] = SIGNALS) -> Iterator[None]:
    """Within the block, these *signals* end the running command; a nested block changes nothing.

    A signal that was ignored before (nohup) stays ignored. Only the main thread can catch signals; in another thread
    the block changes nothing.
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
def held_back(*, firmly: bool = False) -> Iterator[None]:
    """A signal that comes within the block is raised at its end; but a second Ctrl-C at once (`is_torn`).

    In a block that holds *firmly* the second one is not raised either: for a loop that looks at `is_pending` often, and
    that does not survive an exception anywhere, such as Trio's.
    """
    _state.held += 1
    _state.firm += firmly
    try:
        yield
    except KeyboardInterrupt:
        _state.torn = True
        raise
    finally:
        _state.held -= 1
        _state.firm -= firmly
    raise_pending()


@contextmanager
def let_through() -> Iterator[None]:
    """Within the block a signal is raised as usual, though a block around it holds signals back."""
    held, firm = _state.held, _state.firm
    _state.held = _state.firm = 0
    try:
        raise_pending()
        yield
    finally:
        _state.held, _state.firm = held, firm


def is_torn() -> bool:
    """Whether a block that holds signals back was left half-done in this command."""
    return _state.torn


@contextmanager
def answering() -> Iterator[None]:
    """Within the block a command prints its answer as a whole; a signal comes too late to change it."""
    with held_back():
        yield
        take_pending()


@contextmanager
def ending(world: World) -> Iterator[None]:
    """A signal within the block ends *world* after its current step, and is pending after the block.

    No step is ever interrupted half-way, so the record up to there can be replayed.
    """
    _state.worlds.append(world)
    try:
        if _state.pending and not _state.held:
            world.stop_before_next = "interrupted"
        yield
    finally:
        _state.worlds.pop()


def raise_pending() -> None:
    """Raise the pending signal, if there is one, unless it is held back or a world runs."""
    if _state.pending and not _state.held and not _state.worlds:
        _state.pending = False
        raise Interrupted


def ignore_further() -> None:
    """Raise no signal from here on: the command has answered."""
    _state.has_answered = True


def take_pending() -> None:
    """Mark the pending signal as handled, so that it is not raised any more."""
    _state.pending = False


def is_pending() -> bool:
    """Whether a signal has come and is not raised yet."""
    return _state.pending


def exit_code(code: int) -> int:
    """The exit code of a command; for an interrupted one 128 plus the number of the signal (130, 143, 129)."""
    return 128 + _state.first if code == EXIT_INTERRUPTED and _state.first else code


def _come(signum: int, _frame: FrameType | None) -> None:
    """The handler of the caught signals."""
    if _state.has_answered:
        return
    now = time.monotonic()
    if _state.first:
        if signum != signal.SIGINT and now - _state.came <= PATIENCE_SECONDS:
            return
        if _state.was_insisted:
            os._exit(128 + _state.first)
        _state.was_insisted = True
        if _state.firm:
            return
        raise Interrupted
    _state.first, _state.came = signum, now
    if not _state.held and not _state.worlds:
        raise Interrupted
    _state.pending = True
    if not _state.held:
        _state.worlds[-1].stop_before_next = "interrupted"


def _raise_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Send the signal again if Python drops it: exceptions raised while an object is destroyed are not propagated."""
    if not isinstance(unraisable.exc_value, Interrupted):
        _state.hook(unraisable)
        return
    signum, _state.first = _state.first, 0
    _thread.start_new_thread(_send_again, (signum,))


def _send_again(signum: int) -> None:
    time.sleep(AGAIN_SECONDS)
    if signal.getsignal(signum) is _come:
        signal.pthread_kill(threading.main_thread().ident or 0, signum)
