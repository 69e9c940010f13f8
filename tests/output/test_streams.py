"""Standard streams that are closed, full, unread or of a small encoding: no traceback, and the right exit code."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TextIO

import pytest

from explorer.cli import main
from explorer.streams import Outlet
from tests.conftest import Command
from tests.growth.test_command import TINY_OPTIONS
from tests.helpers import MODULE, ROOT, read_payloads, run_small, without_findings

TRACE = ROOT / "tests" / "data" / "ftrace-linux-5.3.1-create.txt"
TINY = [*TINY_OPTIONS, "--workers", "1"]

COMMANDS = {
    "list": (["list"], 0),
    "log": (["log", "x.log"], 0),
    "run": (["run", "rmdir-empty", "--log", "new.log", "--force"], 0),
    "run finds": (["run", "canary", "--log", "new.log", "--force"], 1),
    "run --json": (["run", "canary", "--no-log", "--json"], 1),
    "replay": (["replay", "x.log"], 1),
    "explore": (["explore", "canary", "--budget", "3"], 1),
    "explore --json": (["explore", "rmdir-empty", "--budget", "3", "--json"], 0),
    "explain": (["explain", "x.log"], 1),
    "explain html": (["explain", "x.log", "--format", "html"], 1),
    "keep": (["keep", "x.log", "--dir", "kept", "--force"], 0),
    "keep --check": (["keep", "--check", "empty"], 0),
    "slabinfo": (["slabinfo", "x.log"], 0),
    "slabinfo binary": (["slabinfo", "x.log", "--file", "kpagecgroup"], 0),
    "--help": (["--help"], 0),
}
"""The exit code of each command, when its output is read or discarded. These run in this process."""

QUICK = {"list", "log", "run finds", "slabinfo binary", "keep --check", "--help"}

SLOW = {
    "shrink": (["shrink", "x.log", "--out", "short.log", "--force", "--budget", "20"], 1),
    "match": (["match", str(TRACE), "--kernel", "5.3", "--scenario", "traced-create"], 0),
    "growth": (["growth", *TINY], 0),
    "wrong": (["run", "nothing"], 2),
}
"""The other commands, which run in processes."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a log that has a finding."""
    monkeypatch.chdir(tmp_path)
    run_small("canary", log=tmp_path / "x.log")
    (tmp_path / "empty").mkdir()
    return tmp_path


def command(*arguments: str) -> int:
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


# -- in this process --------------------------------------------------------------------------------------------------


def unread_pipe() -> TextIO:
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


STREAMS: dict[str, Callable[[], TextIO | None]] = {
    "closed": lambda: None,
    "unread": unread_pipe,
    "full": lambda: os.fdopen(os.open("/dev/full", os.O_WRONLY), "w"),
    "ascii": lambda: io.TextIOWrapper(io.BytesIO(), "ascii"),
    "latin-1": lambda: io.TextIOWrapper(io.BytesIO(), "latin-1"),
}


@contextmanager
def standard_output(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replace standard output by one of STREAMS. A fixture cannot: pytest sets its own stream before the test."""
    out = STREAMS[name]()
    monkeypatch.setattr(sys, "stdout", out)
    yield
    if out is not None:
        out.close()  # as Python does at its exit; it fails if there is unwritten output


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in COMMANDS])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_command_ends_by_its_verdict_whatever_standard_output_is(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stream: str, name: str
) -> None:
    arguments, verdict = COMMANDS[name]
    lost = stream == "full"
    with standard_output(stream, monkeypatch):
        assert command(*arguments) == (verdict or 2 if lost else verdict)
    told = "slabrace: standard output: cannot write it: No space left on device\n" if lost else ""
    assert without_findings(capsys.readouterr().err) == told
    if (folder / "new.log").exists():
        assert read_payloads(folder / "new.log"), "the log is whole"


def test_the_first_error_of_a_stream_stays_and_the_rest_goes_nowhere() -> None:
    with closing(STREAMS["full"]()) as full:  # type: ignore[type-var]  # it is open
        outlet = Outlet(full)

        assert outlet.write("x") == 1
        outlet.flush()
        error = outlet.error
        outlet.write_bytes(b"x")
        outlet.flush()

        assert outlet.error is error is not None


def test_errors_do_not_go_to_standard_output_if_there_is_no_place_for_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)

    assert command("run", "nothing") == 2
    assert capsys.readouterr().out == ""


def test_the_streams_are_given_back() -> None:
    before = sys.stdout, sys.stderr
    command("list", "kernels")

    assert (sys.stdout, sys.stderr) == before


# -- files that cannot be written -------------------------------------------------------------------------------------


def test_explore_answers_although_it_cannot_log(slabrace: Command, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    answer = slabrace("explore", "canary", "--budget", "5")

    assert answer.code == 1
    assert "5 schedules" in answer.out
    assert "log: " not in answer.out
    assert re.fullmatch(r"slabrace: runs/canary\S+\.log: cannot write it: Not a directory\nfound in .*\n", answer.err)


def test_a_search_for_a_trace_answers_although_it_cannot_log(
    slabrace: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explorer.cli.match.check_free", lambda *_, **__: None)
    (tmp_path / "file").touch()
    answer = slabrace("match", TRACE, "--kernel", "5.3", "--scenario", "traced-create", "--log", "file/x.log")

    assert answer.code == 2
    assert "lines matched" in answer.out
    assert answer.err == "slabrace: file/x.log: cannot write it: Not a directory\n"


@pytest.mark.slow
def test_growth_answers_although_it_cannot_write_its_figures(
    slabrace: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explorer.cli.growth.check_free", lambda *_, **__: None)
    (tmp_path / "file").touch()
    answer = slabrace("growth", *TINY, "--csv", "file/x.csv")

    assert answer.code == 2
    assert "mean error" in answer.out
    assert answer.err == "slabrace: file/x.csv: cannot write it: Not a directory\n"


# -- processes --------------------------------------------------------------------------------------------------------

ENVIRONMENTS = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1", "TERM": "dumb", "COLUMNS": "40"},
}

REDIRECTIONS = ["| head -n 1", ">&-", "2>&-", "<&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "> /dev/full 2>&1"]

EVERY = {**COMMANDS, **SLOW}


def environment_with(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process with *variables*, usable in another folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}


def check_shell(line: str, name: str, environment: dict[str, str]) -> None:
    arguments, verdict = EVERY[name]
    script = f'set -o pipefail; "$@" {line}'
    words = ["/bin/bash", "-c", script, "bash", *MODULE, *arguments]
    answer = subprocess.run(words, env=environment_with(environment), capture_output=True, check=False)  # noqa: S603 -- a command of the tests
    told = without_findings(answer.stderr.decode())
    allowed = {verdict}
    if "/dev/full" in line and not line.startswith("2"):
        allowed = {verdict or 2}

    assert answer.returncode in allowed, (name, line, told)
    assert "Traceback" not in told
    assert "Exception" not in told
    assert told.count("\n") == (1 if (name == "wrong" or line == ">/dev/full") and "2>" not in line else 0), told


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("line", REDIRECTIONS)
def test_a_process_ends_by_its_verdict_whatever_its_streams_are(line: str) -> None:
    for name in ("run", "run finds", "log", "wrong"):
        if not (name == "wrong" and line == ">/dev/full"):
            check_shell(line, name, {})


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=list(ENVIRONMENTS))
def test_every_command_can_print_on_every_terminal(environment: dict[str, str]) -> None:
    for name in EVERY:
        check_shell("", name, environment)


def on_terminal(*arguments: str, columns: int, **environment: str) -> str:
    """The output of a command on a terminal with *columns* columns, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    path = str(Path(__file__).parents[2])
    with subprocess.Popen(  # noqa: S603 -- a command of the tests
        [*MODULE, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": path, **environment},
    ):
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 1 << 16):
                shown += data
        except OSError:  # the terminal is closed
            os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n")


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"TERM": "xterm"}, {"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}])
def test_on_40_columns_nothing_is_cut_off_and_what_is_to_be_pasted_is_one_line(
    folder: Path, environment: dict[str, str]
) -> None:
    log = folder / ("a long name of a file " * 4) / ("with more words " * 4 + ".log")
    shown = on_terminal("run", "canary", "--log", str(log), columns=40, **environment)

    assert f"\nlog: {log}\n" in shown
    assert f"\nreplay: slabrace replay '{log}'\n" in shown
    assert "the canary's counter" in shown
    assert "\u2026" not in shown


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_every_command_can_print_on_40_columns() -> None:
    for name, (arguments, _) in EVERY.items():
        shown = on_terminal(*arguments, columns=40, TERM="xterm")

        assert shown, name
        assert "Traceback" not in shown, name
