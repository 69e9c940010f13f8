"""The guided search: mutations do what they say, knowledge is kept, and neither workers nor order change anything."""

from __future__ import annotations

import functools
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.system.actor import Actor
from actors.system.flow import Flow
from actors.system.stepper import run_stepper
from actors.system.strategy import InTurn, Strategy
from actors.system.world import World
from explorer.experiment import DRIVERS, Experiment, RunOptions
from explorer.profile import Knowledge
from explorer.schedule import Follow
from explorer.search.campaign import Campaign
from explorer.search.guided import FLOOR, MUTATIONS, Guide, Guided, is_unbiased
from explorer.search.jobs import Job, JobReport, Shown, find_places, run_job, run_watched
from explorer.search.portfolio import SHARES, Samplers
from explorer.search.registry import make_strategy
from explorer.search.report import campaign_json
from explorer.search.strategies.mutations import AimedWalk, Followed, Hold, Mutation, Turn, orders_missing, spliced
from explorer.session import record, replay
from explorer.watch import RacingPair
from protocol.operations import UPDATE, operation
from tests.helpers import Seen
from tests.search.programs import Body, Cell, Program, cells, independent, start

STAGE = {"scenario": "softirq-free-vs-destroy", "kernel": "v5", "driver": "stepper", "strategy": "guided"}


def experiment(**more: Any) -> Experiment:
    return Experiment.of(RunOptions(**{**STAGE, **more}))


def explored(budget: int, workers: int = 1, **more: Any) -> Campaign:
    options = RunOptions(**{**STAGE, **more})
    campaign = Campaign(Experiment.of(options), options, budget=budget, workers=workers)
    campaign.run()
    return campaign


# -- mutations --------------------------------------------------------------------------------------------------------


def steps(program: Program, strategy: Strategy) -> list[str]:
    """The lanes of the steps of a run, by the last character of their names."""
    world, _ = start(program, strategy)
    seen = Seen()
    world.observers = (seen,)
    run_stepper(world)
    return [lane[-1] for lane in seen.stepped]


def write_and_read(world: World) -> Sequence[Body]:
    """Two flows make private steps; then the first writes x0, and the second reads it."""
    x, *own = cells(world, 3)

    async def put(flow: Flow) -> None:
        for _ in range(3):
            await flow.ask(own[0].read)
        await flow.ask(x.write, 1)

    async def get(flow: Flow) -> None:
        for _ in range(3):
            await flow.ask(own[1].write, 1)
        await flow.ask(x.read)

    return [put, get]


PUT_FIRST: RacingPair = (("put", "write"), ("get", "read"))
GET_FIRST: RacingPair = (("get", "read"), ("put", "write"))


def pairs_of(program: Program, strategy: Strategy) -> set[RacingPair]:
    world, watch = start(program, strategy)
    run_stepper(world)
    return watch.racing_pairs()


def aimed(seed: int, *aims: RacingPair) -> AimedWalk:
    return AimedWalk(seed, aims, 1, Knowledge())


@pytest.mark.parametrize("aim", [PUT_FIRST, GET_FIRST])
def test_an_aim_is_reached_where_it_can_be(aim: RacingPair) -> None:
    without = [pairs_of(write_and_read, aimed(seed)) for seed in range(20)]

    assert {PUT_FIRST} in without
    assert {GET_FIRST} in without
    assert all(pairs_of(write_and_read, aimed(seed, aim)) == {aim} for seed in range(20))


def test_an_aim_that_cannot_be_reached_stops_nothing() -> None:
    """The flow that is held steps when no other can; two aims against each other hold both flows."""
    never = (("put", "write"), ("get", "nothing"))
    missed = (("get", "nothing"), ("put", "write"))

    for seed, aims in itertools.product(range(10), [(never,), (missed,), (PUT_FIRST, GET_FIRST)]):
        assert Counter(steps(write_and_read, aimed(seed, *aims))) == {"0": 4, "1": 4}
    assert {tuple(steps(write_and_read, aimed(seed, missed)))[-1] for seed in range(10)} == {"0"}


def base(text: str) -> tuple[str, ...]:
    return tuple(f"flow {flow}" for flow in text)


@pytest.mark.parametrize("text", ["00001111", "11110000", "01010101"])
def test_a_swap_reverses_the_pair(text: str) -> None:
    """The flow of the first access is held until the base is past the second access."""
    reached = pairs_of(write_and_read, Follow(base(text)))
    put_at = [place for place, flow in enumerate(base(text)) if flow == "flow 0"][3]
    got_at = [place for place, flow in enumerate(base(text)) if flow == "flow 1"][3]
    places = (min(put_at, got_at), max(put_at, got_at))
    mutation = Mutation("swap", base(text), places=(places,))

    assert pairs_of(write_and_read, mutation.make(5, (), Knowledge())) == {PUT_FIRST, GET_FIRST} - reached


def test_the_places_of_a_pair_are_those_that_a_swap_needs() -> None:
    """On a kernel: a pair comes the other way round, too, unless its first step makes the second one possible."""
    stage = experiment(scenario="destroy-vs-offline", kernel="5.3")
    job = Job("random", 0, 0, 1, Knowledge(), seen=())
    (shown,) = run_job(stage, job).shown
    swapped = 0
    for pair, places in zip(shown.pairs, shown.places, strict=True):
        mutation = Mutation("swap", shown.schedule, places=(places,))
        _, watch = run_watched(stage, mutation.make(0, (), Knowledge()))
        swapped += (pair[1], pair[0]) in watch.racing_pairs() - set(shown.pairs)

    assert len(shown.pairs) > 10
    assert all(0 <= first < second < len(shown.schedule) for first, second in shown.places)
    assert swapped


@pytest.mark.parametrize(
    ("scenario", "kernel"), [("late-allocation", "v7"), ("destroy-vs-offline", "5.3"), ("charge-vs-drain", "5.4-fixed")]
)
def test_every_racing_pair_has_its_places(scenario: str, kernel: str) -> None:
    stage = experiment(scenario=scenario, kernel=kernel)
    for seed in range(3):
        _, watch = run_watched(stage, make_strategy("pos", seed))
        pairs = sorted(watch.racing_pairs())

        assert pairs
        assert find_places(stage, make_strategy("pos", seed), pairs)[1] == tuple(pairs)


def test_values_and_faults_come_from_the_base_and_after_it_from_the_walk() -> None:
    followed = Followed((1, "flow 0", 5), InTurn())

    assert followed.choose_fault(0.0)
    assert not followed.choose_fault(0.0)
    assert steps(independent([1]), followed) == ["0"]
    assert [followed.choose_value(3), followed.choose_value(3)] == [2, 0]


def test_a_delayed_lane_waits_until_the_end_of_its_delay() -> None:
    def followed(held: str, begin: int, end: int) -> str:
        strategy = Followed(base("01010101"), InTurn(), hold=Hold(held, begin, end))
        return "".join(steps(independent([4, 4]), strategy))

    assert followed("", 0, 0) == "01010101"
    assert followed("flow 0", 2, 6) == "01110100"
    assert followed("flow 0", 0, 8) == "11110000"


def test_a_delay_ends_when_no_other_lane_can_step() -> None:
    assert steps(independent([3, 1]), Followed(base("0100"), InTurn(), Turn(1, delay=100))) == list("1000")


class Ended(Cell):
    """A cell whose end is a step of its lifecycle."""

    @operation(UPDATE, lifecycle=True)
    def end(self) -> None:
        """Nothing is left."""


def two_ends(world: World) -> Sequence[Body]:
    """Each second step of flow 0 is one of the lifecycle; flow 1 has none."""
    own, other = (Ended(Actor(world, name), name) for name in ("own", "other"))

    async def ends(flow: Flow) -> None:
        for _ in range(2):
            await flow.ask(own.read)
            await flow.ask(own.end)

    async def reads(flow: Flow) -> None:
        for _ in range(4):
            await flow.ask(other.read)

    return [ends, reads]


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (Turn(3), "01000111"),
        (Turn(3, rest=base("1111")), "01111000"),
        (Turn(2, is_lifecycle=True, rest=base("1111")), "01010110"),
        (Turn(1, is_lifecycle=True, delay=100), "01111000"),
        (Turn(1, is_lifecycle=True, delay=3), "01110100"),
        (Turn(3, is_lifecycle=True, delay=100), "01010101"),
    ],
)
def test_a_schedule_leaves_its_base_at_a_turn(turn: Turn, expected: str) -> None:
    """Turns at any step, at a step of the lifecycle, and at one that never comes; after the base flow 0 goes on."""
    assert "".join(steps(two_ends, Followed(base("01010101"), InTurn(), turn))) == expected


def test_a_prefix_is_followed_to_its_end_and_then_another_strategy_goes_on() -> None:
    after = {"".join(steps(independent([4, 4]), Followed(base("0110"), aimed(seed)))) for seed in range(10)}

    assert after == {"01100011", "01101100"}


def test_a_splice_makes_each_step_once() -> None:
    one, other = base("00001111"), base("10101010")

    assert spliced(one, 3, other) == base("00011110")
    assert spliced(one, 0, other) == other
    assert spliced(one, 8, other) == one
    assert spliced((*one, 7), 0, (3, *other)) == (3, *other)


def test_gaps_are_the_orders_of_which_only_the_opposite_was_seen() -> None:
    assert orders_missing([PUT_FIRST]) == [GET_FIRST]
    assert orders_missing([PUT_FIRST, GET_FIRST]) == []


# -- knowledge --------------------------------------------------------------------------------------------------------


@functools.cache
def kept(epochs: int) -> bytes:
    """The knowledge after some epochs."""
    return after(epochs, experiment()).dump()


def after(epochs: int, stage: Experiment, seed: int = 3, order: Sequence[int] = (0, 1, 2, 3)) -> Guide:
    """A guide after some epochs of four jobs of six schedules, which were run in this *order*."""
    guide = Guide(seed)
    for _ in range(epochs):
        jobs = guide.plan(4, 6)
        reports = {place: run_job(stage, jobs[place]) for place in order if place < len(jobs)}
        guide.fold(jobs, [reports[place] for place in range(len(jobs))])
    return guide


def test_a_guide_that_was_kept_plans_the_same_jobs() -> None:
    guide = Guide.load(kept(4))
    again = Guide.load(guide.dump())

    assert again.dump() == guide.dump()
    for _ in range(6):
        jobs = guide.plan(5, 7)
        assert again.plan(5, 7) == guide.plan(5, 7) == jobs
        assert {job.mutation.way for job in jobs if job.mutation} <= MUTATIONS.keys()
        reports = [JobReport() for _ in jobs]
        guide.fold(jobs, reports)
        again.fold(jobs, reports)


def test_what_is_no_guide_is_refused() -> None:
    data = Guide(0).dump()

    for bad in (b"", data[:-3], msgspec.msgpack.encode({"seed": 1})):
        with pytest.raises(ValueError, match=r"."):
            Guide.load(bad)


def test_the_order_in_which_the_jobs_of_an_epoch_run_changes_nothing() -> None:
    stage = experiment()

    assert kept(4) == after(4, stage, order=(3, 1, 2, 0)).dump() != after(4, stage, seed=4).dump()


def test_jobs_are_plain_data() -> None:
    jobs = Guide.load(kept(5)).plan(12, 2)

    assert {job.mutation is None for job in jobs} == {True, False}
    for job in jobs:
        data = msgspec.msgpack.encode(job, order="sorted")
        assert msgspec.msgpack.decode(data, type=Job, dec_hook=lambda kind, value: kind(value)) == job


def test_the_corpus_has_only_schedules_that_showed_a_new_pair_and_each_pair_once() -> None:
    stage = experiment()
    guide = Guide.load(kept(5))
    pairs = [pair for shown in guide.corpus for pair in shown.pairs]

    assert len(pairs) == len(set(pairs)) > 10
    assert all(shown.pairs and len(shown.pairs) == len(shown.places) for shown in guide.corpus)
    for shown in guide.corpus:
        schedule, found, places = find_places(stage, Follow(shown.schedule), shown.pairs)
        assert (schedule, found, places) == (shown.schedule, shown.pairs, shown.places)


def test_a_job_reports_no_schedule_without_something_new() -> None:
    stage = experiment()
    job = Job("random", 0, 0, 6, Knowledge(), seen=())
    report = run_job(stage, job)
    again = run_job(stage, Job("random", 0, 0, 6, Knowledge(), seen=tuple(sorted(report.pairs))))

    assert 1 <= len(report.shown) < 6
    assert again.shown == []
    assert run_job(stage, Job("random", 0, 0, 6, Knowledge())).shown == []


def corpus_of(*numbers: int) -> list[Shown]:
    return [Shown(number, base("01"), (((str(number), "a"), ("b", "c")),), ((0, 1),)) for number in numbers]


def test_schedules_with_rare_pairs_are_mutated_more_often() -> None:
    guide = Guide(0)
    guide.corpus = corpus_of(0, 9, 89)
    drawn = Counter(guide._draw_base(random.Random(seed)).number for seed in range(1_000))

    assert drawn[89] > 800
    assert drawn[9] > drawn[0]


def test_the_samplers_that_feed_the_estimates_keep_their_floor() -> None:
    """Even where another way always has news and they never have."""
    guide = Guide(0)
    guide.epoch, guide.next, guide.corpus = 2, 1_000, corpus_of(0)
    guide.arms["aim"].gain = 1e9
    ways = [job.strategy for _ in range(100) for job in plan_and_skip(guide)]

    assert sum(map(is_unbiased, ways)) > 0.8 * FLOOR * len(ways)
    assert {way for way in ways if is_unbiased(way)} == {"random", "urw", "pos"}
    assert ways.count("guided:aim") > 0.8 * len(ways)


def plan_and_skip(guide: Guide) -> list[Job]:
    """The next epoch, which is taken as if it was run, without any result."""
    jobs = guide.plan(8, 1)
    guide.epoch += 1
    return jobs


def test_every_way_has_its_turn() -> None:
    guide = Guide(0)
    guide.epoch, guide.next, guide.corpus = 2, 1_000, corpus_of(0)
    ways = Counter(job.strategy for _ in range(60) for job in plan_and_skip(guide))

    assert ways.keys() == {*SHARES, *(f"guided:{way}" for way in MUTATIONS)}


def test_without_a_corpus_there_is_nothing_to_mutate() -> None:
    guide = Guide(0)
    guide.epoch = 2

    assert {job.strategy for _ in range(20) for job in plan_and_skip(guide)} <= SHARES.keys()


# -- the search -------------------------------------------------------------------------------------------------------


def test_an_epoch_is_given_out_whole_and_learnt_whole() -> None:
    search = Guided(Guide(0))
    first = search.next_schedule(100)
    assert first is not None
    assert search.next_schedule(100) is None
    search.learn(first, JobReport())
    jobs = list(iter(lambda: search.next_schedule(100), None))

    assert [job.strategy for job in jobs] == list(SHARES)
    for job in reversed(jobs):
        assert search.next_schedule(100) is None
        search.learn(job, JobReport())
    assert search.next_schedule(100) is not None
    assert not search.done


def test_the_first_schedules_are_those_of_the_portfolio() -> None:
    """So a flaw that the first samplers show costs as many schedules in both."""
    stage = experiment(scenario="destroy-vs-offline")
    classes = []
    for search in (Samplers(7), Guided(Guide(7))):
        shown = []
        for length in (1, len(SHARES)):
            jobs = [job for _ in range(length) if (job := search.next_schedule(100)) is not None]
            reports = [run_job(stage, job) for job in jobs]
            shown += [outcome.trace_class for report in reports for outcome in report.outcomes]
            for job, report in zip(jobs, reports, strict=True):
                search.learn(job, report)
        classes.append(shown)

    assert classes[0] == classes[1]
    assert len(classes[0]) == 1 + len(SHARES)


@pytest.mark.parametrize("room", [1, 3, 9, 100])
def test_an_epoch_has_room(room: int) -> None:
    guide = Guide(0)
    guide.epoch, guide.next = 2, 10_000
    search = Guided(guide)
    jobs = list(iter(lambda: search.next_schedule(room), None))

    assert 1 <= sum(job.count for job in jobs) <= room


@functools.cache
def answer(workers: int) -> tuple[Any, ...]:
    campaign = explored(60, workers)
    said = campaign_json(campaign)
    del said["seconds"]
    found = {name: (one.strategy, one.schedule, one.seen) for name, one in campaign.found.items()}
    return said, found, campaign.pairs, campaign.sightings


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_answer_does_not_depend_on_the_number_of_workers(workers: int) -> None:
    said, *_ = answer(1)

    assert said["schedules"] == 60
    assert any(name.startswith("guided:") for name in said["by_strategy"])
    assert answer(workers) == answer(1)


def test_the_estimates_are_fed_by_unbiased_draws_only() -> None:
    said, *_ = answer(1)
    counts = said["by_strategy"]

    assert said["drawn"] == {name: counts[name]["schedules"] for name in ("pos", "random", "urw")}
    assert said["random_walks"] == counts["random"]["schedules"]
    assert sum(said["drawn"].values()) < said["schedules"]


def test_a_small_space_is_searched_exactly() -> None:
    campaign = explored(1_000, scenario="canary", settings={"rounds": "1"})

    assert campaign.stopped == "exhausted"


@pytest.mark.parametrize("way", MUTATIONS)
def test_a_mutated_schedule_is_made_again_and_its_log_replays_on_both_drivers(way: str, tmp_path: Path) -> None:
    stage = experiment()
    guide = Guide.load(kept(5))
    job = guide._job(way, Job(way, 3, 500, 12, guide.known, seen=tuple(sorted(guide.pairs))), random.Random(1))
    outcome = next(outcome for outcome in run_job(stage, job, twice=True).outcomes if outcome.findings)
    log = tmp_path / "log"
    record(stage, job.strategy, job.remake(outcome.number), outcome.findings[0], log)

    for driver in DRIVERS:
        result = replay(log, driver=driver)
        assert result.divergence is None
        assert outcome.findings[0] in result.findings
