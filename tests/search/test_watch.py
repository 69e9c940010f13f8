"""The watch: its answers do not depend on when it reads its journal, and it notes the choices of the strategy."""

from __future__ import annotations

from typing import Any

import pytest

from explorer import watch
from explorer.experiment import Experiment, RunOptions
from explorer.search.jobs import run_watched
from explorer.search.registry import make_strategy
from tests.search.noting import Noting

SCENARIOS = ("destroy-vs-offline", "offline-vs-free", "readers-vs-rmdir")


def results(scenario: str, seed: int) -> list[Any]:
    """Everything that the watch says about one random run with faults, which are choices within steps."""
    options = RunOptions(scenario=scenario, kernel="5.4-fixed", driver="stepper", faults={"page": 0.2})
    _, seen = run_watched(Experiment.of(options), make_strategy("random", seed))
    return [
        seen.trace_class(),
        seen.profile(),
        seen.covered_functions(),
        seen.racing_pairs(),
        seen.choices,
        seen.switches,
        seen.log10_alternatives,
        seen.schedule,
    ]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("batch", [0, 1, 7, 100])
def test_the_answer_is_the_same_for_every_length_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, scenario: str, batch: int
) -> None:
    for seed in range(3):
        at_once = results(scenario, seed)
        monkeypatch.setattr(watch, "BATCH", batch)
        assert results(scenario, seed) == at_once
        monkeypatch.undo()


def test_the_schedule_has_the_choices_of_the_strategy() -> None:
    values = 0
    for scenario in SCENARIOS:
        options = RunOptions(scenario=scenario, kernel="5.4-fixed", driver="stepper", faults={"page": 0.2})
        for seed in range(5):
            noting = Noting(make_strategy("random", seed))
            _, seen = run_watched(Experiment.of(options), noting)
            assert seen.schedule == noting.choices
            values += sum(isinstance(choice, int) for choice in noting.choices)
    assert values > 0
