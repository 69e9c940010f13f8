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

    A signal ends the process without a word while the modules are imported, for nothing has been done yet; then it is
    the command's, and once that has answered it changes nothing any more.
    """
    _handle(_end)
    claim()
    from explorer.cli import main as run_command  # noqa: PLC0415 -- it takes long, and signals have to be caught before

    code = run_command()
    _handle(signal.SIG_IGN)
    return code


def _handle(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    """Set the handler of all signals but those that are ignored from the start (nohup)."""
    for one in SIGNALS:
        if signal.getsignal(one) != signal.SIG_IGN:
            signal.signal(one, handler)


def _end(signum: int, _frame: FrameType | None) -> None:
    os._exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
