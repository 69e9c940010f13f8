"""The answer of a campaign depends on its request and its budget, and on nothing else."""

from __future__ import annotations

import random
import shutil
from array import array
from pathlib import Path
from typing import Any

import pytest

from explorer.experiment import Experiment
from explorer.search.estimate import Sightings
from explorer.search.guided import Guide, is_unbiased
from explorer.search.jobs import run_job
from explorer.stress import store as stores
from explorer.stress.answer import Answer, reduce
from explorer.stress.campaign import chance_within
from explorer.stress.engines import Inline, Processes, Result
from explorer.stress.identity import key_of
from explorer.stress.matrix import Point, Request
from explorer.stress.plain import pack, unpack
from explorer.stress.planning import Sampled, load_planner, plan_epoch
from explorer.stress.store import Store
from explorer.stress.work import Order, work
from tests.stress.campaigns import SMALL, Failing, Shuffled, knowledge, run

BUDGET = 120


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a campaign that was never disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    run(folder, BUDGET)
    return folder


def test_the_budget_is_spent_exactly(whole: Path) -> None:
    with Store(whole, writes=False) as store:
        assert store.schedules(1) == BUDGET
        assert store.value("SELECT sum(schedules) FROM cells") == BUDGET
        assert store.value("SELECT sum(count) FROM jobs WHERE state != 'done'") is None
        assert store.value("SELECT count(*) FROM bugs WHERE cause = 'canary' AND state = 'known'") == 1


@pytest.mark.parametrize("engine", [Shuffled(), Shuffled(3, repeats=True), Processes(2)], ids=["late", "twice", "two"])
def test_the_order_of_answers_and_the_engine_do_not_matter(whole: Path, tmp_path: Path, engine: Any) -> None:
    stress = run(tmp_path / "store", BUDGET, engine=engine)

    assert knowledge(tmp_path / "store") == knowledge(whole)
    assert not stress.disagreements


def test_a_campaign_that_is_killed_at_any_moment_goes_on_as_if_nothing_had_happened(
    whole: Path, tmp_path: Path
) -> None:
    """A copy of the folder is what kill -9 leaves: all files as they are at that moment, with later jobs done first."""
    copies: list[Path] = []

    def copy(_event: str, _fields: dict[str, Any]) -> None:
        copies.append(tmp_path / f"copy{len(copies)}")
        shutil.copytree(tmp_path / "store", copies[-1])

    run(tmp_path / "store", BUDGET, told=copy, engine=Shuffled(6))
    some = copies[::5]
    for number, folder in enumerate(some):
        run(folder, BUDGET, engine=Shuffled(2) if number % 2 else Inline())

    assert len(some) > 3
    assert all(knowledge(folder) == knowledge(whole) for folder in some)


def test_a_campaign_in_parts_is_a_whole_one(whole: Path, tmp_path: Path) -> None:
    """A part ends by its time here; a budget would cut an epoch."""
    folder = tmp_path / "store"
    parts = [run(folder, BUDGET, seconds=0.0)]
    while parts[-1].stopped == "soak":
        parts.append(run(folder, BUDGET, seconds=0.02))

    assert len(parts) > 2
    assert sum(part.run_here for part in parts) == BUDGET
    assert knowledge(folder) == knowledge(whole)


def test_another_answer_to_a_done_job_is_an_error_and_both_logs_are_kept(tmp_path: Path) -> None:
    events: list[tuple[str, dict[str, Any]]] = []

    class Lying(Shuffled):
        async def result(self) -> Any:
            result = await super().result()
            if isinstance(result, Result) and result.number == 3 and self._again == [] and result.answer is not None:
                result.answer.with_findings += 1
            return result

    stress = run(tmp_path, 8, engine=Lying(4, repeats=True), told=lambda event, fields: events.append((event, fields)))

    (fields,) = [fields for event, fields in events if event == "two answers"]
    assert stress.disagreements == 1
    assert fields["job"] == 3
    assert fields["first"] != fields["second"]
    assert [name for name in fields["logs"] if (tmp_path / "findings" / name).exists()] == fields["logs"]


def test_a_lost_job_is_listed_and_not_counted(tmp_path: Path) -> None:
    stress = run(tmp_path, 30, engine=Failing([2]))

    with Store(tmp_path, writes=False) as store:
        (lost,) = store.rows("SELECT * FROM jobs WHERE state = 'lost'")
        assert (lost["id"], lost["why"]) == (2, "three workers were lost")
        assert store.schedules(1) == stress.done == 30
    assert stress.totals.lost == 1


def test_a_job_is_refused_if_the_code_has_changed_since() -> None:
    options = unpack(pack(SMALL), Request)
    assert options == SMALL
    experiment = Experiment.of(_options())
    key = key_of(experiment)
    job = Sampled("random", 1).plan(1, 1)[0]

    assert work(Order(1, key, _options(), job)).schedules == 1
    with pytest.raises(Exception, match="has changed since the campaign began"):
        work(Order(1, "0" * 32, _options(), job))
    assert experiment.header.scenario == "canary"


def _options() -> Any:
    return Point(scenario="canary", kernel="5.3", strategy="random").options(0)


def test_jobs_reduce_before_they_answer() -> None:
    """The counts of an answer are those of the report, and its digest does not depend on logs."""
    experiment = Experiment.of(_options())
    key = key_of(experiment)
    job = Sampled("random", 5, first=1).plan(1, 16)[0]
    report = run_job(experiment, job)
    answer = work(Order(1, key, _options(), job, on_trio=True))

    assert answer.disagreement == ""
    assert answer.digest() == reduce(report).digest()
    assert answer.schedules == len(report.outcomes) == len(answer.classes) // 8 == 16
    assert (
        answer.with_findings
        == sum(seen.count for seen in answer.seen)
        == sum(bool(one.findings) for one in report.outcomes)
        > 0
    )
    assert all(seen.log for seen in answer.seen)
    assert unpack(pack(answer), Answer) == answer


def test_class_counts_are_those_of_explore(tmp_path: Path) -> None:
    """The table of the store agrees with the class counts of a search, in any division into jobs."""
    source = random.Random(3)
    sightings = Sightings()
    run(tmp_path, 4)
    with Store(tmp_path, writes=True) as store:
        store._db.execute("UPDATE cells SET draws = 0, once = 0, classes = 0")
        store._db.execute("DELETE FROM classes")
        for _ in range(40):
            classes = [
                source.choice([source.getrandbits(64), source.randrange(20)]) for _ in range(source.randrange(9))
            ]
            drawn = bytes(source.randrange(2) for _ in classes)
            for one, is_draw in zip(classes, drawn, strict=True):
                sightings.add(f"{one:016x}", "random" if is_draw else "")
            store.count_classes(1, array("Q", classes).tobytes(), drawn)
        (row,) = store.rows("SELECT * FROM cells WHERE id = 1")
        assert (row["classes"], row["draws"]) == (sightings.classes, sightings.draws.total())
        assert row["once"] / row["draws"] == sightings.chance_of_new


def test_many_classes_are_estimated_from_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the table keeps the classes with zero bits at their end, whatever the order of the schedules."""
    monkeypatch.setattr(stores, "MOST_CLASSES", 256)
    source = random.Random(4)
    classes = [source.getrandbits(64) for _ in range(20_000)]
    seen: list[Any] = []
    for number in range(2):
        run(tmp_path / str(number), 4)
        with Store(tmp_path / str(number), writes=True) as store:
            store._db.execute("UPDATE cells SET draws = 0, once = 0, classes = 0")
            store._db.execute("DELETE FROM classes")
            for start in range(0, len(classes), 100):
                part = classes[start : start + 100]
                store.count_classes(1, array("Q", part).tobytes(), bytes([1]) * len(part))
            (row,) = store.rows("SELECT classes, level, once, draws FROM cells WHERE id = 1")
            seen.append((tuple(row), [tuple(one) for one in store.rows("SELECT * FROM classes")]))
            assert abs((row["classes"] << row["level"]) / len(classes) - 1) < 4 / row["classes"] ** 0.5
            assert row["once"] == row["classes"] <= 256
        source.shuffle(classes)
    assert seen[0] == seen[1]


def test_half_of_an_epoch_goes_to_the_cells_with_the_fewest_steps(whole: Path) -> None:
    with Store(whole, writes=False) as store:
        cells = store.cells(1)
    epoch = plan_epoch(cells, 0, 9, 1 << 40)

    assert {planned.cell for planned in epoch.jobs} == {cell.id for cell in cells}
    assert len(epoch.jobs) >= 64
    assert plan_epoch(cells, 0, 9, 1 << 40) == epoch
    assert plan_epoch(cells, 0, 9, 77).schedules == 77


def test_a_guide_knows_the_pairs_and_the_findings_of_its_cell(whole: Path) -> None:
    """So jobs need not carry the pairs through the store."""
    with Store(whole, writes=False) as store:
        for cell in store.cells(1):
            planner = load_planner(cell)
            if isinstance(planner, Guide):
                assert planner.pairs == store.known_pairs(cell.id)
                assert planner.signatures == store.known_signatures(cell.id, 1 << 40)
                assert planner.plan(1, 1)[0].seen == tuple(sorted(planner.pairs))
                assert planner.known.runs == cell.schedules


def test_the_estimates_are_fed_by_draws_alone(whole: Path) -> None:
    with Store(whole, writes=False) as store:
        for cell in store.rows("SELECT id, draws FROM cells"):
            jobs = store.rows("SELECT way, count FROM jobs WHERE cell = ?", cell["id"])
            assert cell["draws"] == sum(job["count"] for job in jobs if is_unbiased(job["way"]))
        assert store.draws(1) > 0


def test_the_chance_within_an_hour() -> None:
    assert chance_within(0.0, 1e6) == 0
    assert chance_within(1.0, 1) == 1
    assert chance_within(0.5, 2) == pytest.approx(0.75)
