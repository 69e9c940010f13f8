"""The command `slabrace`, from the first moment of its process to the last."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from explorer.garbage import paused
from explorer.signals import SIGNALS
from slabrace.names import claim


def main() -> int:
    """Run the command line; return the exit code.

    Signals have three handlers in turn. While the modules are imported, a signal ends the process at once, without
    output: nothing has been done yet. While the command runs, `explorer.signals` handles them. After the command has
    answered, they are ignored.
    """
    _handle(_end)
    claim()
    with paused():
        from explorer.cli import main as run_command  # noqa: PLC0415 -- slow: the handlers have to be set first

    code = run_command()
    _handle(signal.SIG_IGN)
    _end_threads(code)
    return code


def _end_threads(code: int) -> None:
    """End the process here if threads of a user's file still run: Python would wait for them, and signals are off."""
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if any(not thread.daemon for thread in others):
        from explorer.streams import complain  # noqa: PLC0415 -- rarely needed

        complain("threads that your files started have not ended; the command ends without them")
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _handle(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    """Set the handler of all signals, except those that are ignored from the start (nohup)."""
    for one in SIGNALS:
        if signal.getsignal(one) != signal.SIG_IGN:
            signal.signal(one, handler)


def _end(signum: int, _frame: FrameType | None) -> None:
    os._exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
