"""Real commands in processes that get a signal at a random moment, and the conditions that must hold afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from explorer.cli import main
from tests.helpers import MODULE, start_process

PATIENCE = 2.0
"""The time within which a command has answered and all its processes are gone (s)."""

GONE = 0.5
"""The time after kill -9 within which all processes of the command are gone (s)."""

MARK = "SLABRACE_TEST_MARK"
FOUND = re.compile(r"^found in schedule \d+: .*; log: (?P<log>.+)$", re.MULTILINE)

LONG = 100_000
"""An amount of work with which no command ends before its signal."""


@attrs.frozen
class Kind:
    """A command to attack: its words, and the latest time of the signal (s). *log*: it needs a log with a finding."""

    words: tuple[str, ...]
    seconds: float
    log: bool = False


KINDS = {
    "run": Kind(("run", "shared-dentry", "--set", f"generations={LONG}", "--log", "x.log", "--json"), 1.5),
    "explore": Kind(("explore", "rmdir-under-load", "--budget", str(LONG), "--workers", "2", "--json"), 3.0),
    "shrink": Kind(("shrink", "found.log", "--out", "short.log", "--json"), 1.5, log=True),
    "keep": Kind(("keep", "found.log", "--json"), 0.35, log=True),
    "growth": Kind(("growth", "--days", "3", "--hosts", "2", "--json", "--csv", "growth.csv"), 3.0),
    "explain": Kind(("explain", "found.log", "--json"), 1.0, log=True),
    "replay": Kind(("replay", "found.log", "--json"), 0.6, log=True),
}


@attrs.frozen
class Ended:
    """The end of a command. `was_alive`: at the signal; `seconds`: the time from the signal to the end."""

    code: int
    out: str
    err: str
    was_alive: bool
    seconds: float
    left: list[int]


def make_log(folder: Path) -> Path:
    """A log with a finding, for the kinds that need one."""
    folder.mkdir(exist_ok=True)
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main(["explore", "rmdir-under-load", "--first", "--strategy", "pos"]) == 1
    (log,) = folder.glob("runs/*.log")
    return log


def attack(kind: Kind, folder: Path, log: Path, one: signal.Signals, seconds: float) -> Ended:
    """Run the command in the new *folder*, and send the signal *seconds* after the first line of its own code."""
    folder.mkdir()
    if kind.log:
        (folder / "found.log").write_bytes(log.read_bytes())
    mark = uuid.uuid4().hex
    with start_process(*MODULE, *kind.words, cwd=folder, environment={MARK: mark}) as process:
        wait_until(lambda: catches(process.pid) or process.poll() is not None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        was_alive = process.poll() is None
        process.send_signal(one)
        began = time.monotonic()
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - began
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not family(mark), GONE)
    return Ended(process.returncode, out, err, was_alive, took, list(family(mark)))


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Poll until *condition* holds; TimeoutError if it does not."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.001)


def catches(pid: int) -> bool:
    """Whether the process has reached slabrace's own code, which catches SIGTERM."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        mask = re.search(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
        return mask is not None and bool(int(mask[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def family(mark: str) -> Iterator[int]:
    """The processes with the mark in their environment; zombie processes have none."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                yield int(folder.name)


# -- conditions -------------------------------------------------------------------------------------------------------


def wrong_with_any(ended: Ended, folder: Path) -> Iterator[str]:
    """Violated conditions that hold for every signal."""
    if ended.left:
        yield f"orphans {ended.left}"
    if "Traceback" in ended.err or "Exception ignored" in ended.err or "internal error" in ended.err:
        yield f"said {ended.err}"
    for path in folder.rglob("*"):
        if path.name.startswith(".") or path.suffix in {".tmp", ".part"}:
            yield f"temporary file {path.relative_to(folder)}"


def wrong_after_kill(ended: Ended, folder: Path, log: Path) -> Iterator[str]:
    """Violations after kill -9: reported logs must be complete, other logs must be prefixes that replay."""
    yield from wrong_with_any(ended, folder)
    if ended.was_alive and ended.code != -signal.SIGKILL:
        yield f"exit code {ended.code}"
    for found in FOUND.findall(ended.err):
        if replayed(folder / found) != 1:
            yield f"{found} does not show what was reported"
    for path in folder.rglob("*.log"):
        if replayed(path) not in {0, 1}:
            yield f"{path.name} ({path.stat().st_size} bytes) does not replay: {replayed(path)}"
    yield from wrong_with_files(folder, log)


def wrong_with_files(folder: Path, log: Path) -> Iterator[str]:
    """Violations in files: inputs must be unchanged, outputs must be complete."""
    copy = folder / "found.log"
    if copy.exists() and digest(copy) != digest(log):
        yield "the log that was read is another now"
    for path in folder.rglob("*.json"):
        with contextlib.suppress(ValueError):
            json.loads(path.read_text(encoding="utf-8"))
            continue
        yield f"{path.name} is not whole"
    table = folder / "growth.csv"
    if table.exists() and not table.read_text(encoding="utf-8").endswith("\n"):
        yield "growth.csv is not whole"


def wrong_after_signal(one: signal.Signals, ended: Ended, folder: Path, log: Path) -> Iterator[str]:
    """Violations after a signal: the exit code must fit, the end must be quick, the answer must be valid."""
    yield from wrong_with_any(ended, folder)
    yield from wrong_with_files(folder, log)
    if ended.was_alive and ended.code not in {128 + one, *([0, 1] if ended.out else [])}:
        yield f"exit code {ended.code}"
    if ended.was_alive and ended.seconds > PATIENCE:
        yield f"took {ended.seconds:.1f} s"
    if ended.out:
        with contextlib.suppress(ValueError):
            answer = json.loads(ended.out)
            if (answer["outcome"] == "interrupted") != (ended.code == 128 + one):
                yield f"outcome {answer['outcome']}, exit code {ended.code}"
            return
        yield f"answer {ended.out[-200:]}"


def replayed(log: Path) -> int:
    """The exit code of `slabrace replay`."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return main(["replay", str(log), "--driver", "stepper"])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- many attacks -----------------------------------------------------------------------------------------------------


@attrs.define
class Tally:
    """The totals of many attacks. `effective`: the number of attacks on a process that was still running."""

    attacks: int = 0
    effective: int = 0
    answers: int = 0
    slowest: float = 0.0
    wrong: list[str] = attrs.field(factory=list)

    def add(self, name: str, ended: Ended, wrong: Iterator[str]) -> None:
        """Add one attack."""
        self.attacks += 1
        self.effective += ended.was_alive
        self.answers += bool(ended.out)
        self.slowest = max(self.slowest, ended.seconds if ended.was_alive else 0.0)
        self.wrong += [f"{name}: {text}" for text in wrong]

    def __str__(self) -> str:
        return (
            f"{self.attacks} attacks, {self.effective} effective, {self.answers} answers, {self.slowest:.2f} s at most"
        )


def attack_often(name: str, one: signal.Signals, times: int, folder: Path, log: Path) -> Tally:
    """Attack a command of this kind at *times* pseudo-random moments from a fixed seed."""
    kind, tally, moments = KINDS[name], Tally(), random.Random(f"{name} {one.name}")
    for number in range(times):
        seconds, own = moments.uniform(0, kind.seconds), folder / f"{name}-{one.name}-{number}"
        ended = attack(kind, own, log, one, seconds)
        is_kill = one == signal.SIGKILL
        wrong = wrong_after_kill(ended, own, log) if is_kill else wrong_after_signal(one, ended, own, log)
        tally.add(f"{name}, {one.name} after {seconds:.4f} s", ended, wrong)
    return tally
