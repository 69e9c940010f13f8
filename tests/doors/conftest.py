"""A folder of a stranger, in which commands run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from explorer.cli import main
from tests.doors import files

Told = tuple[int, str, str]
Command = Callable[..., Told]

MARKERS = (Path("scenario-ran"), Path("oracle-ran"))
"""What the stranger's files make when they are run."""


def what_ran() -> set[str]:
    """Which kinds of files were run by the last command."""
    return {path.name.removesuffix("-ran") for path in MARKERS if path.exists()}


@pytest.fixture
def slabrace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in the folder, and forgets what ran before it."""
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
