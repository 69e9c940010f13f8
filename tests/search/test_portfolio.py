"""The portfolio: every sampler keeps its share, small spaces are searched exhaustively, and workers change nothing."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from actors.machine.context import BUG_ON, Context
from actors.system.actor import Actor
from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign
from explorer.search.estimate import Sightings
from explorer.search.jobs import SCHEDULES_PER_JOB, Job, JobReport, News, Outcome
from explorer.search.portfolio import LEAST_SAMPLED, SHARES, Arm, Portfolio, Samplers
from explorer.search.protocol import Search
from explorer.search.report import campaign_json, progress_line, verdict
from scenarios.canary import Counter
from scenarios.registry import MACHINE, Scenario
from scenarios.stage import Stage


def explored(scenario: str, *, budget: int, workers: int = 1, kernel: str = "5.3", **more: Any) -> Campaign:
    options = RunOptions(scenario=scenario, kernel=kernel, driver="stepper", **{"strategy": "portfolio", **more})
    campaign = Campaign(Experiment.of(options), options, budget=budget, workers=workers)
    campaign.run()
    return campaign


def sampled(schedules: int, classes: int) -> Sightings:
    """The class counts of *schedules* schedules of a space with *classes* equally frequent classes."""
    sightings = Sightings()
    for number in range(schedules):
        sightings.add(str(number % classes), "random")
    return sightings


def arm(**brought: float) -> Arm:
    return Arm(2.0, **brought)


def test_an_arm_without_news_keeps_its_share() -> None:
    assert arm(schedules=1_000.0, gain=0.0).weight == pytest.approx(2.0)


def test_an_arm_with_news_gets_more() -> None:
    assert arm(schedules=8.0, gain=16.0).weight > arm(schedules=8.0, gain=0.0).weight


def test_each_sampler_has_its_turn_and_none_is_starved() -> None:
    """Samplers without any news keep their turns, even while one sampler always has news."""
    sightings = Sightings()
    portfolio = Portfolio(sightings, Endless(), Samplers(0))
    turns: collections.Counter[str] = collections.Counter()
    for _ in range(600):
        job = portfolio.next_schedule(1_000_000)
        assert isinstance(job, Job)
        turns[job.strategy] += job.count
        portfolio.learn(job, JobReport(news=News(pairs=4 if job.strategy == "urw" else 0)))

    assert set(turns) == {"roundrobin", *SHARES}
    assert turns["urw"] > turns["random"]
    assert min(turns[name] for name in SHARES) > 100


@attrs.define
class Endless:
    """In place of dpor: a search that never ends."""

    def next_schedule(self, room: int = 1) -> str:  # noqa: ARG002 -- the protocol
        return "the next"

    def learn(self, planned: str, report: JobReport) -> None:
        assert planned == "the next"
        assert report.outcomes

    @property
    def done(self) -> bool:
        return False


def portfolio_of(sightings: Sightings) -> Portfolio:
    search: Search = Endless()
    return Portfolio(sightings, search, Samplers(0))


def outcome(log10_alternatives: float = 30.0) -> Outcome:
    return Outcome(0, "class", 12, 6, 5, log10_alternatives, ())


def turns_in(portfolio: Portfolio, schedules: int, room: int) -> list[tuple[int, int]]:
    """Run *schedules* schedules; return the start and the length of each turn of the exhaustive search."""
    turns: list[tuple[int, int]] = []
    was_exact = False
    first = portfolio.sightings.total
    while portfolio.sightings.total < first + schedules:
        planned: object = portfolio.next_schedule(room)
        is_exact = planned == "the next"
        if is_exact and not was_exact:
            turns.append((portfolio.sightings.total, portfolio.turn))
        was_exact = is_exact
        count = planned.count if isinstance(planned, Job) else 1
        for _ in range(count):
            portfolio.sightings.add("f" * 16)
        portfolio.learn(planned, JobReport([outcome()] * count))  # type: ignore[arg-type]  # the stand-in's is a text
    return turns


def test_what_is_small_is_searched_exactly() -> None:
    portfolio = portfolio_of(sampled(4 * LEAST_SAMPLED, LEAST_SAMPLED))

    assert not isinstance(portfolio.next_schedule(10_000), Job)


def after_a_schedule(log10_alternatives: float) -> Portfolio:
    """A portfolio after one schedule with 10^*log10_alternatives* alternatives at its choices."""
    portfolio = portfolio_of(Sightings())
    job = portfolio.next_schedule(1_000)
    assert isinstance(job, Job)
    portfolio.sightings.add("0", "random")
    portfolio.learn(job, JobReport([outcome(log10_alternatives)], news=News(classes=1)))
    return portfolio


def test_a_handful_of_schedules_is_searched_exactly_at_once() -> None:
    """One schedule shows that six steps of six flows have at most 720 orders; dpor gets a turn of this length."""
    portfolio = after_a_schedule(math.log10(720))

    assert not isinstance(portfolio.next_schedule(1_000), Job)
    assert portfolio.turn == 720


def test_a_handful_that_was_more_than_it_seemed_gets_twice_as_much_the_next_time() -> None:
    portfolio = after_a_schedule(math.log10(6))

    assert [length for _, length in turns_in(portfolio, 400, 1_000)] == [32, 64, 128]


def test_more_schedules_than_there_is_room_for_are_sampled_first() -> None:
    assert isinstance(after_a_schedule(math.log10(720)).next_schedule(500), Job)


def test_a_turn_begins_when_all_jobs_have_ended() -> None:
    portfolio = portfolio_of(Sightings())
    jobs = [portfolio.next_schedule(10_000) for _ in range(3)]
    for number in range(4 * LEAST_SAMPLED):
        portfolio.sightings.add(str(number % LEAST_SAMPLED), "random")

    for job in jobs:
        assert isinstance(job, Job)
        assert portfolio.next_schedule(10_000) is None
        assert not portfolio.done
        portfolio.learn(job, JobReport())
    assert portfolio.next_schedule(10_000) is not None


def test_a_small_scenario_is_gone_through_after_its_first_schedule() -> None:
    campaign = explored("canary", budget=30_000, settings={"rounds": "1"})

    assert campaign.stopped == "exhausted"
    assert campaign.by_strategy.keys() == {"roundrobin", "dpor"}


@pytest.mark.parametrize(("schedules", "classes", "room"), [(4_000, 4_000, 100_000_000), (100, 20, 30), (8, 2, 1_000)])
def test_what_cannot_be_judged_or_does_not_fit_is_sampled(schedules: int, classes: int, room: int) -> None:
    """If every schedule is of a new class, the number of classes cannot be estimated, for any budget."""
    assert isinstance(portfolio_of(sampled(schedules, classes)).next_schedule(room), Job)


def test_an_exact_search_that_does_not_end_takes_turns_with_the_samplers() -> None:
    """The first turn has the estimated length, each further turn twice as much; samplers get equal turns in between."""
    portfolio = portfolio_of(sampled(4 * LEAST_SAMPLED, LEAST_SAMPLED))

    turns = turns_in(portfolio, 400, 10_000)

    assert [length for _, length in turns] == [32, 64, 128]
    for (began, length), (again, _) in itertools.pairwise(turns):
        assert 2 * length <= again - began < 2 * length + SCHEDULES_PER_JOB


def test_turns_do_not_change_what_an_exact_search_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search continues where it stopped: it runs no schedule twice, and in the end it has run all of them."""
    monkeypatch.setattr("explorer.search.portfolio.MOST_NEW", 1.0)
    monkeypatch.setattr("explorer.search.portfolio.LEAST_EXACT", 8)
    monkeypatch.setattr(Portfolio, "_classes_at_least", lambda _: 4)
    campaign = explored("reclaim-in-charge", budget=2_000)
    alone = explored("reclaim-in-charge", budget=2_000, strategy="dpor")

    assert campaign.stopped == alone.stopped == "exhausted"
    assert campaign.by_strategy["dpor"]["schedules"] == alone.schedules


def test_the_answer_does_not_depend_on_the_number_of_workers() -> None:
    one, two = (explored("late-allocation", budget=120, workers=workers, kernel="v7") for workers in (1, 2))

    assert one.by_strategy == two.by_strategy
    assert {s: (f.first_schedule, f.count, f.schedule) for s, f in one.found.items()} == {
        s: (f.first_schedule, f.count, f.schedule) for s, f in two.found.items()
    }
    assert one.sightings == two.sightings


# -- counts -----------------------------------------------------------------------------------------------------------


def ends_early(stage: Stage) -> None:
    """Two tasks race for a finding that ends the run; two others make private steps and may be at any of them."""
    world = stage.boot("dentry").world
    counters = [Counter(Actor(world, f"counter {number}")) for number in range(3)]

    async def write(ctx: Context) -> None:
        await ctx.ask(counters[0].write, 1)

    async def read(ctx: Context) -> None:
        BUG_ON(ctx, await ctx.ask(counters[0].read) == 0, "read too early")

    def on(counter: Counter) -> Callable[[Context], Awaitable[None]]:
        async def count(ctx: Context) -> None:
            for value in range(8):
                await ctx.ask(counter.write, value)

        return count

    stage.task("writer", write, cpu=0)
    stage.task("reader", read, cpu=1)
    stage.task("first", on(counters[1]), cpu=0)
    stage.task("second", on(counters[2]), cpu=1)


def explored_toy(strategy: str, *, budget: int = 4_000) -> Campaign:
    options = RunOptions(scenario="toy", strategy=strategy)
    scenario = Scenario("toy", "a test's", MACHINE, ends_early)
    campaign = Campaign(Experiment.of(options, scenario), options, budget=budget)
    campaign.run()
    return campaign


def test_parts_of_classes_that_samples_show_are_none_once_all_classes_are_known() -> None:
    portfolio, alone = explored_toy("portfolio"), explored_toy("dpor")

    assert portfolio.stopped == alone.stopped == "exhausted"
    assert portfolio.found.keys() == alone.found.keys()
    assert portfolio.sightings.classes > portfolio.classes == alone.classes == len(alone.exact_classes)
    assert f"all {alone.classes} trace classes" in verdict(portfolio)
    assert campaign_json(portfolio)["trace_classes"] == alone.classes


def test_the_budget_is_in_schedules_and_what_was_cut_off_is_named_apart() -> None:
    campaign = explored("offline-vs-free", budget=60, strategy="dpor", kernel="5.4-fixed")
    said = campaign_json(campaign)

    assert campaign.cut_off > 0
    assert said["schedules"] == campaign.schedules == 60
    assert said["cut_off"] == said["by_strategy"]["dpor"]["cut_off"] == campaign.cut_off
    assert "60 schedules in" in verdict(campaign)
    assert f" s, {campaign.cut_off} more runs cut off" in verdict(campaign)
    assert f"60 schedules, {campaign.cut_off} runs cut off" in progress_line(campaign)


def test_the_estimates_are_made_from_draws_only() -> None:
    campaign = explored("late-allocation", budget=150, kernel="v7")
    said = campaign_json(campaign)
    counts = said["by_strategy"]

    assert said["drawn"] == {name: counts[name]["schedules"] for name in ("pos", "random", "urw")}
    assert said["random_walks"] == counts["random"]["schedules"]
    assert f"(from {sum(said['drawn'].values())} schedules of pos, random and urw)" in verdict(campaign)


@pytest.mark.parametrize("strategy", ["dpor", "pct:3", "surw", "dfs:preemptions=1", "roundrobin"])
def test_without_draws_nothing_is_said_of_what_is_unseen(strategy: str) -> None:
    campaign = explored("offline-vs-destroy", budget=20, strategy=strategy)
    said = campaign_json(campaign)

    assert (said["chance_of_new_class"], said["unseen_classes_at_least"]) == (None, None)
    assert (said["drawn"], said["log10_schedules"]) == ({}, None)
    assert "not known" in verdict(campaign)
