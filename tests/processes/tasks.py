"""The tasks of worker processes in the tests, in a module that is quick to import."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from explorer.workers import Tell
from protocol.errors import UsageError


def double(number: int, tell: Tell) -> int:
    tell("begun")
    return 2 * number


def die_once(file: str, tell: Tell) -> str:
    """Kill the own process in the first call; return in the second one."""
    tell("begun")
    if not Path(file).exists():
        Path(file).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def die(_tell: Tell) -> None:
    os._exit(7)


def refuse(_tell: Tell) -> None:
    msg = "it does not fit"
    raise UsageError(msg)


def fail(_tell: Tell) -> None:
    msg = "we are wrong"
    raise LookupError(msg)


def work_for_ever(tell: Tell) -> None:
    tell(os.getpid())
    while True:
        pass
