"""The command `slabrace growth`."""

from __future__ import annotations

import csv
import json
from importlib import resources
from pathlib import Path

import pytest

from explorer.growth.fleet import Fleet
from explorer.growth.report import FleetProgress
from scenarios.services import CAPTURE
from tests.conftest import Command, check_usage_error
from tests.growth.hosts import TINY

TINY_OPTIONS = ["--days", "0", "--hosts", "1"] + [
    part for name, value in TINY.items() if name != "days" for part in ("--set", f"{name}={value}")
]


def test_it_prints_both_kernels_beside_the_published_figures(slabrace: Command) -> None:
    answer = slabrace("growth", *TINY_OPTIONS)

    assert answer.code == 0, answer.err
    assert "(56)" in answer.out
    assert "day 0 only" in answer.out, "a run of no day says so"
    assert "original, fitted: error" in answer.out
    assert "memory difference, predicted: error" in answer.out


def test_it_writes_what_it_prints(slabrace: Command, tmp_path: Path) -> None:
    table, picture = tmp_path / "figures.csv", tmp_path / "figures.svg"
    answer = slabrace("growth", *TINY_OPTIONS, "--json", "--csv", str(table), "--plot", str(picture))
    found = json.loads(answer.out)

    assert answer.code == 0, answer.err
    assert found["outcome"] == "ok"
    assert found["kernels"] == ["original", "5.3"]
    assert len(found["workload"]) <= 6
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert float(rows[0]["original"]) == pytest.approx(found["mean"][0]["original"])
    assert picture.read_bytes().startswith(b"<?xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.csv", "figures.svg"]


def test_a_kernel_of_today_has_no_published_figures(slabrace: Command) -> None:
    answer = slabrace("growth", "--kernel", "6.12", *TINY_OPTIONS)

    assert answer.code == 0, answer.err
    assert "(56)" in answer.out
    assert "(23)" not in answer.out
    assert "6.12, " not in answer.out


def test_another_seed_is_another_host(slabrace: Command) -> None:
    answers = [json.loads(slabrace("growth", *TINY_OPTIONS, "--json", "--seed", seed).out) for seed in ("1", "2")]

    assert answers[0]["hosts"] != answers[1]["hosts"]
    assert answers[0]["steps"] != answers[1]["steps"]


def test_ctrl_c_leaves_what_was_simulated(slabrace: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_self: FleetProgress, fleet: Fleet) -> None:
        if any(run.days for run in fleet.runs):
            raise KeyboardInterrupt

    monkeypatch.setattr(FleetProgress, "tell", interrupt)
    table = tmp_path / "figures.csv"
    answer = slabrace("growth", "--hosts", "2", "--set", "unit=60", "--json", "--csv", str(table))
    found = json.loads(answer.out)

    assert answer.code == 130
    assert found["outcome"] == "interrupted"
    assert sum(len(run["days"]) for run in found["runs"]) == 1
    assert "simulated,0" in table.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--days", "x"], "x"),
        (["--days", "-1"], "--days"),
        (["--days", "1001"], "days"),
        (["--hosts", "0"], "one or more"),
        (["--workers", "0"], "one or more"),
        (["--kernel", "original"], "original"),
        (["--kernel", "6.0"], "6.0"),
        (["--seed", "x"], "x"),
        (["--set", "restarts"], "NAME=VALUE"),
        (["--set", "restarts=many"], "restarts"),
        (["--set", "colour=red"], "colour"),
        (["--set", "days=3"], "--days"),
        (["--set", "host=3"], "--seed"),
        (["--set", "cgroup=v3"], "cgroup"),
        (["--set", "slabinfo=/nowhere"], "/nowhere"),
        (["--plot", "figures.txt"], ".svg"),
        (["--plot", "/dev/null/figures.svg"], "/dev/null/figures.svg"),
        (["--csv", "/dev/null/figures.csv"], "/dev/null/figures.csv"),
        (["--walk", "--plot", "figures.svg"], "--walk"),
        (["--walk", "--kernel", "6.12"], "6.12 has SLUB only"),
        (["--walk", "--hosts", "2"], "--walk"),
        (["--walk", "--set", "allocator=slub"], "--set allocator: leave it out: --walk sets it"),
        (["--force"], "--csv and --plot, which are not given"),
    ],
)
def test_an_invalid_option_is_refused_in_one_line(slabrace: Command, arguments: list[str], named: str) -> None:
    answer = slabrace("growth", *arguments)

    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("slabrace: ")
    assert answer.err.count("\n") == 1
    assert named in answer.err


def test_a_machine_without_a_cache_that_is_needed_is_refused(slabrace: Command, tmp_path: Path) -> None:
    capture = tmp_path / "slabinfo"
    lines = resources.files("scenarios").joinpath("data", CAPTURE).read_text(encoding="utf-8").splitlines(keepends=True)
    capture.write_text("".join(line for line in lines if "task_struct" not in line), encoding="utf-8")
    answer = slabrace("growth", "--set", f"slabinfo={capture}")

    assert answer.code == 2
    assert "task_struct" in answer.err


def test_a_picture_without_matplotlib_is_refused_before_anything_is_simulated(
    slabrace: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explorer.growth.plot.importlib.util.find_spec", lambda _: None)
    line = check_usage_error(slabrace("growth", *TINY_OPTIONS, "--plot", "figures.svg"))

    assert "figures.svg" in line
    assert "pip install 'slabrace[plot]'" in line


@pytest.mark.parametrize("option", ["--csv", "--plot"])
def test_no_file_is_replaced_unless_that_is_wanted(slabrace: Command, tmp_path: Path, option: str) -> None:
    path = tmp_path / "figures.svg"
    path.write_text("mine", encoding="utf-8")
    refused = slabrace("growth", *TINY_OPTIONS, option, str(path))

    assert refused.code == 2
    assert "exists" in refused.err
    assert path.read_text(encoding="utf-8") == "mine"
    assert slabrace("growth", *TINY_OPTIONS, option, str(path), "--force").code == 0
    assert path.read_text(encoding="utf-8") != "mine"
    assert list(tmp_path.iterdir()) == [path]
