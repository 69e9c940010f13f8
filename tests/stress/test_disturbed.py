"""Campaigns that go on after crashes between answers, with smaller budgets, or in odd databases; nothing takes over."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from explorer.stress import engines
from explorer.stress.answer import Answer
from explorer.stress.engines import Result
from explorer.stress.matrix import Request
from explorer.stress.store import FILE, Store, StoreError
from explorer.stress.symptoms import NOTE, mark_symptoms
from explorer.stress.work import Order, experiment_of, work
from explorer.workers import Pool, Task
from tests.conftest import Command, check_usage_error
from tests.helpers import MODULE, start_process
from tests.processes.tasks import double
from tests.stress.campaigns import Failing, Shuffled, knowledge, run
from tests.stress.stores import change
from tests.stress.test_command import OWN

ONE = Request(scenarios=("canary",), kernels=("5.3",), strategies=("pct:3",), seed=1)
"""One cell, whose flaw is shown by most jobs of an epoch."""


class Ending(Shuffled):
    """An engine that ends the campaign after some answers, by a crash or a signal; the latest jobs answer first."""

    def __init__(self, answers: int, *, crashes: bool) -> None:
        super().__init__()
        self._left = answers
        self._crashes = crashes

    async def result(self) -> Any:
        self._left -= 1
        if self._left >= 0:
            return await super().result()
        if self._crashes:
            raise SystemExit
        return Result(self._orders[0].number, "interrupted")


def test_the_first_schedule_is_the_witness_after_a_crash_between_answers(tmp_path: Path) -> None:
    """A later job of the epoch has written its log before the crash, and the first one runs after it."""
    run(tmp_path / "whole", 300, request=ONE)
    with contextlib.suppress(SystemExit):
        run(tmp_path / "store", 300, request=ONE, engine=Ending(2, crashes=True))
    with Store(tmp_path / "store", writes=False) as store:
        before = store.value("SELECT first FROM witnesses")
    run(tmp_path / "store", 300, request=ONE)

    assert before > 1
    assert knowledge(tmp_path / "store") == knowledge(tmp_path / "whole")


def test_a_smaller_budget_holds_in_an_epoch_that_was_planned_with_a_larger_one(tmp_path: Path) -> None:
    """The epoch has thousands of schedules; it goes on with a larger budget."""
    first = run(tmp_path, 100_000, request=ONE, engine=Ending(3, crashes=False))
    within = run(tmp_path, first.done + 200, request=ONE)
    again = run(tmp_path, first.done + 200, request=ONE)
    more = run(tmp_path, first.done + 400, request=ONE)

    assert (first.stopped, first.left > 10) == ("interrupted", True)
    assert [part.stopped for part in (within, again, more)] == ["budget"] * 3
    assert first.done < within.done <= first.done + 200
    assert (again.run_here, again.done) == (0, within.done)
    assert within.done < more.done <= first.done + 400


def test_a_store_that_was_killed_before_its_tables_were_there_is_made_again(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    assert (tmp_path / FILE).stat().st_size

    with Store(tmp_path, writes=True) as store:
        assert store.latest() is None


@pytest.mark.parametrize("version", [0, -3])
def test_a_version_that_never_was_is_damage(tmp_path: Path, version: int) -> None:
    run(tmp_path, 2)
    change(tmp_path, f"PRAGMA user_version = {version}")

    with pytest.raises(StoreError, match=f"the store is damaged: no slabrace made a version {version}$"):
        Store(tmp_path, writes=True)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE campaigns SET request = '{]'",
        "UPDATE campaigns SET request = '{}' || char(0)",
        "UPDATE cells SET point = '[]'",
        "UPDATE cells SET guide = x'00'",
        "UPDATE witnesses SET finding = '7'",
    ],
)
def test_damaged_values_are_told_of_in_one_line(slabrace: Command, statement: str) -> None:
    slabrace("stress", "canary", "--store", "store", "--workers", 1, "--budget", 20)
    change(Path("store"), statement)

    answer = slabrace("stress", "--store", "store", "--workers", 1, "--budget", 60)

    assert (answer.code, answer.out) == (2, "")
    assert answer.err.splitlines()[-1].startswith("slabrace: store: the store is damaged: ")
    assert "Traceback" not in answer.err


def test_a_campaign_whose_cells_are_closed_by_losses_has_not_diverged(slabrace: Command) -> None:
    run(Path("store"), 3, request=ONE, engine=Failing([1]))
    answer = slabrace("stress", "--store", "store", "--workers", 1, "--budget", 60, "--json")

    assert answer.code == 3
    assert json.loads(answer.out)["outcome"] == "lost"


def test_a_cell_that_diverges_keeps_a_bug_that_others_are_duplicates_of(tmp_path: Path) -> None:
    run(tmp_path, 40, request=ONE)
    change(tmp_path, "UPDATE bugs SET state = 'open'")
    change(tmp_path, "INSERT INTO bugs (cause, state, of, campaign) VALUES ('a symptom', 'dup', 1, 1)")
    with Store(tmp_path, writes=True) as store:
        with store.changing():
            store.forget_sightings(1)
        assert store.value("SELECT count(*) FROM bugs") == 2
        assert not store.rows("SELECT * FROM sightings")


def test_the_symptoms_of_earlier_campaigns_stay_marked(tmp_path: Path) -> None:
    run(tmp_path, 40, request=ONE)
    change(tmp_path, "INSERT INTO bugs (cause, state, of, note, campaign) VALUES ('a', 'dup', 1, ?, 1)", NOTE)
    with Store(tmp_path, writes=True) as store:
        mark_symptoms(store, 1, 0)
        assert store.value("SELECT state FROM bugs WHERE cause = 'a'") == "dup"


def test_what_people_say_of_a_bug_stays(slabrace: Command) -> None:
    """The second warning is a symptom of the first one, until somebody says that it is not."""
    Path("mine.py").write_text(OWN.format(body='WARN_ON(ctx, True, "a"); WARN_ON(ctx, True, "b")'), encoding="utf-8")
    options = ("stress", "--store", "store", "--workers", 1)
    slabrace(*options, "mine.py:mine", "--budget", 3)
    before = _states()
    slabrace("bugs", "store", 2, "--open", "--note", "mine")
    slabrace(*options, "--budget", 5)

    assert before == [(1, "open", ""), (2, "dup", NOTE)]
    assert _states() == [(1, "open", ""), (2, "open", "mine")]


def test_a_file_that_is_edited_meanwhile_ends_the_part_and_loses_no_job(
    slabrace: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Path("mine.py")
    before = OWN.format(body="pass")
    mine.write_text(before, encoding="utf-8")
    options = ("stress", "mine.py:mine", "--store", "store", "--workers", 1, "--budget", 12)

    def work_and_edit(order: Order) -> Answer:
        experiment_of.cache_clear()  # another worker has not read the file yet
        try:
            return work(order)
        finally:
            mine.write_text(OWN.format(body="1 + 1"), encoding="utf-8")

    with monkeypatch.context() as patched:
        patched.setattr(engines, "work", work_and_edit)
        ended = slabrace(*options)
    mine.write_text(before, encoding="utf-8")
    gone_on = slabrace(*options, "--json")

    assert ended.code == 2
    assert ended.out.startswith("changed: ")
    assert "the code, or a file that it names, has changed since the campaign began" in ended.err
    assert gone_on.code == 0, gone_on.err
    told = json.loads(gone_on.out)
    assert {name: told[name] for name in ("campaign", "schedules", "schedules_here", "lost_jobs")} == {
        "campaign": 1,
        "schedules": 12,
        "schedules_here": 11,
        "lost_jobs": 0,
    }


def test_a_log_that_is_gone_leaves_the_totals(slabrace: Command) -> None:
    Path("mine.py").write_text(OWN.format(body='WARN_ON(ctx, True, "a"); WARN_ON(ctx, True, "b")'), encoding="utf-8")
    slabrace("stress", "mine.py:mine", "--store", "store", "--workers", 1, "--budget", 3)
    for log in Path("store/findings").iterdir():
        log.unlink()
    answer = slabrace("stress", "--store", "store", "--workers", 1, "--budget", 5)

    assert answer.code == 1, answer.err
    assert "2 new causes" in answer.out
    assert "which causes are symptoms of others is not known" in answer.err


def _states() -> list[tuple[int, str, str]]:
    with Store(Path("store"), writes=False) as store:
        return [(row["id"], row["state"], row["note"]) for row in store.rows("SELECT * FROM bugs ORDER BY id")]


def test_events_to_a_full_disk_are_dropped(slabrace: Command) -> None:
    answer = slabrace("stress", "canary", "--store", "store", "--workers", 1, "--budget", 8, "--events", "/dev/full")

    assert answer.code == 0, answer.err
    assert answer.err.count("--events: no more are written: No space left on device") == 1


def test_a_swarm_has_a_limit(slabrace: Command) -> None:
    assert "--swarm 10001: give at most 10000" in check_usage_error(
        slabrace("stress", "canary", "--store", "store", "--swarm", 10001)
    )
    assert not Path("store").exists()


def test_a_name_that_no_store_can_keep_is_refused(slabrace: Command) -> None:
    folder = Path("d\udcff")
    folder.mkdir()
    (folder / "mine.py").write_text(OWN.format(body="pass"), encoding="utf-8")
    answer = slabrace("stress", folder / "mine.py:mine", "--store", "store", "--workers", 1, "--budget", 3)

    assert "mine.py:mine: a store keeps names in Unicode only" in check_usage_error(answer)
    assert not Path("store").exists()


def test_a_pool_has_no_more_workers_than_tasks() -> None:
    pool = Pool(1_000_000)
    task = Task("it", double, (2,))
    try:
        pool.add(task)
        assert len(pool.workers) == 1
        assert pool.answer(task) == 4
    finally:
        pool.close()


def test_a_signal_ends_a_campaign_while_its_cells_are_planned(tmp_path: Path) -> None:
    """There are thousands of cells: to plan them takes longer than anybody waits."""
    words = ("stress", "--kernel", "all", "--sweep", "cpus=1..64", "--strategy", "random,urw,pos,pct:2,pct:3")
    with start_process(*MODULE, *words, "--store", str(tmp_path / "store")) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
        assert process.poll() is None
        process.send_signal(SIGTERM)
        assert process.wait(10) == 128 + SIGTERM
