"""A peer: another exploration tool, installed once in its own environment, run as a process, asked over a pipe.

The peers run on the Python of slabrace. One that needs a later Python runs on the first such Python that is found here;
the report has a note about it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

from protocol.atomic import write_file

ROOT = Path(__file__).parents[1]
LOCK = Path(__file__).with_name("peers.lock")
LEAST = {"simloom": 12}
"""The minor version of Python 3 that a peer needs, if slabrace does not need it, too."""


class PeerError(Exception):
    """A peer cannot be started, or cannot answer a request."""


@attrs.define(eq=False)
class Peer:
    """A process that explores programs with another tool."""

    name: str
    process: subprocess.Popen[str]
    version: str = ""

    @classmethod
    def start(cls, name: str, python: Path, stack: ExitStack) -> Peer:
        """Start the peer on the *python* of its environment; it ends with *stack*."""
        command = [str(python), "-m", "benchmarks.peers.serve", name]
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
    """The peers that could be started, and a line about each that could not, or runs on another Python."""
    peers: dict[str, Peer] = {}
    notes = []
    for name in names:
        least = LEAST.get(name, sys.version_info.minor)
        python = find_python(least)
        if python is None:
            notes.append(f"{name} takes no part: it needs Python 3.{least} or later, and none is here")
            continue
        try:
            peers[name] = Peer.start(name, make_home(python), stack)
        except (OSError, subprocess.SubprocessError, PeerError) as error:
            notes.append(f"{name} takes no part: {error}")
            continue
        if python != Path(sys.executable):
            notes.append(f"{name} runs on {version_of(python)}, because it needs Python 3.{least} or later")
    return peers, notes


def make_home(python: Path) -> Path:
    """The Python of an environment with the packages of peers.lock, which is made unless it exists."""
    home = ROOT / "build" / f"peers-{version_of(python).replace(' ', '-')}"
    own, done = home / "bin" / "python", home / "installed"
    if done.exists() and done.read_text(encoding="utf-8") == LOCK.read_text(encoding="utf-8"):
        return own
    print("search: installing the peers ...", file=sys.stderr)
    install = [str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    install += ["--require-hashes", "--requirement", str(LOCK)]
    for command in ([str(python), "-m", "venv", "--clear", str(home)], install):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 -- as above
    write_file(done, LOCK.read_text(encoding="utf-8"), overwrite=True)
    return own


def find_python(least: int) -> Path | None:
    """Find a Python 3.*least* or later: the one that runs this, or the first of `candidates` that works; or None."""
    if sys.version_info.minor >= least:
        return Path(sys.executable)
    return next((path for path in candidates(least) if version_of(path)), None)


def candidates(least: int) -> Iterator[Path]:
    """Paths of a Python 3.*least* or later, on PATH and among the versions of pyenv; one may be a shim that fails."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for minor in range(least, least + 4):
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            yield Path(folder, f"python3.{minor}")
        yield from sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python"))


def version_of(python: Path) -> str:
    """The implementation and version of an interpreter that can make environments; empty if it does not run."""
    question = "import ensurepip, platform, venv; print(platform.python_implementation(), platform.python_version())"
    try:
        answer = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False)  # noqa: S603 -- a Python
    except OSError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
