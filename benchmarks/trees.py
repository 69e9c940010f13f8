"""Two trees of slabrace, the baseline and this one, each run in processes of its own, which are metered.

A tree is chosen by PYTHONPATH. Processes run in an empty directory, so neither tree is imported by accident, and no
kept findings are found there. CPU time is user and system time of a process and of the workers that it waited for:
other programs on the machine change it much less than they change the time by the clock.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from protocol.errors import UsageError

ROOT = Path(__file__).parents[1]
BASELINE = "22fdd8e"
"""The last commit before the work on speed."""

PACKAGES = ("protocol", "actors", "scenarios", "explorer", "slabrace", "benchmarks")
BEFORE, NOW = "baseline", "now"
NO_ERROR = (0, 1)
"""Exit codes of a command that did its work: nothing found, and a finding."""


class ProcessError(Exception):
    """A process did not do its work."""


@attrs.frozen
class Metered:
    """What a process printed, and its cost in seconds: of CPU, and by the clock."""

    output: str
    cpu: float
    wall: float


@attrs.frozen
class Tree:
    """A checked-out tree. Processes run in `place`."""

    name: str
    path: Path
    place: Path

    def slabrace(self, *arguments: str) -> Metered:
        """Run a command of slabrace."""
        return self.run("-m", "slabrace", *arguments)

    def run(self, *arguments: str) -> Metered:
        """Run Python with these arguments; ProcessError names the tree and has the last line on standard error."""
        environment = {**os.environ, "PYTHONPATH": str(self.path)}
        output, errors = self.place / "stdout", self.place / "stderr"
        with output.open("wb") as out, errors.open("wb") as err:
            began = time.perf_counter()
            with subprocess.Popen(  # noqa: S603 -- slabrace's own commands
                [sys.executable, *arguments], cwd=self.place, env=environment, stdout=out, stderr=err
            ) as process:
                try:
                    _, status, used = os.wait4(process.pid, 0)
                except BaseException:  # interrupted: it would run on for minutes, without a place
                    process.kill()
                    process.wait()
                    raise
                wall = time.perf_counter() - began
                process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in NO_ERROR:
            last = errors.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            msg = f"{self.name} ended with {process.returncode}: {last}"
            raise ProcessError(msg)
        return Metered(output.read_text(encoding="utf-8"), used.ru_utime + used.ru_stime, wall)


@contextmanager
def both_trees(commit: str = BASELINE) -> Iterator[tuple[Tree, Tree]]:
    """The tree of *commit*, checked out for as long as the context lasts, and this tree; both compiled."""
    with TemporaryDirectory(prefix="slabrace-") as folder:
        base, place = Path(folder, "base"), Path(folder, "place")
        place.mkdir()
        check_out(commit, base)
        for path in (base, ROOT):
            packages = [str(path / package) for package in PACKAGES]
            subprocess.run([sys.executable, "-m", "compileall", "-q", *packages], check=True)  # noqa: S603 -- Python's own
        yield Tree(BEFORE, base, place), Tree(NOW, ROOT, place)


def check_out(commit: str, target: Path, repository: Path = ROOT) -> None:
    """Write the files of *commit* to *target*; the repository is only read. UsageError if it lacks the commit."""
    archive = target.with_suffix(".zip")
    command = ["git", "-C", str(repository), "archive", "--format=zip", f"--output={archive}", commit]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 -- fixed arguments
    except OSError as error:
        reason = error.strerror or str(error)
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2]
    else:
        with zipfile.ZipFile(archive) as files:
            files.extractall(target)
        return
    msg = f"the baseline, commit {commit}, cannot be checked out: git: {reason}; run this in a full clone"
    raise UsageError(msg)
