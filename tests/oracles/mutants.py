"""Kernels with one mistake each, as user patches, and the findings of random schedules of a scenario in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from explorer.experiment import Experiment, RunOptions
from explorer.profile import seed_of
from explorer.search.strategies.simple import RandomWalk
from scenarios.registry import Scenario
from tests.helpers import small_settings

SCHEDULES = 30


def signatures(
    scenario: str | Scenario,
    patch: Path | None,
    *,
    kernel: str = "5.4-fixed",
    allocator: str = "slub",
    schedules: int = SCHEDULES,
    settings: Mapping[str, str] | None = None,
    without: str = "",
) -> set[str]:
    """The signatures of all findings of some random schedules."""
    name = scenario if isinstance(scenario, str) else scenario.name
    small = small_settings(scenario) if isinstance(scenario, str) else {}
    options = RunOptions(
        scenario=name,
        kernel=kernel,
        driver="stepper",
        settings={**small, "allocator": allocator, **(settings or {})},
        patches=() if patch is None else (str(patch),),
        without=(without,) if without else (),
    )
    experiment = Experiment.of(options, None if isinstance(scenario, str) else scenario)
    found: set[str] = set()
    for number in range(schedules):
        stage = experiment.set_stage(RandomWalk(seed_of(0, number)))
        stage.start()
        experiment.drive(stage.world)
        found |= stage.world.findings.keys()
    return found
