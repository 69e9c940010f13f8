"""Means, errors, and the text and files that show them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable

import pytest

from explorer.growth.comparison import MB, errors_of, mean_error, rows_of
from explorer.growth.fleet import Fleet, HostRun
from explorer.growth.plot import draw
from explorer.growth.published import V1_TO_V3, V4_TO_V7
from explorer.growth.report import Comparison, progress_line, to_csv, to_json
from tests.growth.hosts import day, job_of


def run(kernel: str, host: int, dying: Iterable[int], memory: int = 0) -> HostRun:
    days = [day(number, figure, memory * number) for number, figure in enumerate(dying)]
    return HostRun(job_of(kernel, host=str(host)), days, is_over=True)


def as_published() -> Fleet:
    """Two hosts whose means are exactly the published figures, except memory."""
    runs = []
    for host, sign in ((0, 1), (1, -1)):
        runs.append(run("original", host, (figure + sign for figure in V4_TO_V7.original), 30 * MB))
        runs.append(run("5.3", host, (figure - sign for figure in V4_TO_V7.patched)))
    return Fleet(runs, days=7)


def test_means_are_taken_over_the_hosts() -> None:
    rows = rows_of(as_published().runs, "5.3", 7)

    assert tuple(row.original for row in rows) == V4_TO_V7.original
    assert tuple(row.patched for row in rows) == V4_TO_V7.patched
    assert [row.memory for row in rows] == [30.0 * number for number in range(8)]


def test_errors_are_relative_to_what_was_published() -> None:
    errors = {(error.series, error.row): error for error in errors_of(rows_of(as_published().runs, "5.3", 7), "5.3")}

    assert errors["v4-v7", "original"].worst == 0
    assert errors["v4-v7", "memory"].by_day[2] == pytest.approx(abs(60 - 123) / 123)
    assert errors["v1-v3", "original"].by_day[0] == pytest.approx((56 - 39) / 39)
    assert len(errors["v1-v3", "patched"].by_day) == len(V1_TO_V3.patched)
    assert [error.is_fitted for error in errors.values()] == [True, True, False, False, False, False]
    assert mean_error(list(errors.values()), is_fitted=True) == 0


def test_what_is_not_simulated_yet_is_left_out() -> None:
    runs = [run("original", 0, (56, 362)), run("5.3", 0, (23,)), run("original", 1, ()), run("5.3", 1, ())]
    rows = rows_of(runs, "5.3", 7)
    errors = errors_of(rows, "5.3")

    assert [row.original for row in rows] == [56, 362, None, None, None, None, None, None]
    assert rows[1].patched is None
    assert rows[1].memory is None
    assert {(error.row, len(error.by_day)) for error in errors} == {("original", 2), ("patched", 1), ("memory", 1)}


def test_a_kernel_of_today_is_not_held_against_the_figures_of_2019() -> None:
    runs = [run("original", 0, (56, 362)), run("6.12", 0, (23, 46))]
    errors = errors_of(rows_of(runs, "6.12", 7), "6.12")

    assert {(error.series, error.row) for error in errors} == {("v4-v7", "original"), ("v1-v3", "original")}
    assert b"6.12" in draw(Comparison.of(Fleet(runs, days=7), "6.12"), ".svg")


def test_nothing_simulated_is_no_error() -> None:
    comparison = Comparison.of(Fleet([HostRun(job_of("original"))], days=7), "5.3")

    assert comparison.errors == []
    assert json.loads(json.dumps(to_json(comparison)))["mean_error"] == {"fitted": None, "predicted": None}


def test_the_csv_has_the_layout_of_the_published_one() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(Comparison.of(as_published(), "5.3")))))

    assert list(rows[0]) == ["series", "day", "original", "patched", "memory_difference_mb"]
    assert {row["series"] for row in rows} == {"simulated", "host-0", "host-1", "v4-v7", "v1-v3"}
    first = [row for row in rows if row["series"] == "v4-v7" and row["day"] == "1"]
    assert first == [{"series": "v4-v7", "day": "1", "original": "362", "patched": "46", "memory_difference_mb": "74"}]


@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_the_picture_is_the_same_each_time(suffix: str, magic: bytes) -> None:
    comparison = Comparison.of(as_published(), "5.3")
    picture = draw(comparison, suffix)

    assert picture.startswith(magic)
    assert picture == draw(comparison, suffix)
    if suffix == ".svg":
        assert b"dying cgroups on original" in picture
        assert b"published v1-v3" in picture


def test_progress_says_how_long_it_will_take() -> None:
    fleet = Fleet([run("original", 0, (1, 2, 3, 4)), HostRun(job_of("5.3"))], days=3)
    fleet.began -= 10

    assert progress_line(fleet) == "50% of 3 days, 1 of 2 runs over, 10 s, 10 s left"


def test_progress_of_no_days_is_not_a_division_by_zero() -> None:
    assert "not known" in progress_line(Fleet([HostRun(job_of("5.3", days="0"))], days=0))
