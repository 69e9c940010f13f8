"""`shrink` leaves out the operations of a generated workload that its finding does not need."""

from __future__ import annotations

from pathlib import Path

import pytest

from explorer.experiment import Experiment, RunOptions
from explorer.search.registry import make_strategy
from explorer.shrink import DRAWS, Shrinker, reproduce, size_of
from explorer.trace import run_traced
from scenarios.mixed_operations import mixed_operations
from tests.conftest import Command
from tests.workloads.programs import NAME

EMPTY = "leak:kmem_cache held by an empty cpu slab:"
"""On 5.3 a module whose cache is merged with alpha makes alpha dying when it is unloaded (docs/findings.md, B11); this
needs no certain order. On 5.4-fixed a late allocation leaves it behind (F1): a task allocates, is moved away, and its
cgroup is removed."""

SMALL = {"workload": 17, "tasks": 2, "operations": 3, "cgroups": 1, "caches": 1}


def make_shrinker(kernel: str, seed: int, **settings: int) -> Shrinker:
    """A shrinker for the finding of one random schedule."""
    chosen = {name: str(value) for name, value in settings.items()}
    experiment = Experiment.of(RunOptions(scenario=NAME, kernel=kernel, settings=chosen))
    drawn = run_traced(experiment, make_strategy("random", seed), EMPTY)
    trace, controls_clock = reproduce(experiment, drawn.schedule, drawn.signature)
    return Shrinker(experiment, trace, controls_clock=controls_clock)


def kinds_left(shrinker: Shrinker) -> list[str]:
    """The kinds of the operations that are left, in words."""
    return sorted(one.words.split()[0] for one in shrinker.best.stage.present_operations())


def check_that_no_operation_can_be_missed(shrinker: Shrinker) -> None:
    """Neither the schedule nor the random ones that `shrink` tries show the finding without one of them."""
    present = shrinker.best.stage.present_operations()
    for one in present:
        gone = [other.number for other in shrinker.best.stage.operations if other.is_left_out or other is one]
        value = next(knob for knob in mixed_operations.knobs if knob.leaves_out).joined(gone)
        without = shrinker.experiment.with_knob("left_out", value)
        for seed in range(DRAWS):
            assert run_traced(without, make_strategy("random", seed), shrinker.signature).found is None


def test_a_program_comes_down_to_the_operation_that_makes_the_finding() -> None:
    shrinker = make_shrinker("5.3", 0, **SMALL)
    sizes = [size_of(shrinker.best)]
    shrinker.progress = lambda shrinker: sizes.append(size_of(shrinker.best))
    shrinker.shrink()
    parameters = shrinker.experiment.header.parameters

    assert kinds_left(shrinker) == ["create"]
    assert sizes == sorted(sizes, reverse=True)
    assert shrinker.best.signature == EMPTY
    check_that_no_operation_can_be_missed(shrinker)
    assert parameters["workload"] == SMALL["workload"], "a seed is not lowered"
    assert (parameters["tasks"], parameters["operations"], parameters["left_out"]) == (1, 2, "0")


@pytest.mark.slow
def test_a_race_comes_down_to_three_operations() -> None:
    shrinker = make_shrinker("5.4-fixed", 5, workload=2)
    shrinker.budget = 200
    shrinker.shrink()

    assert kinds_left(shrinker) == ["alloc", "move", "rmdir"]
    check_that_no_operation_can_be_missed(shrinker)


def test_the_command_prints_the_program_that_is_left(slabrace: Command, tmp_path: Path) -> None:
    log = tmp_path / "mixed.log"
    chosen = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    assert slabrace("run", NAME, "--kernel", "5.3", *chosen, "--log", log).code == 1
    told = slabrace("shrink", log, "--signature", EMPTY, "--budget", 30).out

    assert "\n  operations              6 -> 1\n" in told
    assert "\n  task0 on CPU 0: 1 create module1 of 4 objects a page, alloc 4 of it" in told
    assert "1 create module1" in slabrace("replay", log.with_suffix(".short.log")).out
