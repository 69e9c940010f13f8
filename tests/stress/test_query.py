"""`slabrace query`: its answers, against the rows of the store, counted another way."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from explorer import defaults
from explorer.stress.queries import QUESTIONS, schema_text
from explorer.stress.store import FILE, Store
from tests.conftest import Command, check_usage_error
from tests.stress.stores import BUDGET, LOST, NEW, campaign, own, rows

__all__ = ["campaign", "own"]

each_question = pytest.mark.parametrize("question", QUESTIONS)


def asked(slabrace: Command, folder: Path, question: str) -> list[dict[str, Any]]:
    answer = slabrace("query", folder, question, "--json")
    assert answer.code == 0, answer.err
    return list(json.loads(answer.out))


def test_the_questions_in_the_help_are_those_that_there_are() -> None:
    assert list(QUESTIONS) == list(defaults.QUESTIONS)


def test_the_totals_are_those_of_the_rows(slabrace: Command, campaign: Path) -> None:
    (told,) = asked(slabrace, campaign, "summary")
    (done,) = rows(campaign, "SELECT sum(count) FROM jobs WHERE state = 'done'")

    assert told["schedules"] == done[0] == BUDGET
    assert told["lost_jobs"] == 1
    assert told["cells"] == 6
    assert told["new_causes"] == told["open"] == len(rows(campaign, "SELECT 1 FROM bugs WHERE state = 'open'")) > 0
    assert told["known"] >= 1
    assert told["trace_classes"] == len(rows(campaign, "SELECT 1 FROM classes"))
    assert told["pairs"] == len(rows(campaign, "SELECT 1 FROM pairs"))
    assert told["gaps"] == len(asked(slabrace, campaign, "gaps"))


def test_a_new_cause_and_a_known_one_are_told_apart(slabrace: Command, campaign: Path) -> None:
    causes = {row["cause"]: row for row in asked(slabrace, campaign, "causes")}
    new = next(row for cause, row in causes.items() if cause.startswith(NEW))

    assert (new["state"], new["kernels"], new["scenarios"]) == (
        "open",
        ["5.4-fixed -b749ecfaf6c5"],
        ["destroy-typesafe"],
    )
    assert (causes["canary"]["state"], causes["canary"]["judged"]) == ("known", "planted")
    assert [row["state"] for row in causes.values()] == sorted((row["state"] for row in causes.values()), reverse=True)
    for row in causes.values():
        (count,) = rows(campaign, "SELECT sum(count) FROM sightings WHERE bug = ?", row["id"])
        assert row["sightings"] == row["sightings_ever"] == count[0]


def test_gaps_are_pairs_that_no_cell_of_the_scenario_has_shown(slabrace: Command, campaign: Path) -> None:
    seen = defaultdict(set)
    for row in rows(campaign, "SELECT scenario, first, second FROM pairs JOIN cells ON cells.id = cell"):
        seen[row["scenario"]].add((row["first"], row["second"]))
    missing = {
        (scenario, second, first)
        for scenario, pairs in seen.items()
        for first, second in pairs
        if (second, first) not in pairs
    }

    assert missing
    assert {(row["scenario"], row["before"], row["after"]) for row in asked(slabrace, campaign, "gaps")} == missing


def test_schedules_to_the_first_finding_are_counted_by_way(slabrace: Command, campaign: Path) -> None:
    expected: dict[tuple[int, str], int] = {}
    before = Counter[str]()
    sightings = rows(campaign, "SELECT * FROM sightings")
    for job in rows(campaign, "SELECT * FROM jobs WHERE state = 'done' ORDER BY id"):
        for seen in sightings:
            if seen["job"] == job["id"]:
                key = seen["bug"], job["way"]
                place = before[job["way"]] + seen["first"] - job["first"] + 1
                expected[key] = min(expected.get(key, place), place)
        before[job["way"]] += job["count"]

    assert {(row["id"], row["way"]): row["schedules"] for row in asked(slabrace, campaign, "first")} == expected
    assert all(1 <= expected[bug, way] <= before[way] for bug, way in expected)


def test_a_lost_job_is_listed_with_its_arguments(slabrace: Command, campaign: Path) -> None:
    (row,) = asked(slabrace, campaign, "lost")

    assert row["why"] == LOST
    assert row["point"]["scenario"] in row["name"]
    assert row["count"] >= 1
    assert isinstance(row["seed"], int)
    text = slabrace("query", campaign, "lost").out
    assert "\x1b" not in text
    assert "worker <lost>\\x1b[31m: killed" in text


def test_a_property_that_was_reached_is_not_among_the_unreached(slabrace: Command, campaign: Path) -> None:
    unreached = asked(slabrace, campaign, "unreached")

    assert "never <b>so</b>" in {row["property"] for row in unreached}
    for row in unreached:
        assert 1 <= row["cells"] <= row["of"] <= 2
        assert row["property"] != "both tasks have counted"


def test_jobs_and_cells_have_all_schedules(slabrace: Command, campaign: Path) -> None:
    (told,) = asked(slabrace, campaign, "summary")
    jobs, cells, curve = (asked(slabrace, campaign, question) for question in ("jobs", "cells", "curve"))

    assert sum(row["schedules"] for row in jobs) == sum(row["schedules"] for row in cells) == told["schedules"]
    assert sum(row["lost"] for row in jobs) == 1
    assert [row["number"] for row in curve] == list(range(told["epochs"]))
    assert curve[-1]["schedules"] == told["schedules"]


def test_the_schema_is_printed_as_it_is(slabrace: Command, campaign: Path) -> None:
    assert slabrace("query", campaign, "schema").out == schema_text()


@each_question
def test_every_question_has_a_table(slabrace: Command, campaign: Path, question: str) -> None:
    answer = slabrace("query", campaign, question)

    assert answer.code == 0
    assert answer.out.strip()


@each_question
def test_an_empty_store_answers_every_question(slabrace: Command, tmp_path: Path, question: str) -> None:
    Store(tmp_path / "empty", writes=True).close()
    answer = slabrace("query", "empty", question)

    assert answer.code == 0
    assert answer.out == (schema_text() if question == "schema" else "nothing\n")
    assert slabrace("query", "empty", question, "--json").code == 0


def test_an_unknown_question_is_one_line_with_the_known_ones(slabrace: Command, campaign: Path) -> None:
    line = check_usage_error(slabrace("query", campaign, "nosuch"))

    assert "nosuch" in line
    assert "summary" in line


@pytest.mark.parametrize("words", [["query"], ["bugs"], ["report"], ["bugs", "1", "--known"]])
@pytest.mark.parametrize("content", [None, b"", b"no database" * 100, "foreign"])
def test_what_is_no_store_is_one_line(
    slabrace: Command, tmp_path: Path, words: list[str], content: bytes | str | None
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if isinstance(content, bytes):
        (folder / FILE).write_bytes(content)
    elif content == "foreign":
        database = sqlite3.connect(folder / FILE)
        database.execute("CREATE TABLE campaigns (id INTEGER)")
        database.close()
    before = sorted(path.name for path in folder.iterdir())
    line = check_usage_error(slabrace(words[0], folder, *words[1:]))

    assert "folder" in line
    assert sorted(path.name for path in folder.iterdir()) == before
    assert not (tmp_path / "report.html").exists()


def test_a_damaged_store_is_one_line(slabrace: Command, own: Path) -> None:
    data = bytearray((own / FILE).read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    (own / FILE).write_bytes(data)

    for words in (["query", own], ["bugs", own], ["report", own], ["bugs", own, 1, "--known"]):
        check_usage_error(slabrace(*words))
