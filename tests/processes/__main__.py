"""`python -m tests.processes [N]`: N (200) kills and N/2 of each other signal, at random moments; prints figures."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from explorer.signals import SIGNALS
from tests.processes.attacks import Tally, attack_often, make_log

KILLED = ("run", "explore", "shrink", "keep", "growth")
ANSWERING = ("shrink", "explain", "keep", "replay", "growth", "run")
"""The other commands; explore gets most of the signals."""


def attack_all(number: int, folder: Path) -> list[str]:
    """Run all attacks; print the result of each kind, and return the errors."""
    log = make_log(folder / "found")
    todo = [(name, signal.SIGKILL, number // len(KILLED)) for name in KILLED]
    todo += [("explore", one, number // 2) for one in SIGNALS]
    todo += [(name, one, number // 20) for name in ANSWERING for one in SIGNALS]
    wrong: list[str] = []
    for name, one, times in todo:
        tally: Tally = attack_often(name, one, times, folder, log)
        print(f"{name:8} {one.name:8} {tally}, {len(tally.wrong)} wrong", flush=True)  # noqa: T201 -- the figures
        wrong += tally.wrong
    return wrong


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        found = attack_all(int(sys.argv[1]) if len(sys.argv) > 1 else 200, Path(place))
    print("\n".join(found) or "nothing is wrong")  # noqa: T201 -- as above
    sys.exit(bool(found))
