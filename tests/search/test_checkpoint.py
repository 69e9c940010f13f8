"""Checkpoints: a search that was stopped anywhere and resumed has the answer of a search that was not."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from explorer import signals
from explorer.experiment import Experiment, RunOptions
from explorer.search import parallel
from explorer.search.campaign import Campaign
from explorer.search.checkpoint import MAGIC, Keeper, read_checkpoint
from explorer.search.report import campaign_json
from explorer.search.strategies.dpor import Node
from explorer.search.strategies.races import Races
from explorer.workers import Pool
from protocol.errors import UsageError
from tests.conftest import Command, check_usage_error

PATH = Path("state")
SLAB = ("--kernel", "5.4-fixed", "--set", "allocator=slab")


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parallel, "ALONE", 1)
    monkeypatch.setattr(parallel, "PIECE", 4)


def search(
    scenario: str = "canary", *, kernel: str = "5.3", resume: bool = False, keep: bool = True, **more: Any
) -> Campaign:
    """A search, from the checkpoint on if there is one to *resume*; the whole search of canary has 68 schedules."""
    settings = {"rounds": "2"} if scenario == "canary" else {}
    options = RunOptions(scenario=scenario, kernel=kernel, strategy="dpor", driver="stepper", settings=settings)
    campaign = Campaign(
        Experiment.of(options),
        options,
        keeper=Keeper(PATH, overwrite=True) if keep else None,
        resumed=read_checkpoint(PATH) if resume else None,
        **{"budget": 1_000, **more},
    )
    campaign.run()
    return campaign


def answer(campaign: Campaign) -> dict[str, Any]:
    """Everything about the answer except the time."""
    said = campaign_json(campaign)
    del said["seconds"]
    found = {name: (one.schedule, one.seen, one.count) for name, one in campaign.found.items()}
    return {**said, "found": found, "classes": campaign.exact_classes, "pairs": campaign.pairs}


@pytest.mark.parametrize("seed", range(4))
def test_a_search_that_was_stopped_has_the_same_answer(seed: int) -> None:
    draw = random.Random(seed)
    budgets = sorted(draw.sample(range(1, 68), 3))
    for place, budget in enumerate(budgets):
        assert search(budget=budget, resume=place > 0, workers=draw.choice((1, 1, 2))).schedules == budget
    resumed = search(resume=True, workers=draw.choice((1, 2)))

    assert resumed.stopped == "exhausted"
    assert answer(resumed) == answer(search(keep=False))


@pytest.mark.parametrize("workers", [1, 2])
def test_runs_that_are_cut_off_are_counted_once(workers: int) -> None:
    for budget in (10, 35, 60):
        stopped = search("late-allocation", kernel="v7", budget=budget, resume=budget > 10, workers=workers)

    assert stopped.cut_off
    assert stopped.found
    assert answer(stopped) == answer(search("late-allocation", kernel="v7", budget=60, keep=False))


def test_an_exhausted_search_stays_exhausted() -> None:
    first, again = search(), search(resume=True)

    assert first.stopped == "exhausted"
    assert answer(again) == answer(first)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_that_is_interrupted_in_a_run_goes_on_with_that_run(workers: int) -> None:
    """A signal comes after 12 counted schedules and ends the next run of this process, or the wait for a worker."""

    def interrupt(campaign: Campaign) -> None:
        if campaign.schedules == 12:
            raise KeyboardInterrupt

    stopped = search(workers=workers, progress=interrupt)
    resumed = search(resume=True)

    assert (stopped.stopped, stopped.schedules) == ("interrupted", 12)
    assert answer(resumed) == answer(search(keep=False))


def test_a_run_under_way_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run has extended the path already when it is interrupted."""
    runs = []
    original = Experiment.drive

    def drive(self: Experiment, *arguments: Any) -> None:
        original(self, *arguments)
        runs.append(self)
        if len(runs) == 40:
            raise KeyboardInterrupt

    monkeypatch.setattr(Experiment, "drive", drive)
    stopped = search()
    monkeypatch.setattr(Experiment, "drive", original)

    assert stopped.stopped == "interrupted"
    assert 10 < stopped.schedules < 40
    assert answer(search(resume=True)) == answer(search(keep=False))


def interrupt_in(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, number: int, times: int) -> None:
    """Send SIGINT so many *times* within call *number* of a method."""
    original = getattr(owner, name)
    calls = itertools.count(1)

    def interrupted(self: Any, *arguments: Any) -> Any:
        answer = original(self, *arguments)
        if next(calls) == number:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return answer

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize("number", [1, 2, 9, 30, 50])
def test_a_signal_between_two_schedules_loses_no_subtree(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    with signals.caught([signal.SIGINT]), monkeypatch.context() as patched:
        interrupt_in(patched, Node, "go_on", number, times=1)
        stopped = search()

    assert stopped.stopped == "interrupted"
    assert answer(search(resume=True)) == answer(search(keep=False))


def test_a_second_signal_in_the_middle_of_a_change_leaves_the_checkpoint_before(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    search(budget=5)
    before = PATH.read_bytes()
    with signals.caught([signal.SIGINT]), monkeypatch.context() as patched:
        interrupt_in(patched, Races, "put_down", 4, times=2)
        stopped = search(resume=True)

    assert stopped.stopped == "interrupted"
    assert PATH.read_bytes() == before
    assert "in the middle of a change" in capfd.readouterr().err
    assert answer(search(resume=True)) == answer(search(keep=False))


@pytest.mark.parametrize("owner", [Pool, Keeper])
def test_a_signal_at_the_end_waits_for_the_checkpoint(monkeypatch: pytest.MonkeyPatch, owner: type) -> None:
    with signals.caught([signal.SIGINT]), monkeypatch.context() as patched:
        interrupt_in(patched, owner, "close" if owner is Pool else "keep", 1, times=1)
        stopped = search(budget=7)

    assert (stopped.stopped, stopped.schedules) == ("interrupted", 7)
    assert answer(search(resume=True)) == answer(search(keep=False))


def test_a_search_that_has_found_is_not_resumed_for_the_first_finding() -> None:
    options: dict[str, Any] = {"scenario": "late-allocation", "kernel": "v7", "first_only": True}
    first, again = search(**options), search(resume=True, **options)

    assert first.stopped == again.stopped == "first"
    assert answer(again) == answer(first)


def test_checkpoints_are_written_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.search.checkpoint.EVERY_SECONDS", 0.0)
    monkeypatch.setattr("explorer.search.checkpoint.LEAST_INTERVALS", 0)
    seen = []
    search(progress=lambda _: seen.append(read_checkpoint(PATH).schedules if PATH.exists() else 0), budget=20)

    assert len(seen) == 20
    assert set(seen) == set(range(20))


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_goes_on_from_its_checkpoint(slabrace: Command) -> None:
    command = ("explore", "allocate-and-block", *SLAB, "--strategy", "dpor", "--json", "--no-log")
    whole = json.loads(slabrace(*command).out)
    first = slabrace(*command, "--checkpoint", PATH, "--budget", "30")
    then = slabrace(*command, "--checkpoint", PATH, "--resume", PATH, "--workers", "2")
    last = json.loads(then.out)

    assert json.loads(first.out)["stopped"] == "budget"
    assert last["stopped"] == "exhausted"
    assert {**last, "seconds": 0} == {**whole, "seconds": 0}


ENDLESS = ("explore", "allocate-and-block", "--strategy", "dpor", "--no-log")
COMMAND = (*ENDLESS, *SLAB, "--budget", "3")


@pytest.fixture
def state(slabrace: Command) -> bytes:
    """The bytes of a checkpoint, which exists."""
    assert slabrace(*COMMAND, "--checkpoint", PATH).code == 0
    return PATH.read_bytes()


def test_an_existing_file_is_not_replaced(slabrace: Command, state: bytes) -> None:
    line = check_usage_error(slabrace(*COMMAND, "--checkpoint", PATH))

    assert "state: a file with this name exists; choose another" in line
    assert PATH.read_bytes() == state


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--kernel", "5.3", "--set", "allocator=slab"), "it is of another search (kernel: 5.4-fixed then, 5.3 now)"),
        (("--kernel", "5.4-fixed"), "it is of another search (parameters: allocator was slab, is slub)"),
        ((*SLAB, "--driver", "trio"), "it is of another search (driver: stepper then, trio now)"),
    ],
)
def test_a_checkpoint_of_another_search_is_refused(
    slabrace: Command, state: bytes, options: tuple[str, ...], what: str
) -> None:
    line = check_usage_error(slabrace(*ENDLESS, "--resume", PATH, *options))

    assert what in line
    assert PATH.read_bytes() == state


def test_a_checkpoint_of_another_version_is_refused(slabrace: Command, state: bytes) -> None:
    assert b"slabrace" in state[len(MAGIC) :]
    body = msgspec.msgpack.decode(state[len(MAGIC) + 32 :])
    body["header"]["slabrace"] = "0.0.1"
    body = msgspec.msgpack.encode(body)
    PATH.write_bytes(MAGIC + hashlib.sha256(body).digest() + body)

    assert "it is of another search (slabrace: 0.0.1 then, " in check_usage_error(slabrace(*COMMAND, "--resume", PATH))


def test_every_damage_is_noticed(slabrace: Command, state: bytes) -> None:
    draw = random.Random(0)
    damaged = [b"", state[:10], state[:-1], state + b"x", b"x" * 1_000]
    for _ in range(100):
        place = draw.randrange(len(state))
        damaged.append(state[:place] + bytes([state[place] ^ 1 << draw.randrange(8)]) + state[place + 1 :])
    for data in damaged:
        PATH.write_bytes(data)
        with pytest.raises(UsageError, match=r"^--resume state: (this is no checkpoint|the checkpoint is damaged)"):
            read_checkpoint(PATH)
    check_usage_error(slabrace(*COMMAND, "--resume", PATH))


def test_a_checkpoint_with_another_content_is_refused() -> None:
    body = msgspec.msgpack.encode({"header": 1})
    PATH.write_bytes(MAGIC + hashlib.sha256(body).digest() + body)
    with pytest.raises(UsageError, match="this is no checkpoint of this version"):
        read_checkpoint(PATH)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--strategy", "portfolio", "--checkpoint", "x"), "--checkpoint: only a search with --strategy dpor"),
        (("--strategy", "dfs", "--resume", "x"), "--resume: only a search with --strategy dpor"),
        (("--strategy", "dpor", "--resume", "x"), "--resume x: cannot read it: No such file or directory"),
        (("--strategy", "dpor", "--resume", "."), "--resume .: it is not a file"),
        (("--strategy", "dpor", "--resume", "/dev/zero"), "--resume /dev/zero: it is not a file"),
        (("--strategy", "dpor", "--checkpoint", "/dev/null"), "--checkpoint /dev/null: it is not a file"),
        (("--strategy", "dpor", "--checkpoint", "x", "--kept", "y"), "leave out --kept"),
    ],
)
def test_options_that_cannot_work_are_refused(slabrace: Command, options: tuple[str, ...], what: str) -> None:
    assert what in check_usage_error(slabrace("explore", "canary", *options))


def test_a_signal_leaves_a_checkpoint(slabrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(campaign: Campaign) -> None:
        if campaign.schedules == 20:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("explorer.search.report.CampaignProgress.__call__", lambda _self, campaign: send(campaign))
    stopped = slabrace(*ENDLESS, *SLAB, "--checkpoint", PATH)

    assert stopped.code == 130
    assert read_checkpoint(PATH).schedules == 20
