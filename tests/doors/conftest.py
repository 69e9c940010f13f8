"""A user's folder with files of its own, in which commands run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from explorer.cli import main
from tests.doors import files

Told = tuple[int, str, str]
Command = Callable[..., Told]

MARKERS = (Path("scenario-ran"), Path("oracle-ran"))
"""The files that the user's files make when they are run."""


def what_ran() -> set[str]:
    """The kinds of files that the last command has run."""
    return {path.name.removesuffix("-ran") for path in MARKERS if path.exists()}


@pytest.fixture
def slabrace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in the folder, after removing the marks of files that ran before."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("mine.py", files.SCENARIO), ("eyes.py", files.ORACLE), ("stubborn.py", files.STRATEGY)):
        Path(name).write_text(text)

    def run(*words: object) -> Told:
        for path in MARKERS:
            path.unlink(missing_ok=True)
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run
