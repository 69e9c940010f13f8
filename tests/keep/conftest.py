"""A log to keep, and an empty working directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from explorer.cli import main
from explorer.experiment import RunOptions
from explorer.session import run


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of a run of the canary that has lost an update; its folder is the current directory."""
    monkeypatch.chdir(tmp_path)
    path = Path("canary.log")
    result = run(RunOptions(scenario="canary", settings={"rounds": "1"}, driver="stepper", seed=1), log=path)
    assert result.outcome == "finding"
    return path


@pytest.fixture
def kept(log: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The regression file that was made from *log*."""
    assert main(["keep", str(log), "--name", "lost"]) == 0
    capsys.readouterr()
    return Path("regressions/lost.json")
