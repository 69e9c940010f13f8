"""Every schedule can be run twice; if the runs differ, the first differing step is named."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.machine.context import Context
from actors.system.actor import Actor
from explorer.cli import main
from explorer.determinism import first_divergence
from explorer.experiment import Experiment, RunOptions
from explorer.references import Resolved
from explorer.search.campaign import Campaign
from explorer.search.registry import EXACT, STRATEGIES
from scenarios.canary import Counter
from scenarios.registry import MACHINE, Scenario
from scenarios.stage import Stage
from tests.conftest import Command


def scenario_with(state: Iterator[int]) -> Scenario:
    """A scenario that depends on state outside its world: a task takes more steps in each run."""

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
    assert campaign.schedules == 0
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
    assert main(["selftest", "canary", *arguments, "--schedules", "30", "--pairs", "0", "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["outcome"] == "ok"
    assert 0 < answer["run_twice"] <= 30
    assert answer["divergence"] is None


def test_the_command_ends_with_4_and_says_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("explorer.experiment.find", lambda _kind, _name: Resolved((scenario_with(itertools.count()),)))

    assert main(["selftest", "leaky"]) == 4
    out = capsys.readouterr().out
    assert "not deterministic" in out
    assert "the order of a set" in out


# -- without being asked ----------------------------------------------------------------------------------------------

SOURCES = {
    "random": "import random\ndraw = lambda: random.random() < 0.5",
    "the clock": "import time\ndraw = lambda: time.perf_counter_ns() // 7 % 2",
    "what outlives its world": "import itertools\nnumbers = itertools.count()\ndraw = lambda: next(numbers) // 3 % 2",
}
"""Sources of nondeterminism in a patch that are no choices of the schedule."""

PATCH = """
{source}

from actors.api import kernel_fn, unpatched
from actors.linux.include.slab import memcg_deactivate_kmem_caches


@kernel_fn("memcg_deactivate_kmem_caches", "mm/slab_common.c")
async def memcg_deactivate_kmem_caches(ctx, memcg, parent):
    if draw():
        await ctx.ask(memcg.read_kmemcg_id)
    await unpatched(ctx, memcg_deactivate_kmem_caches, memcg, parent)
"""
"""A harmless step that is taken in some runs only."""

EVERY = ["portfolio", *STRATEGIES, *EXACT, "pct:2", "dfs:preemptions=2", "dfs:delays=2"]


@pytest.mark.parametrize(
    ("strategy", "source"),
    [
        *((strategy, "random") for strategy in EVERY),
        *(("portfolio", source) for source in SOURCES),
        ("dpor", "the clock"),
    ],
)
def test_every_strategy_meets_a_patch_that_is_not_deterministic(
    slabrace: Command, tmp_path: Path, strategy: str, source: str
) -> None:
    patch = tmp_path / "patch.py"
    patch.write_text(PATCH.format(source=SOURCES[source]), encoding="utf-8")
    answer = slabrace(
        "explore", "offline-vs-destroy", "--patch", patch, "--strategy", strategy, "--budget", 400, "--json"
    )

    assert answer.code == 4
    said = json.loads(answer.out)
    assert (said["outcome"], said["stopped"]) == ("diverged", "diverged")
    assert said["findings"] == []
    assert {operation_in(said["divergence"]["then"]), operation_in(said["divergence"]["now"])} == {
        "read_kmemcg_id",
        "down_read",
    }
    assert said["divergence"]["step"] > 0
    assert not list(tmp_path.glob("runs/*"))


def operation_in(text: str) -> str:
    """The operation of a step in words: `lane in function: operation of object ...`."""
    return text.partition(": ")[2].split()[0]


def test_workers_notice_nondeterminism_too(slabrace: Command, tmp_path: Path) -> None:
    patch = tmp_path / "patch.py"
    patch.write_text(PATCH.format(source=SOURCES["random"]), encoding="utf-8")
    answer = slabrace("explore", "offline-vs-destroy", "--patch", patch, "--workers", 2, "--budget", 400, "--no-log")

    assert answer.code == 4
    assert "not deterministic" in answer.out


WRONG = 99


def leaky_race(state: Iterator[int]) -> Scenario:
    """Two tasks write; state outside the worlds decides how often one of them reads before, or that it writes WRONG."""

    def build(stage: Stage) -> None:
        counter = Counter(Actor(stage.boot("dentry").world, "counter"))
        said = next(state)

        async def work(ctx: Context) -> None:
            for _ in range(said % WRONG):
                await ctx.ask(counter.read)
            await ctx.ask(counter.write, said)
            await ctx.ask(counter.write, 0)

        async def write(ctx: Context) -> None:
            await ctx.ask(counter.write, 2)

        stage.task("worker", work)
        stage.task("writer", write)
        stage.always("nothing is wrong", lambda: counter.value != WRONG, is_local=True)

    return Scenario("leaky", "depends on what it must not", MACHINE, build)


def leaky(state: Iterator[int], strategy: str, *, budget: int = 10) -> Campaign:
    """A search of `leaky_race` without the option to run schedules twice."""
    options = RunOptions(scenario="leaky", strategy=strategy)
    if strategy in {"dpor", "portfolio"}:
        state = itertools.chain([0], state)  # such a search builds a stage first, to see its properties
    campaign = Campaign(Experiment.of(options, leaky_race(state)), options, budget=budget)
    campaign.run()
    return campaign


@pytest.mark.parametrize("strategy", ["dpor", "dfs"])
@pytest.mark.parametrize("lengths", [[0, 1], [1, 0], [0, 0, 0, 1]], ids=str)
def test_an_exact_search_compares_the_states_it_comes_back_to(
    monkeypatch: pytest.MonkeyPatch, strategy: str, lengths: list[int]
) -> None:
    """The task that reads more in some runs has another request after the same choices."""
    monkeypatch.setattr("explorer.search.campaign.is_checked", lambda _: False)
    campaign = leaky(itertools.chain(lengths, itertools.repeat(lengths[-1])), strategy, budget=200)

    assert campaign.outcome == "diverged"
    assert campaign.divergence is not None
    assert campaign.divergence.then != campaign.divergence.now
    assert not campaign.found


@pytest.mark.parametrize("strategy", ["random", "portfolio", "dpor", "dfs"])
def test_a_result_that_a_schedule_shows_only_once_is_no_finding(monkeypatch: pytest.MonkeyPatch, strategy: str) -> None:
    monkeypatch.setattr("explorer.search.campaign.is_checked", lambda _: False)
    monkeypatch.setattr("explorer.search.jobs.is_checked", lambda _: False)
    runs = itertools.chain([WRONG], itertools.repeat(0))
    campaign = leaky(runs, strategy)

    assert campaign.outcome == "diverged"
    assert campaign.schedules == 0
    assert not campaign.found
    assert campaign.divergence is not None
    assert "found: property:" in campaign.divergence.then, "it is not the same in any later run"
    assert "found: nothing" in campaign.divergence.now


def test_a_result_not_repeated_for_the_log_is_no_finding(slabrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run and the confirming run show the finding; the run for the log does not."""
    monkeypatch.setattr("explorer.search.campaign.is_checked", lambda _: False)
    monkeypatch.setattr("explorer.search.jobs.is_checked", lambda _: False)
    runs = itertools.chain([WRONG] * 2, itertools.repeat(0))
    monkeypatch.setattr("explorer.experiment.find", lambda _kind, _name: Resolved((leaky_race(runs),)))
    answer = slabrace("explore", "leaky", "--strategy", "random", "--budget", 1)

    assert answer.code == 4
    assert "without that" in answer.out
    assert not list(Path("runs").glob("*"))


def test_workers_find_nothing_where_nothing_is_wrong() -> None:
    options = RunOptions(scenario="canary", strategy="portfolio", driver="stepper")
    campaign = Campaign(Experiment.of(options), options, budget=16, workers=2, runs_twice=True)
    campaign.run()

    assert campaign.outcome == "finding"
    assert campaign.divergence is None


def test_runs_of_different_length_part_at_the_end_of_the_shorter() -> None:
    found = first_divergence([], [b"\x92\xa5phase\xa4race"])

    assert found is not None
    assert (found.step, found.then, found.now) == (0, "the end of the run", "phase race")
    assert first_divergence([b"\xc0"], [b"\xc0"]) is None
