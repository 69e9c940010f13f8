"""The project of docs/your-own.md, built outside of the repository and run by a given Python.

`try_project(python, place)` is for any environment that has slabrace and pytest: the checkout's, or one with the wheel.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.tidy.sources import ROOT

PAGE = ROOT / "docs" / "your-own.md"
BLOCK = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^\$ slabrace (.+)$", re.MULTILINE)

EXIT_CODES = {"explore": 1, "shrink": 1, "explain": 1, "keep": 0}
"""What the commands of the page end with; the last search finds nothing."""


def files_of_page() -> dict[str, str]:
    """The files that the page shows, by their paths."""
    return dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))


def commands_of_page() -> list[list[str]]:
    """The words of each command that the page shows."""
    return [line.split() for line in COMMANDS.findall(PAGE.read_text(encoding="utf-8"))]


def write_project(place: Path) -> None:
    """Write the files of the page below *place*."""
    for name, text in files_of_page().items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def try_project(python: Path, place: Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Build the project in the empty folder *place*, and do all that the page says with *python*.

    Returns the output of each command, by its words. AssertionError if one ends otherwise than the page says.
    """
    write_project(place)
    env = dict(os.environ if environment is None else environment)
    said: dict[str, str] = {}

    def run(code: int, *words: str) -> str:
        answer = subprocess.run(  # noqa: S603 -- our own words
            [python, "-m", *words], capture_output=True, text=True, check=False, cwd=place, env=env
        )
        assert answer.returncode == code, f"{' '.join(words)}: {answer.returncode}\n{answer.stdout}{answer.stderr}"
        said[" ".join(words)] = answer.stdout
        return answer.stdout

    for words in commands_of_page():
        expected = 0 if "--patch" in words else EXIT_CODES[words[0]]
        given = [str(the_log(place)) if word == "LOG" else word for word in words]
        run(expected, "slabrace", *given)
    run(2, "slabrace", "replay", str(the_log(place)))
    run(1, "slabrace", "replay", str(the_log(place)), "--trust")
    run(0, "slabrace", "keep", "--check", "regressions", "--trust")
    run(0, "pytest", "-q", "-p", "no:cacheprovider")
    return said


def the_log(place: Path) -> Path:
    """The log of the finding, from the folder of the project; the short one, once there is one."""
    return min(
        (path.relative_to(place) for path in place.glob("runs/*.log")), key=lambda path: (-len(path.suffixes), path)
    )
