"""Same seed, same bytes: under both drivers, in every scenario and profile, and again when the log is replayed."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import attrs
import msgspec
import pytest

from actors.versions.profiles import ALLOCATORS
from explorer.experiment import DRIVERS, RunOptions
from explorer.search.registry import STRATEGIES
from explorer.session import Result, replay, run
from protocol.log import LogReader
from protocol.vocabulary import PROFILES
from scenarios import SCENARIOS
from tests.helpers import (
    each_scenario,
    each_scenario_with,
    each_third,
    other_driver,
    read_body,
    run_process,
    run_small,
    small_settings,
    some_machine,
)

SEEDS_OF_EACH_KERNEL = 8
"""The number of seeds for each kernel. The ten kernels have different seeds: 80 for each scenario, half with SLAB."""

CASES = [(scenario.name, kernel) for scenario in SCENARIOS for kernel in ("original", "5.3")]


NOTHING_RACES = set(itertools.product(("traced-rmdir-idle", "traced-rmdir-held"), ("v3", "v4")))
"""The traced program stays in an RCU section here (rcu-lock-for-unlock), so no grace period ends and nothing races."""


def what_happened(result: Result) -> dict[str, object]:
    """All fields of a result except the header, the driver, the log's path and the elapsed time."""
    fields = attrs.asdict(result, recurse=False)
    for name in ("header", "driver", "seconds", "log"):
        del fields[name]
    return fields


def check_seed(
    name: str, kernel: str, folder: Path, *, seed: int, allocator: str | None = None, strategy: str = "random"
) -> str:
    """Run on both drivers and replay each log on the other one; all results must be equal. Return the digest."""
    runs, bodies = [], []
    for driver in DRIVERS:
        path = folder / f"{driver}-{seed}.log"
        result = run_small(name, kernel, seed=seed, strategy=strategy, allocator=allocator, driver=driver, log=path)
        replayed = replay(path, driver=other_driver(driver))
        runs.append(what_happened(result))
        bodies.append(read_body(path))
        path.unlink()

        assert replayed.divergence is None
        assert what_happened(replayed) == what_happened(result)
    assert runs[0] == runs[1]
    assert bodies[0] == bodies[1]
    return str(runs[0]["digest"])


@each_scenario_with("kernel", PROFILES)
def test_the_same_seed_is_the_same_run_under_both_drivers_live_and_replayed(
    name: str, kernel: str, tmp_path: Path
) -> None:
    _, allocator = some_machine(name, kernel)

    assert check_seed(name, kernel, tmp_path, seed=0, allocator=allocator)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kernel"), each_third([scenario.name for scenario in SCENARIOS], [*PROFILES]))
def test_the_same_seed_is_the_same_run_over_scores_of_seeds(name: str, kernel: str, tmp_path: Path) -> None:
    first = 1 + SEEDS_OF_EACH_KERNEL * list(PROFILES).index(kernel)
    seeds = range(first, first + SEEDS_OF_EACH_KERNEL)
    digests = {
        allocator: [
            check_seed(name, kernel, tmp_path, seed=seed, allocator=allocator) for seed in seeds if seed % 2 == parity
        ]
        for parity, allocator in enumerate(ALLOCATORS)
    }

    if (name, kernel) not in NOTHING_RACES:
        for found in digests.values():
            assert len(set(found)) > len(found) / 2, "different seeds are different runs"


@each_scenario_with("strategy", [name for name in STRATEGIES if name != "random"])
def test_every_strategy_makes_the_same_run_of_the_same_seed(name: str, strategy: str, tmp_path: Path) -> None:
    kernel, allocator = some_machine(name, strategy)
    first = check_seed(name, kernel, tmp_path, seed=1, strategy=strategy, allocator=allocator)
    again = run_small(name, kernel, seed=1, strategy=strategy, allocator=allocator)

    assert again.digest == first


@each_scenario
def test_different_seeds_are_different_runs(name: str) -> None:
    kernel, allocator = some_machine(name)
    digests = [run_small(name, kernel, seed=seed, allocator=allocator).digest for seed in range(5)]

    assert len(set(digests)) > 2


@each_scenario
def test_a_log_that_is_made_again_has_the_same_bytes(name: str, tmp_path: Path) -> None:
    kernel, allocator = some_machine(name, "again")
    files = []
    for number in range(2):
        path = tmp_path / f"{number}.log"
        run_small(name, kernel, seed=5, allocator=allocator, log=path)
        files.append(path.read_bytes())

    assert files[0] == files[1]


@each_scenario
def test_the_logs_of_both_drivers_differ_only_in_the_header_field_driver(name: str, tmp_path: Path) -> None:
    kernel, allocator = some_machine(name, "header")
    headers, tails = [], []
    for driver in DRIVERS:
        path = tmp_path / f"{driver}.log"
        run_small(name, kernel, seed=6, driver=driver, allocator=allocator, log=path)
        log = LogReader(path)
        headers.append(log.header)
        tails.append(([payload for payload, _ in log.records()], log.footer))
        log.close()

    assert [header.driver for header in headers] == list(DRIVERS)
    assert len({json.dumps({**msgspec.to_builtins(header), "driver": ""}) for header in headers}) == 1
    assert tails[0] == tails[1]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies_are_told_apart_by_their_schedules(strategy: str) -> None:
    others = [name for name in STRATEGIES if name != strategy]
    digest = run_small("rmdir-under-load", strategy=strategy).digest

    assert digest not in [run_small("rmdir-under-load", strategy=other).digest for other in others]


def test_a_run_does_not_depend_on_the_runs_before_it() -> None:
    """No state lives outside a world: any order of runs gives the same digests."""
    forward = {case: run_small(*case, seed=3).digest for case in CASES}
    backward = {case: run_small(*case, seed=3).digest for case in reversed(CASES)}

    assert forward == backward
    assert len(set(forward.values())) > len(SCENARIOS)


PRINT_DIGESTS = """
import json
from tests.test_determinism import CASES, run_small
print(json.dumps([run_small(*case, seed=3).digest for case in CASES]))
"""


@pytest.mark.parametrize("hash_seed", ["0", *(pytest.param(seed, marks=pytest.mark.slow) for seed in ("1", "4242"))])
def test_a_run_does_not_depend_on_the_process_that_makes_it(hash_seed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither hashes of strings nor addresses in memory reach a schedule."""
    monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
    process = run_process(sys.executable, "-c", PRINT_DIGESTS)
    here = [run_small(*case, seed=3).digest for case in CASES]

    assert process.stderr == ""
    assert json.loads(process.stdout) == here


@each_scenario
def test_checking_less_changes_no_step(name: str) -> None:
    """Oracles change no state: without them the machine takes the same steps, as long as they find nothing."""
    results = [
        run(RunOptions(scenario=name, driver="stepper", settings=small_settings(name), check=check))
        for check in ("off", "quiescent", "step")
    ]
    for less, more in itertools.pairwise(results):
        if less.findings == more.findings:
            assert less.digest == more.digest
        assert less.steps >= more.steps
