"""DPOR in several processes: the schedules, their order, and every answer are those of one process."""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from actors.system.stepper import run_stepper
from actors.system.world import World
from explorer.experiment import Experiment, RunOptions
from explorer.search import parallel
from explorer.search.campaign import Campaign
from explorer.search.checkpoint import Resumed
from explorer.search.exact import explore_subtree
from explorer.search.jobs import JobReport, Outcome
from explorer.search.parallel import Parallel, Taken
from explorer.search.path_records import pack, unpack
from explorer.search.report import campaign_json
from explorer.search.strategies.dfs import Dfs
from explorer.search.strategies.dpor import ASLEEP, Dpor
from explorer.search.strategies.prefix import Following
from explorer.watch import Watch
from explorer.workers import Task
from protocol.errors import InternalError
from tests.conftest import Command
from tests.litmus.build import Stage
from tests.litmus.found import FOUND
from tests.litmus.programs import random_program as random_kernel_program
from tests.search.machines import Plan
from tests.search.noting import Noting
from tests.search.programs import Program, last_zero, random_program, read_then_write, run_dfs, start, writers

Build = Callable[[World, Watch], object]
"""Makes the flows of a world that is watched."""

Ended = tuple[Outcome, ...]
"""The outcome of a schedule; nothing if it was cut off."""


def of_program(program: Program) -> Build:
    def build(world: World, watch: Watch) -> None:
        watch.phase("race")
        program(world)

    return build


def run_once(build: Callable[[Following], tuple[World, Watch]], schedule: Following) -> JobReport:
    """Run a schedule; its outcome has the whole schedule."""
    noting = Noting(schedule)
    world, watch = build(noting)  # type: ignore[arg-type]  # it delegates to one
    schedule.watched_by(watch)
    run_stepper(world)
    schedule.end(world)
    assert schedule.divergence or schedule.choices == noting.choices
    report = JobReport(divergence=schedule.divergence)
    if world.stopped != ASLEEP and report.divergence is None:
        trace_class = watch.trace_class()
        report.outcomes.append(Outcome(0, trace_class, world.steps, 0, 0, 0.0, (), tuple(noting.choices)))
    return report


def runner(program: Program) -> Callable[[Following], JobReport]:
    return lambda schedule: run_once(lambda noting: start(program, noting), schedule)


def runner_of(make: Callable[[World, Watch], object]) -> Callable[[Following], JobReport]:
    """Runs schedules of a world that *make* fills."""

    def build(noting: Following) -> tuple[World, Watch]:
        world = World(noting)
        watch = Watch(world, wants_accesses=True)
        world.observers = (watch,)
        make(world, watch)
        return world, watch

    return lambda schedule: run_once(build, schedule)


@attrs.define
class Workers:
    """Workers in this process, which end their tasks in any order; `schedules` counts what they have run."""

    size: int
    run: Callable[[Following], JobReport]
    draw: random.Random
    tasks: list[Task] = attrs.field(factory=list)
    schedules: int = 0

    def add(self, task: Task) -> None:
        self.tasks.append(task)
        assert len(self.tasks) <= self.size, "no task waits for a worker"

    def hear(self, seconds: float | None = None) -> None:
        if seconds is None or (self.tasks and self.draw.random() < 0.5):
            task = self.tasks.pop(self.draw.randrange(len(self.tasks)))
            explored: Any = task.call(*task.arguments)
            self.schedules += len(explored.schedules)
            task.end(explored)

    def task(self, path: bytes, floor: int, most: int) -> Task:
        return Task("", lambda: explore_subtree(path, floor, most, lambda schedule, _: self.run(schedule)), ())


def explored(
    search: Dpor | Parallel | Resumed, run: Callable[[Following], JobReport], budget: int
) -> tuple[list[Ended], bool]:
    """The outcomes of the schedules of *search* in order, and whether it is done after them."""
    ended: list[Ended] = []
    while len(ended) < budget and (planned := search.next_schedule()) is not None:
        report = planned.report if isinstance(planned, Taken) else run(planned)
        assert report.divergence is None
        search.learn(planned, report)  # type: ignore[arg-type]  # each gets what it has planned
        ended.append(tuple(report.outcomes))
    return ended, search.done


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the size of a piece, and lets the workers begin after the first schedule."""

    def set_size(size: int) -> None:
        monkeypatch.setattr(parallel, "ALONE", 1)
        monkeypatch.setattr(parallel, "PIECE", size)

    return set_size


def divided(run: Callable[[Following], JobReport], size: int, seed: int) -> tuple[Parallel, Workers]:
    workers = Workers(size, run, random.Random(seed))
    return Parallel(Dpor(), workers, workers.task), workers


def compare(run: Callable[[Following], JobReport], seed: int, pieces: Callable[[int], None]) -> int:
    """Compare workers of several numbers with one process; return the number of schedules."""
    alone = explored(Dpor(), run, 300)
    for size in (1, 2, 3, 5):
        pieces(random.Random(seed + size).choice((1, 2, 3, 8)))
        budget = random.Random(seed + size).choice((300, len(alone[0]), len(alone[0]) // 2 + 1))
        search, _ = divided(run, size, seed)
        assert explored(search, run, budget) == explored_within(alone, budget), (seed, size)
    return len(alone[0])


def explored_within(whole: tuple[list[Ended], bool], budget: int) -> tuple[list[Ended], bool]:
    """The answer of the *whole* search, if it has a smaller budget."""
    ended, is_done = whole
    return ended[:budget], is_done and len(ended) <= budget


def test_random_programs_have_the_same_schedules_in_the_same_order(pieces: Callable[[int], None]) -> None:
    assert sum(compare(runner(random_program(seed)), seed, pieces) for seed in range(100)) > 400


@pytest.mark.parametrize(
    "program", [last_zero(5), read_then_write(3), writers(5)], ids=["last zero", "cell", "writers"]
)
def test_larger_programs_have_the_same_schedules_in_the_same_order(
    program: Program, pieces: Callable[[int], None]
) -> None:
    assert max(compare(runner(program), seed, pieces) for seed in range(5)) < 300


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_machines_have_the_same_schedules_in_the_same_order(first: int, pieces: Callable[[int], None]) -> None:
    def run_of(plan: Plan) -> Callable[[Following], JobReport]:
        def make(world: World, watch: Watch) -> None:
            watch.phase("race")
            plan.build(world)

        return runner_of(make)

    assert sum(compare(run_of(Plan.random(seed)), seed, pieces) for seed in range(first, first + 20)) > 100


def kernel_programs() -> Iterator[Any]:
    for number, (name, program) in enumerate(FOUND.items()):
        yield pytest.param(program, number, id=name)
    for seed in range(40):
        slow = () if seed < 8 else (pytest.mark.slow,)
        yield pytest.param(random_kernel_program(seed), seed, id=f"random {seed}", marks=slow)


@pytest.mark.parametrize(("program", "seed"), list(kernel_programs()))
def test_kernel_programs_have_the_same_schedules_in_the_same_order(
    program: Any, seed: int, pieces: Callable[[int], None]
) -> None:
    for rcu in ("eager", "batched"):
        compare(runner_of(lambda world, _, rcu=rcu: Stage(program, world, rcu)), seed, pieces)  # type: ignore[misc]  # rcu is a str


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_each_class_of_brute_force_is_explored_once(first: int, pieces: Callable[[int], None]) -> None:
    for seed in range(first, first + 20):
        pieces(1 + seed % 3)
        program = random_program(seed)
        search, _ = divided(runner(program), 3, seed)
        classes = [outcome.trace_class for ended in explored(search, runner(program), 10_000)[0] for outcome in ended]

        assert len(classes) == len(set(classes)), seed
        assert set(classes) == set(run_dfs(program, Dfs())), seed


def test_the_workers_run_every_schedule_but_the_first_ones_and_none_in_vain(pieces: Callable[[int], None]) -> None:
    pieces(4)
    search, workers = divided(runner(writers(5)), 3, 0)
    ended, is_done = explored(search, runner(writers(5)), 1_000)

    assert is_done
    assert len(ended) == 120
    assert workers.schedules == 119


def test_subtrees_are_explored_ahead_of_their_turn(pieces: Callable[[int], None]) -> None:
    """All workers have tasks at once, although the order of the schedules is the order of one process."""
    pieces(4)
    search, workers = divided(runner(writers(5)), 3, 0)
    most = 0
    for _ in range(60):
        planned = search.next_schedule()
        assert planned is not None
        search.learn(planned, planned.report if isinstance(planned, Taken) else runner(writers(5))(planned))
        most = max(most, len(workers.tasks))

    assert most == 3


def test_the_error_of_a_task_comes_when_its_turn_comes(pieces: Callable[[int], None]) -> None:
    pieces(4)
    run = runner(writers(5))
    workers = Workers(3, run, random.Random(0))

    class Failing(Task):
        def end(self, answer: object, error: Exception | None = None) -> None:
            is_wrong = workers.schedules > 40
            super().end(None if is_wrong else answer, InternalError("wrong") if is_wrong else error)

    def task(path: bytes, floor: int, most: int) -> Task:
        whole = workers.task(path, floor, most)
        return Failing(whole.name, whole.call, whole.arguments)

    search, ended = Parallel(Dpor(), workers, task), []

    def explore() -> None:
        while (planned := search.next_schedule()) is not None:
            ended.append(planned)
            search.learn(planned, planned.report if isinstance(planned, Taken) else run(planned))

    with pytest.raises(InternalError, match="wrong"):
        explore()
    assert 10 < len(ended) < 120


def test_a_divergence_comes_when_its_turn_comes(pieces: Callable[[int], None]) -> None:
    """After 40 runs the same choices lead to another state. The schedules before that are still counted."""
    pieces(4)
    runs = itertools.count()

    def run(schedule: Following) -> JobReport:
        return runner(writers(5) if next(runs) < 40 else last_zero(4))(schedule)

    search, _ = divided(run, 3, 0)
    reports: list[JobReport] = []
    while not reports or reports[-1].divergence is None:
        planned = search.next_schedule()
        assert planned is not None
        reports.append(planned.report if isinstance(planned, Taken) else run(planned))
        if reports[-1].divergence is None:
            search.learn(planned, reports[-1])

    right = explored(Dpor(), runner(writers(5)), 300)[0]
    assert 10 < len(reports) <= 41
    assert [tuple(report.outcomes) for report in reports[:-1]] == right[: len(reports) - 1]
    assert not reports[-1].outcomes


@pytest.mark.parametrize(
    "program", [last_zero(4), read_then_write(3), writers(4)], ids=["last zero", "cell", "writers"]
)
def test_a_search_goes_on_from_its_state_at_any_point(program: Program, pieces: Callable[[int], None]) -> None:
    """Whatever the workers do at that point, and with another number of workers after it."""
    run = runner(program)
    whole, _ = explored(Dpor(), run, 1_000)
    for seed in range(12):
        draw = random.Random(seed)
        pieces(draw.choice((1, 3, 8)))
        search: Dpor | Parallel | Resumed = divided(run, draw.choice((1, 3)), seed)[0]
        ended: list[Ended] = []
        while len(ended) < len(whole):
            ended += explored(search, run, draw.randint(1, 12))[0]
            if draw.random() < 0.5:
                search.next_schedule()  # planned, and given up before it ends
            path, has_next, waiting = search.state
            then = Dpor(unpack(pack(path)), has_next=has_next)
            workers = Workers(2, run, draw)
            search = Resumed(deque(waiting), then if draw.random() < 0.5 else Parallel(then, workers, workers.task))
        assert ended == whole
        assert search.done


def test_a_path_is_the_same_after_it_was_packed() -> None:
    run, search = runner(last_zero(3)), Dpor()
    explored(search, run, 20)
    data = pack(search.path)

    assert pack(unpack(data)) == data
    assert [node.state for node in unpack(data)] == [node.state for node in search.path]


# -- scenarios --------------------------------------------------------------------------------------------------------


SLAB: dict[str, Any] = {"kernel": "5.4-fixed", "settings": {"allocator": "slab"}}
TWO_ROUNDS: dict[str, Any] = {"kernel": "5.3", "settings": {"rounds": "2"}}


def answer(
    scenario: str,
    workers: int,
    *,
    budget: int = 1_000,
    progress: Callable[[Campaign], None] | None = None,
    strategy: str = "dpor",
    **more: Any,
) -> dict[str, Any]:
    """The answer of a search in JSON, without the time it took."""
    options = RunOptions(scenario=scenario, driver="stepper", strategy=strategy, **more)
    campaign = Campaign(Experiment.of(options), options, budget=budget, workers=workers, progress=progress)
    campaign.run()
    said = campaign_json(campaign)
    del said["seconds"]
    found = {name: (one.schedule, one.seen) for name, one in campaign.found.items()}
    return {**said, "found": found, "classes": campaign.exact_classes, "pairs": campaign.pairs}


@pytest.mark.parametrize(
    ("scenario", "more", "findings"), [("allocate-and-block", SLAB, 0), ("canary", TWO_ROUNDS, 1)], ids=["none", "one"]
)
def test_the_answer_does_not_depend_on_the_number_of_workers(
    scenario: str, more: dict[str, Any], findings: int, pieces: Callable[[int], None]
) -> None:
    pieces(8)
    one = answer(scenario, 1, **more)

    assert one["stopped"] == "exhausted"
    assert one["schedules"] > 60
    assert len(one["findings"]) == findings
    assert [answer(scenario, workers, **more) for workers in (2, 3)] == [one, one]


def test_a_budget_ends_the_search_where_it_ends_with_one_worker(pieces: Callable[[int], None]) -> None:
    pieces(8)
    one = answer("late-allocation", 1, kernel="v7", budget=100)

    assert one["stopped"] == "budget"
    assert one["cut_off"]
    assert len(one["found"]) == 4
    assert answer("late-allocation", 2, kernel="v7", budget=100) == one


def test_the_portfolio_divides_its_exact_search_too(
    pieces: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces(4)
    monkeypatch.setattr("explorer.search.portfolio.LEAST_EXACT", 8)
    one = answer("allocate-and-block", 1, strategy="portfolio", **SLAB)

    assert one["stopped"] == "exhausted"
    assert one["by_strategy"]["dpor"]["schedules"] > 16
    assert answer("allocate-and-block", 2, strategy="portfolio", **SLAB) == one


def test_the_search_is_the_same_when_workers_are_lost(
    pieces: Callable[[int], None], capfd: pytest.CaptureFixture[str]
) -> None:
    pieces(8)
    left = [24, 40]

    def kill(campaign: Campaign) -> None:
        if left and campaign.schedules >= left[0]:
            left.pop(0)
            os.kill(next(iter(campaign._pool._workers.values())).process.pid, signal.SIGKILL)

    torn = answer("allocate-and-block", 2, progress=kill, **SLAB)

    assert not left
    assert torn.pop("lost_workers") == 2
    assert torn == {
        name: value for name, value in answer("allocate-and-block", 1, **SLAB).items() if name != "lost_workers"
    }
    assert capfd.readouterr().err.count("a worker process was lost (killed by SIGKILL); it is done again: ") >= 1


def test_a_search_that_cannot_be_divided_refuses_workers(slabrace: Command) -> None:
    said = slabrace("explore", "canary", "--strategy", "dfs", "--workers", "2")

    assert said.code == 2
    assert said.err == (
        "slabrace: --strategy dfs, which runs in one process: leave out --workers, it would have no effect\n"
    )
