"""Killed processes and file size limits leave either the old file or the new one, and no other file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from explorer.session import replay
from tests.helpers import MODULE, ROOT, run_process, run_small, without_findings

pytestmark = pytest.mark.slow

KILLED = """
import os, signal, sys
import explorer.cli.run

class Progress(explorer.cli.run.LiveProgress):
    def __call__(self, world):
        if world.steps > 20_000:
            os.kill(os.getpid(), signal.SIGKILL)

explorer.cli.run.LiveProgress = Progress
sys.exit(explorer.cli.main(sys.argv[1:]))
"""

LONG_RUN = ("run", "shared-dentry", "--set", "generations=100000", "--driver", "stepper")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("is_there", [False, True])
def test_kill_9_leaves_the_old_log_or_what_a_new_one_has(tmp_path: Path, *, is_there: bool) -> None:
    log = tmp_path / "x.log"
    if is_there:
        run_small("canary", log=log)
    before = log.read_bytes() if is_there else b""
    answer = run_process(sys.executable, "-c", KILLED, *LONG_RUN, "--log", str(log), "--force")

    assert answer.returncode == -9
    assert names_in(tmp_path) == ["x.log"]
    if is_there:
        assert log.read_bytes() == before
    else:
        assert replay(log, driver="stepper", until=5_000).divergence is None


AT_EACH_CALL = """
import os, signal, sys
from pathlib import Path
from protocol import atomic

left = int(sys.argv[2])
def die(real):
    def call(*arguments, **more):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **more)
    return call

for name in ("open", "write", "link", "fsync", "fchmod", "close", "replace"):
    setattr(os, name, die(getattr(os, name)))
atomic.write_file(Path(sys.argv[1]), b"new", overwrite=True)
"""


@pytest.mark.parametrize("is_there", [False, True])
def test_kill_9_before_any_call_of_the_writer_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, *, is_there: bool
) -> None:
    """A temporary name exists only before one call, the rename of a file that replaces another."""
    path, seen = tmp_path / "file", []
    for calls in range(20):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        if is_there:
            path.write_bytes(b"old")
        code = run_process(sys.executable, "-c", AT_EACH_CALL, str(path), str(calls)).returncode
        seen.append(path.read_bytes() if path.exists() else b"")
        beside = [name for name in names_in(tmp_path) if name != "file"]

        assert len(beside) <= (is_there and seen[-1] == b"old")
        if code == 0:
            break
    first = b"old" if is_there else b""
    assert seen == [first] * seen.count(first) + [b"new"] * seen.count(b"new"), "never anything else"
    assert seen.count(first) > 2
    assert seen[-1] == b"new"


def run_limited(script: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command after *script* has set its limits."""
    words = ["/bin/bash", "-c", f'{script} && exec "$@"', "bash", *MODULE, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 -- a command of the tests


def test_a_log_that_grows_too_large_is_removed_and_the_old_one_stays(tmp_path: Path) -> None:
    for name in ("new.log", "old.log"):
        if name == "old.log":
            run_small("canary", log=tmp_path / name)
        before = (tmp_path / name).read_bytes() if name == "old.log" else None
        answer = run_limited("ulimit -f 100", tmp_path, *LONG_RUN, "--log", name, "--force")

        assert answer.returncode == 2
        assert answer.stderr == f"slabrace: {name}: cannot write it: File too large\n"
        assert ((tmp_path / name).read_bytes() if (tmp_path / name).exists() else None) == before
    assert names_in(tmp_path) == ["old.log"]


def test_explore_answers_although_the_disk_is_full(tmp_path: Path) -> None:
    answer = run_limited("ulimit -f 1", tmp_path, "explore", "canary", "--budget", "5")

    assert answer.returncode == 1
    assert "canary: an update was lost" in answer.stdout
    assert answer.stderr.startswith("slabrace: runs/canary-")
    assert without_findings(answer.stderr).endswith(".log: cannot write it: File too large\n")
    assert names_in(tmp_path / "runs") == []
