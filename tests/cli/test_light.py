"""Commands without a kernel do not import it: help, usage errors, and commands that only read a log or a list."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from actors.files.kernel_files import FILES
from explorer import defaults, experiment
from explorer.cli.list import _CATALOGUES
from explorer.cli.usage import COMMANDS
from explorer.explain import FORMATS
from protocol.vocabulary import DRIVERS
from scenarios import find_scenario
from tests.helpers import run_process, run_small

SCRIPT = """
import json, sys
from explorer.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
heavy = sorted({name.partition(".")[0] for name in sys.modules} & {"actors", "scenarios", "trio", "matplotlib"})
print(json.dumps([code or 0, heavy]))
"""

LIGHT: tuple[tuple[list[str], int], ...] = (
    (["--version"], 0),
    (["--help"], 0),
    ([], 2),
    *(([name, "--help"], 0) for name in COMMANDS),
    (["nosuch"], 2),
    (["run"], 2),
    (["run", "canary", "--nosuch"], 2),
    (["explore", "canary", "--budget", "0"], 2),
    (["explain", "x.log", "--format", "nosuch"], 2),
    (["list", "strategies"], 0),
    (["list", "oracles", "--json"], 0),
    (["log", "canary.log"], 0),
    (["log", "canary.log", "--json", "--last", "3"], 0),
    (["log", "canary.log", "--patches"], 0),
    (["log", "nosuch.log"], 2),
)


def imported_by(arguments: list[str], cwd: Path) -> tuple[int, list[str]]:
    """The exit code of a command, and the heavy packages that it has imported."""
    answer = run_process(sys.executable, "-c", SCRIPT, *arguments, cwd=cwd)
    code, heavy = json.loads(answer.stdout.splitlines()[-1])
    return code, heavy


@pytest.mark.parametrize(("arguments", "code"), LIGHT, ids=[" ".join(line) or "nothing" for line, _ in LIGHT])
def test_a_command_that_needs_no_kernel_imports_none(arguments: list[str], code: int, tmp_path: Path) -> None:
    if "canary.log" in arguments:
        run_small("canary", log=tmp_path / "canary.log")

    assert imported_by(arguments, tmp_path) == (code, [])


def test_the_test_sees_the_kernel_of_a_command_that_needs_it(tmp_path: Path) -> None:
    code, heavy = imported_by(["run", "canary", "--no-log"], tmp_path)

    assert code == 1
    assert heavy == ["actors", "scenarios", "trio"]


def test_the_names_in_the_help_are_those_that_there_are() -> None:
    """The names are duplicated, because the help does not import the modules that define them."""
    assert list(experiment.DRIVERS) == list(DRIVERS)
    assert [file.name for file in FILES] == list(defaults.KERNEL_FILES)
    assert list(FORMATS) == list(defaults.EXPLAIN_FORMATS)
    assert list(_CATALOGUES) == list(defaults.CATALOGUES)
    assert [find_scenario(name).name for name in defaults.TRACED] == list(defaults.TRACED)
