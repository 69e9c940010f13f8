"""kill -9 of the campaign or of its workers loses no schedule, and a signal ends it soon; both at random moments."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.stress.attacks import answer, kill_often, planned, signal_often


@pytest.mark.slow
def test_kills_and_signals_change_nothing(tmp_path: Path) -> None:
    """`python -m tests.stress` does the same more often, and measures how soon a signal ends the campaign."""
    source = random.Random(1)
    killed = kill_often(tmp_path / "disturbed", 10, source)
    told = signal_often(tmp_path / "disturbed", 10, source)

    assert killed.wrong == told.wrong == []
    budget = planned(tmp_path / "disturbed")
    assert answer(tmp_path / "disturbed", budget) == answer(tmp_path / "whole", budget)
