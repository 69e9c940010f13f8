"""Completion in shells: commands, options, and the names that the commands take."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from actors.fixes import ALL_FIXES
from explorer.cli.usage import SHELLS, make_parser
from protocol.vocabulary import PROFILES
from scenarios import SCENARIOS
from tests.conftest import Command

COMPLETE = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_shtab_slabrace
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_script_with_all_names(slabrace: Command, shell: str) -> None:
    answer = slabrace("completion", shell)
    names = [*make_parser().commands, *PROFILES, *(scenario.name for scenario in SCENARIOS)]
    names += ["require-exhausted", *(fix.slug for fix in ALL_FIXES)]

    assert (answer.code, answer.err) == (0, "")
    for name in names:
        assert name in answer.out


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["slabrace", "exp"], ["explore", "explain"]),
        (["slabrace", "explore", "destroy-t"], ["destroy-typesafe", "destroy-two-typesafe"]),
        (["slabrace", "explore", "canary", "--req"], ["--require-exhausted"]),
        (["slabrace", "run", "canary", "--kernel", "5."], ["5.3", "5.4-fixed"]),
        (["slabrace", "explore", "canary", "--strategy", "dp"], ["dpor"]),
        (["slabrace", "replay", "canary."], ["canary.log"]),
    ],
    ids=" ".join,
)
def test_bash_completes(slabrace: Command, words: list[str], completed: list[str]) -> None:
    Path("canary.log").touch()
    Path("script").write_text(slabrace("completion", "bash").out)
    command = ["bash", "--norc", "-c", COMPLETE, "bash", "./script", *words]
    told = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 -- a command of the tests

    assert told.stdout.split() == completed
