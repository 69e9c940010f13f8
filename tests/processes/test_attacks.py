"""Kills and signals at pseudo-random moments from a fixed seed; `python -m tests.processes` makes more of them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from explorer.signals import SIGNALS
from tests.processes.__main__ import ANSWERING, KILLED
from tests.processes.attacks import attack_often, make_log

pytestmark = pytest.mark.slow

KILLS, STOPS, FEW = 6, 10, 1
"""The numbers of attacks: kill -9 of each command, each other signal to explore, and to each other command."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_log(tmp_path_factory.mktemp("found"))


@pytest.mark.parametrize("name", KILLED)
def test_a_command_that_is_killed_loses_nothing_and_leaves_no_process(name: str, tmp_path: Path, log: Path) -> None:
    tally = attack_often(name, signal.SIGKILL, KILLS, tmp_path, log)

    assert not tally.wrong
    assert tally.effective > KILLS // 2


@pytest.mark.parametrize("one", SIGNALS)
def test_a_search_ends_at_once_with_an_answer(one: signal.Signals, tmp_path: Path, log: Path) -> None:
    tally = attack_often("explore", one, STOPS, tmp_path, log)

    assert not tally.wrong
    assert tally.effective == STOPS
    assert tally.answers


@pytest.mark.parametrize("one", SIGNALS)
@pytest.mark.parametrize("name", ANSWERING)
def test_no_signal_is_lost(name: str, one: signal.Signals, tmp_path: Path, log: Path) -> None:
    tally = attack_often(name, one, FEW, tmp_path, log)

    assert not tally.wrong
    assert tally.effective
