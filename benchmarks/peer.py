"""A peer: another exploration tool, installed once in its own environment, run as a process, asked over a pipe."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

from protocol.atomic import write_file

ROOT = Path(__file__).parents[1]
HOME = ROOT / "build" / "peers"
PYTHON = HOME / "bin" / "python"
LOCK = Path(__file__).with_name("peers.lock")


class PeerError(Exception):
    """A peer cannot be started, or cannot answer a request."""


@attrs.define(eq=False)
class Peer:
    """A process that explores programs with another tool."""

    name: str
    process: subprocess.Popen[str]
    version: str = ""

    @classmethod
    def start(cls, name: str, stack: ExitStack) -> Peer:
        """Start the peer; it ends with *stack*."""
        command = [str(PYTHON), "-m", "benchmarks.peers.serve", name]
        process = subprocess.Popen(  # noqa: S603 -- this repository's module, in its own environment
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        stack.enter_context(process)
        stack.callback(process.kill)
        peer = cls(name, process)
        peer.version = peer._answer()["version"]
        return peer

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request, and wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            msg = f"{self.name} does not answer: it ended with {self.process.wait()}"
            raise PeerError(msg)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def search(self, program: str, arguments: Sequence[int], strategy: str, *, seed: int, schedules: int) -> int:
        """Try so many schedules without looking for a flaw; return their number."""
        answer = self.ask(
            program=program, arguments=arguments, strategy=strategy, seed=seed, schedules=schedules, hunts=False
        )
        return int(answer["schedules"])

    def first_flaw(self, program: str, arguments: Sequence[int], strategy: str, *, seed: int, budget: int) -> int:
        """The number of schedules to the flaw; *budget* + 1 if it is not found."""
        answer = self.ask(
            program=program, arguments=arguments, strategy=strategy, seed=seed, schedules=budget, hunts=True
        )
        return int(answer["schedules"]) if answer["found"] else budget + 1


def start_peers(names: Iterable[str], stack: ExitStack) -> tuple[dict[str, Peer], list[str]]:
    """The peers that could be started, and a line about each that could not."""
    peers: dict[str, Peer] = {}
    notes = []
    try:
        make_home()
    except (OSError, subprocess.SubprocessError) as error:
        return {}, [f"the peers could not be installed, so nothing is compared with them: {error}"]
    for name in names:
        try:
            peers[name] = Peer.start(name, stack)
        except (OSError, PeerError) as error:
            notes.append(f"{name} takes no part: {error}")
    return peers, notes


def make_home() -> None:
    """Make the environment with the packages of peers.lock, unless it exists."""
    done = HOME / "installed"
    if done.exists() and done.read_text(encoding="utf-8") == LOCK.read_text(encoding="utf-8"):
        return
    print("search: installing the peers ...", file=sys.stderr)
    venv.create(HOME, with_pip=True)
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--requirement", str(LOCK)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 -- as above
    write_file(done, LOCK.read_text(encoding="utf-8"), overwrite=True)
