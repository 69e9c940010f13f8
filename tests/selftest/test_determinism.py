"""Every schedule can be run twice; where it is not the same, the first step that differs is named."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest

from actors.kernel.context import Context
from actors.system.actor import Actor
from explorer.campaign import Campaign
from explorer.cli import main
from explorer.determinism import first_divergence
from explorer.experiment import Experiment, RunOptions
from scenarios.canary import Counter
from scenarios.registry import MACHINE, Scenario
from scenarios.stage import Stage


def scenario_with(state: Iterator[int]) -> Scenario:
    """A scenario that depends on what outlives its world: a task does more each time."""

    def build(stage: Stage) -> None:
        counter = Counter(Actor(stage.boot("dentry").world, "counter"))
        more = next(state)

        async def work(ctx: Context) -> None:
            for value in range(2 + more):
                await ctx.ask(counter.write, value)

        stage.task("worker", work)

    return Scenario("leaky", "depends on what it must not", MACHINE, build)


def search(state: Iterator[int], strategy: str = "random", *, budget: int = 10, workers: int = 1) -> Campaign:
    """A search that runs every schedule twice."""
    options = RunOptions(scenario="leaky", strategy=strategy)
    campaign = Campaign(
        Experiment.of(options, scenario_with(state)), options, budget=budget, workers=workers, runs_twice=True
    )
    campaign.run()
    return campaign


@pytest.mark.parametrize("strategy", ["random", "portfolio", "dpor"])
def test_a_schedule_that_is_not_the_same_ends_the_search(strategy: str) -> None:
    campaign = search(itertools.count(), strategy)

    assert campaign.outcome == "diverged"
    assert campaign.schedules == 1
    assert campaign.divergence is not None
    assert "cgroup_exit" in campaign.divergence.then
    assert "write" in campaign.divergence.now


@pytest.mark.parametrize("strategy", ["random", "dpor"])
def test_schedules_that_are_the_same_end_as_ever(strategy: str) -> None:
    campaign = search(itertools.repeat(0), strategy)

    assert campaign.outcome in {"budget", "exhausted"}
    assert campaign.divergence is None


@pytest.mark.parametrize("arguments", [["--strategy", "portfolio"], ["--strategy", "dpor", "--set", "rounds=1"]])
def test_the_command_finds_the_canary_deterministic(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "canary", *arguments, "--budget", "30", "--check-determinism", "--no-log", "--json"]) == 1

    answer = json.loads(capsys.readouterr().out)
    assert answer["outcome"] == "finding"
    assert answer["divergence"] is None


def test_the_command_ends_with_4_and_says_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("explorer.experiment.find_scenario", lambda _name: scenario_with(itertools.count()))

    assert main(["explore", "leaky", "--check-determinism", "--no-log"]) == 4
    out = capsys.readouterr().out
    assert "not deterministic" in out
    assert "the order of a set" in out


def test_workers_find_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["explore", "canary", "--budget", "16", "--workers", "2", "--check-determinism", "--no-log", "--json"])

    assert code == 1
    assert json.loads(capsys.readouterr().out)["divergence"] is None


def test_runs_of_different_length_part_at_the_end_of_the_shorter() -> None:
    found = first_divergence([], [b"\x92\xa5phase\xa4race"])

    assert found is not None
    assert (found.step, found.then, found.now) == (0, "the end of the run", "phase race")
    assert first_divergence([b"\xc0"], [b"\xc0"]) is None
