"""Real campaigns in processes that are killed, or get a signal, at random moments."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import attrs

from explorer.signals import SIGNALS
from explorer.stress.store import FILE
from tests.helpers import MODULE, start_process
from tests.processes.attacks import catches, wait_until

WORDS = ("stress", "charge-vs-charge", "canary", "offline-vs-free", "--kernel", "5.3,v4")
TOTALS = ("schedules", "steps", "epochs", "digest", "trace_classes", "drawn", "pairs", "lost_jobs")
LONGEST_SECONDS = 2.0
"""Longest time from a signal to the end of the process."""

LONGEST_WAIT = 4.0
"""Longest time (s) from the start of a part to a kill or a signal."""

SHARE_OF_SECOND_SIGNALS, LONGEST_PATIENCE = 0.5, 0.05
"""How often a signal is sent once more, and the longest time (s) between the two."""


@attrs.define
class Tally:
    """What was done to a campaign: kills of the whole, kills of workers, signals, and the longest time to an end."""

    kills: int = 0
    workers: int = 0
    signals: int = 0
    longest: float = 0.0
    wrong: list[str] = attrs.field(factory=list)


def command(folder: Path, workers: int) -> tuple[str, ...]:
    """The command line of a part that goes on until something ends it."""
    return (*MODULE, *WORDS, "--store", str(folder), "--workers", str(workers), "--json")


def planned(folder: Path) -> int:
    """The schedules up to the end of the present epoch: a budget at which a disturbed campaign equals a whole one."""
    with contextlib.closing(sqlite3.connect(folder / FILE)) as database:
        return int(database.execute("SELECT sum(count) FROM jobs").fetchone()[0])


def answer(folder: Path, budget: int) -> dict[str, Any]:
    """Run a campaign to its end; its totals, and its causes."""
    with start_process(*command(folder, 2), "--budget", str(budget)) as process:
        out, err = process.communicate(timeout=600)
    assert out, err
    told = json.loads(out)
    causes = [(cause["cause"], cause["sightings"], cause["cells"], cause["signatures"]) for cause in told["causes"]]
    return {**{name: told[name] for name in TOTALS}, "causes": causes}


def kill_often(folder: Path, times: int, source: random.Random) -> Tally:
    """Start the campaign again and again; kill -9 the process, or one of its workers, at random moments."""
    tally = Tally()
    while tally.kills + tally.workers < times:
        with start_process(*command(folder, source.choice([1, 2, 3]))) as process:
            wait_for(process)
            while tally.kills + tally.workers < times:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(source.uniform(0.0, LONGEST_WAIT))
                if process.poll() is not None:
                    tally.wrong.append(f"the campaign ended by itself: {process.communicate()[1]}")
                    return tally
                if (workers := children(process.pid)) and source.random() < 0.5:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(source.choice(workers), signal.SIGKILL)
                        tally.workers += 1
                else:
                    process.kill()
                    tally.kills += 1
                    break
            process.kill()
            process.communicate()
    return tally


def signal_often(folder: Path, times: int, source: random.Random) -> Tally:
    """Start the campaign again and again; send it a signal or two at random; look at the store after its end."""
    tally = Tally()
    while tally.signals < times:
        one = source.choice(SIGNALS)
        with start_process(*command(folder, source.choice([1, 2, 3]))) as process:
            wait_for(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(source.uniform(0.0, LONGEST_WAIT))
            began = time.monotonic()
            process.send_signal(one)
            if source.random() < SHARE_OF_SECOND_SIGNALS:
                time.sleep(source.uniform(0.0, LONGEST_PATIENCE))
                process.send_signal(one)
            _, err = process.communicate(timeout=60)
            took = time.monotonic() - began
        tally.signals += 1
        tally.longest = max(tally.longest, took)
        tally.wrong += wrong_after(folder, one, process.returncode, err)
    return tally


def wait_for(process: subprocess.Popen[str]) -> None:
    """Wait until the process catches signals, or has ended."""
    wait_until(lambda: catches(process.pid) or process.poll() is not None)


def wrong_after(folder: Path, one: signal.Signals, code: int, err: str) -> list[str]:
    """What is wrong after a signal: the exit code, a traceback, or the store."""
    wrong = []
    if code != 128 + one:
        wrong.append(f"{one.name}: exit code {code}")
    if "Traceback" in err or "internal error" in err:
        wrong.append(f"{one.name}: {err}")
    if (folder / FILE).exists() and (said := checked(folder)) != "ok":
        wrong.append(f"{one.name}: {said}")
    return wrong


def checked(folder: Path) -> str:
    """What SQLite says of the database."""
    with contextlib.closing(sqlite3.connect(folder / FILE)) as database:
        return str(database.execute("PRAGMA integrity_check").fetchone()[0])


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []
