"""One explanation that all read-only tests share, and a log of a failing run."""

from __future__ import annotations

from pathlib import Path

import pytest

from explorer.experiment import RunOptions
from explorer.explain import Explanation
from explorer.session import run
from tests.explain.stages import explain_free


@pytest.fixture(scope="session")
def explanation() -> Explanation:
    """The explanation of a box that is freed too early."""
    return explain_free()


@pytest.fixture(scope="session")
def canary_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of a run of the canary that has lost an update."""
    path = tmp_path_factory.mktemp("logs") / "canary.log"
    result = run(RunOptions(scenario="canary", settings={"rounds": "1"}, driver="stepper", seed=1), log=path)
    assert result.outcome == "finding"
    return path
