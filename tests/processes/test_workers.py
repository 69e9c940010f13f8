"""Worker processes: their loss changes no answer, and they end with their parent."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign
from explorer.search.report import campaign_json
from explorer.workers import MOST_LOSSES, Pool, Task, WorkerLostError
from protocol.errors import InternalError, UsageError
from tests.conftest import Command
from tests.helpers import start_process
from tests.processes.attacks import wait_until
from tests.processes.tasks import die, die_once, double, fail, refuse

ENDS_ITS_PROCESS = """
import os
from actors.api import kernel_fn

@kernel_fn("kmemcg_workfn", "mm/slab_common.c")
async def kmemcg_workfn(ctx, work):
    getattr(os, "_ex" + "it")(7)
"""


def test_a_worker_that_is_killed_is_replaced_and_its_task_done_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[object] = []
    pool = Pool(1)
    tasks = [
        Task("a", double, (1,)),
        Task("the second", die_once, (str(tmp_path / "x"),), heard=heard.append),
        Task("c", double, (3,)),
    ]
    try:
        for task in tasks:
            pool.add(task)
        answers = [pool.answer(task) for task in tasks]
    finally:
        pool.close()

    assert answers == [2, "done", 6]
    assert heard == ["begun", None, "begun"]
    assert pool.lost == 1
    line = "slabrace: a worker process was lost (killed by SIGKILL); it is done again: the second\n"
    assert capfd.readouterr().err == line


def test_errors_of_a_task_are_raised_in_its_caller(capfd: pytest.CaptureFixture[str]) -> None:
    pool = Pool(1)
    dying, refusing, failing = (Task(f"{call.__name__}", call, ()) for call in (die, refuse, fail))
    try:
        for task in (dying, refusing, failing):
            pool.add(task)
        with pytest.raises(UsageError, match=r"^it does not fit$"):
            pool.answer(refusing)
        with pytest.raises(InternalError, match=r"fail: Traceback (?s:.*) we are wrong"):
            pool.answer(failing)
        with pytest.raises(WorkerLostError, match=rf"die: {MOST_LOSSES} worker processes were lost \(exit code 7\)"):
            pool.answer(dying)
    finally:
        pool.close()
    assert capfd.readouterr().err.count("\n") == MOST_LOSSES - 1


def test_a_worker_ends_with_its_parent_in_the_middle_of_a_task() -> None:
    script = (
        "from explorer.workers import Pool, Task\n"
        "from tests.processes.tasks import work_for_ever\n"
        "pool = Pool(1)\n"
        "pool.add(Task('it', work_for_ever, (), heard=lambda pid: print(pid, flush=True)))\n"
        "while True: pool.hear()\n"
    )
    with start_process(sys.executable, "-c", script) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.kill()
        wait_until(lambda: state_of(worker) in {"", "Z"}, 10)


def state_of(pid: int) -> str:
    """The state of a process: R, S, Z ...; empty if it does not exist."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return ""


# -- searches ---------------------------------------------------------------------------------------------------------


def search(workers: int, kill_at: tuple[int, ...] = ()) -> dict[str, Any]:
    """The answer of a search; at each number of schedules in *kill_at* one worker is killed."""
    options = RunOptions(scenario="late-allocation", kernel="v7", strategy="portfolio", driver="stepper")
    left = list(kill_at)

    def kill(campaign: Campaign) -> None:
        if left and campaign.schedules >= left[0]:
            left.pop(0)
            worker = next(iter(campaign._pool._workers.values()))
            os.kill(worker.process.pid, signal.SIGKILL)

    campaign = Campaign(Experiment.of(options), options, budget=24, workers=workers, progress=kill)
    campaign.run()
    assert not left
    return campaign_json(campaign)


@pytest.mark.slow
def test_the_answer_is_the_same_when_workers_are_lost(capfd: pytest.CaptureFixture[str]) -> None:
    whole, torn = search(1), search(2, kill_at=(1, 12))

    assert (whole.pop("lost_workers"), torn.pop("lost_workers")) == (0, 2)
    assert whole.pop("seconds") != torn.pop("seconds")
    assert whole == torn
    assert capfd.readouterr().err.count("slabrace: a worker process was lost (killed by SIGKILL)") == 2


@pytest.mark.slow
def test_a_patch_that_ends_its_process_ends_the_search_with_an_answer(slabrace: Command) -> None:
    Path("ends.py").write_text(ENDS_ITS_PROCESS, encoding="utf-8")
    answer = slabrace("explore", "rmdir-under-load", "--patch", "ends.py", "--workers", 2, "--json")
    told, lines = json.loads(answer.out), answer.err.splitlines()

    assert answer.code == 3
    assert (told["outcome"], told["stopped"], told["schedules"]) == ("lost", "lost", 0)
    assert told["lost_workers"] == len(lines) == MOST_LOSSES
    assert lines[-1] == (
        "slabrace: schedule 0 of roundrobin: 3 worker processes were lost (exit code 7); "
        "is it out of memory, or does a patch end the process?"
    )
