"""The command `stress`: campaigns begin, go on, and say in one line what is wrong with their options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explorer.stress.store import Store
from tests.conftest import Command, check_usage_error

QUICK = ("--store", "store", "--workers", "1")

OWN = """
from actors.api import WARN_ON
from scenarios.api import MACHINE, scenario

@scenario("mine", "one task", *MACHINE)
def mine(stage):
    stage.boot()

    async def one(ctx):
        {body}

    stage.task("one", one)
"""


def test_a_campaign_goes_on_with_the_same_options_or_with_none(slabrace: Command) -> None:
    first = slabrace("stress", "canary", *QUICK, "--budget", 20)
    again = slabrace("stress", "canary", *QUICK, "--budget", 25)
    bare = slabrace("stress", *QUICK, "--budget", 30, "--json")
    other = slabrace("stress", "canary", *QUICK, "--budget", 5, "--seed", 1)
    told: dict[str, Any] = json.loads(bare.out)

    assert [answer.code for answer in (first, again, bare, other)] == [0, 0, 0, 0]
    assert "campaign 1 begins: 1 cell" in first.err
    assert "campaign 1 goes on: 1 cell" in again.err
    assert (told["schedules"], told["schedules_here"], told["outcome"]) == (30, 5, "ok")
    assert "campaign 2 begins: 1 cell" in other.err


def test_a_changed_model_begins_new_cells_and_says_so(slabrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    slabrace("stress", "canary", *QUICK, "--budget", 5)
    for module in ("identity", "campaign"):
        monkeypatch.setattr(f"explorer.stress.{module}.model_hash", lambda: "another model hash")
    monkeypatch.setattr("explorer.cli.stress.model_hash", lambda: "another model hash")
    after = slabrace("stress", *QUICK, "--budget", 5)

    assert "campaign 2 begins: slabrace's model has changed since campaign 1: 1 cell" in after.err
    with Store(Path("store"), writes=False) as store:
        assert len(store.keys(1) | store.keys(2)) == 2


def test_a_new_cause_is_exit_code_1_until_it_is_judged(slabrace: Command) -> None:
    """The flaw of an own scenario is in no table."""
    Path("mine.py").write_text(OWN.format(body='WARN_ON(ctx, True, "mine")'), encoding="utf-8")
    answer = slabrace("stress", "mine.py:mine", *QUICK, "--budget", 3)
    changed = Path("mine.py").read_text(encoding="utf-8").replace('mine")', 'yours")')
    Path("mine.py").write_text(changed, encoding="utf-8")
    after = slabrace("stress", *QUICK, "--budget", 3)

    assert answer.code == 1, answer.err
    assert "new cause 1: warn:" in answer.out
    assert "campaign 2 begins: a file has changed since campaign 1" in after.err


def test_events_are_json_lines(slabrace: Command) -> None:
    slabrace("stress", "canary", *QUICK, "--budget", 12, "--events", "events")
    slabrace("stress", *QUICK, "--budget", 14, "--events", "events")
    lines = [json.loads(line) for line in Path("events").read_text(encoding="utf-8").splitlines()]

    assert [line["event"] for line in lines if line["event"] in {"begun", "stopped"}] == ["begun", "stopped"] * 2
    assert sum(line["schedules"] for line in lines if line["event"] == "job") == 14
    assert {line["campaign"] for line in lines} == {1}


def test_a_swarm_draws_cells_from_the_seed(slabrace: Command) -> None:
    """The same cells in another store, and their faults can be replayed from the logs."""
    names = []
    for folder in ("one", "two"):
        slabrace("stress", "rmdir-empty", "--store", folder, "--workers", 1, "--budget", 24, "--swarm", 3)
        with Store(Path(folder), writes=False) as store:
            names.append([row["name"] for row in store.rows("SELECT name FROM cells WHERE drawn_in IS NOT NULL")])

    assert names[0] == names[1]
    assert len(names[0]) > 3
    assert any("fault:" in name for name in names[0])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--kernel", "5.9"], "--kernel 5.9: "),
        (["nonsense"], "nonsense: "),
        (["--strategy", "dpor"], "--strategy dpor: stress takes samplers and guided"),
        (["--strategy", "nonsense"], "--strategy nonsense: "),
        (["--sweep", "cpus"], "--sweep cpus: give NAME=A..B"),
        (["--sweep", "cpus=3..2"], "--sweep cpus=3..2: 3..2 has no values"),
        (["--sweep", "cpus=1..99999999"], "has no values, or more than 1000"),
        (["--sweep", "cpus=70..70"], "--sweep cpus=70: "),
        (["--sweep", "nonsense=1"], "--sweep nonsense: "),
        (["--sweep", "cpus=2,3", "--set", "cpus=2"], "--sweep cpus: leave out --set cpus"),
        (["--sweep", "cpus=2,2"], "each value once"),
        (["--variant", "flush-only"], "--variant 'flush-only': flush-only: write +NAME"),
        (["--variant", "+nonsense"], "nonsense"),
        (["--until-quiet", "2"], "give a number from 0 to 1"),
        (["--until-quiet", "0.1", "--strategy", "pct:2"], "--until-quiet: no schedule of pct:2 feeds the estimate"),
        (["--soak", "0"], "give a number of hours above 0"),
        (["--memory", "5"], "one worker, which is this process: leave out --memory"),
        (["--events", "no/such/folder"], "--events no/such/folder: cannot write it"),
        (["--variant", "-nonsense"], "--variant"),
        (["--variant=-nonsense"], "nonsense"),
        (["--fault", "page=2"], "--fault page=2: give a probability"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_a_store_is_made(
    slabrace: Command, options: list[str], text: str
) -> None:
    scenario = [] if options[0] == "nonsense" else ["canary"]

    assert text in check_usage_error(slabrace("stress", *scenario, *QUICK, "--budget", 5, *options))
    assert not Path("store").exists() or not list(Path("store").glob("*.sqlite"))


def test_a_store_is_needed(slabrace: Command) -> None:
    assert "--store" in check_usage_error(slabrace("stress", "canary"))


def test_a_campaign_takes_profiles_and_steps_of_v4(slabrace: Command) -> None:
    answer = slabrace("stress", "rmdir-empty", *QUICK, "--kernel", "5.3,v4#5", "--budget", 2, "--json")

    assert json.loads(answer.out)["cells"] == 2


def test_values_that_fit_some_scenarios_are_left_out_elsewhere(slabrace: Command) -> None:
    answer = slabrace("stress", "canary", "nested", *QUICK, "--budget", 4, "--sweep", "depth=2,3", "--json")

    assert json.loads(answer.out)["cells"] == 3


@pytest.mark.slow
def test_a_job_that_ends_its_process_is_lost_and_the_others_go_on(slabrace: Command) -> None:
    """Three tries, each in another worker; with one worker the job ends slabrace, and is tried apart after that."""
    Path("mine.py").write_text("import os\n" + OWN.format(body="os._exit(7)"), encoding="utf-8")
    options = ("mine.py:mine", "canary", "--store", "store", "--budget", 10, "--json")
    answer = slabrace("stress", *options, "--workers", 2)
    told = json.loads(answer.out)

    assert (told["lost_jobs"] > 0, told["replaced_workers"] >= 3) == (True, True)
    assert "exit code 7" in answer.err
    assert answer.code == 3
    with Store(Path("store"), writes=False) as store:
        assert store.value("SELECT count(*) FROM jobs JOIN cells ON cells.id = cell WHERE scenario = 'canary'")


@pytest.mark.slow
def test_a_worker_beyond_its_limit_is_replaced_and_named(slabrace: Command) -> None:
    Path("mine.py").write_text(
        OWN.format(body="kept = [bytearray(1 << 20) for _ in range(400)]\n        spin(kept)") + SPIN
    )
    answer = slabrace("stress", "mine.py:mine", "--store", "store", "--budget", 1, "--workers", 2, "--memory", 200)

    assert "MiB, and 200 are allowed" in answer.err
    assert "lost: job 1, " in answer.out


SPIN = """

def spin(_kept):
    while True:
        pass
"""
