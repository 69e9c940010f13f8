"""The command `slabrace`, from the first moment of its process to the last."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

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
    from explorer.cli import main as run_command  # noqa: PLC0415 -- slow: the handlers have to be set first

    code = run_command()
    _handle(signal.SIG_IGN)
    return code


def _handle(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    """Set the handler of all signals, except those that are ignored from the start (nohup)."""
    for one in SIGNALS:
        if signal.getsignal(one) != signal.SIG_IGN:
            signal.signal(one, handler)


def _end(signum: int, _frame: FrameType | None) -> None:
    os._exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
