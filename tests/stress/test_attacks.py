"""kill -9 of the campaign or of its workers loses no schedule, and a signal ends it soon; both at random moments."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.stress.attacks import answer, kill_often, signal_often

BUDGET = 4_000


@pytest.mark.slow
def test_kills_and_signals_change_nothing(tmp_path: Path) -> None:
    """`python -m tests.stress` does the same more often, and measures how soon a signal ends the campaign."""
    source = random.Random(1)
    killed = kill_often(tmp_path / "disturbed", BUDGET, 10, source)
    told = signal_often(tmp_path / "disturbed", BUDGET, 10, source)

    assert killed.wrong == told.wrong == []
    assert answer(tmp_path / "disturbed", BUDGET) == answer(tmp_path / "whole", BUDGET)
