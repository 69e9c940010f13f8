"""What bounds the speed of a search: coroutines that are stepped without any bookkeeping, and Spin's search in C.

All do the steps of the small program `lost_update`. The coroutine loop is a bound for Python: it chooses no task,
records nothing and checks nothing. Spin keeps the states that it has seen, where slabrace runs every schedule from its
beginning, so its transitions are not schedules; it shows what a compiled step costs. It is measured where `spin` and a
C compiler are installed.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import Row
from benchmarks.search import run_bare, small_campaign
from benchmarks.small import Load, ProgramExperiment, lost_update
from explorer.experiment import RunOptions

TASKS, ROUNDS = 8, 10
SAMPLED: Load = (lost_update, (TASKS, ROUNDS))
EXACT: Load = (lost_update, (3, 2))
SPIN = (4, 3)
"""Tasks and rounds that keep Spin busy for some seconds."""

MODEL = Path(__file__).with_name("lost_update.pml")
REPEATS = 5


class Step:
    """Something to await: the coroutine's next access."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def limits() -> tuple[list[Row], list[str]]:
    """Steps per CPU second of the coroutine loop, of slabrace and of Spin; notes."""
    rows = [
        Row("limit: bare coroutine loop", best_rate(step_coroutines), "steps/CPU s"),
        Row("limit: stepper without observers", best_rate(partial(sample_bare, 200)), "steps/CPU s"),
        Row("limit: explore, random", best_rate(partial(explore, SAMPLED, "random", 200)), "steps/CPU s"),
        Row("limit: explore, dpor to the end", best_rate(partial(explore, EXACT, "dpor", 100_000), 1), "steps/CPU s"),
    ]
    note = f"limits: lost update, {TASKS} tasks x {ROUNDS} rounds; dpor: 3 x 2; Spin: {SPIN[0]} x {SPIN[1]}, exhaustive"
    missing = [name for name in ("spin", "cc") if shutil.which(name) is None]
    if missing:
        return rows, [note, f"Spin takes no part: {' and '.join(missing)} not installed"]
    return [*rows, Row("limit: Spin, exhaustive", spin_rate(*SPIN), "transitions/CPU s")], [note]


def best_rate(work: Callable[[], int], repeats: int = REPEATS) -> float:
    """The highest rate of *work*, which returns its number of steps: a limit is what was reached once."""
    rates = []
    for _ in range(repeats):
        began = time.process_time()
        steps = work()
        rates.append(steps / (time.process_time() - began))
    return max(rates)


def step_coroutines() -> int:
    """Step as many coroutines as there are tasks, one after the other; return the steps."""
    steps, rounds = 0, 20_000

    async def count() -> None:
        step = Step()
        for _ in range(rounds):
            await step

    tasks = [count() for _ in range(TASKS)]
    for task in tasks:
        task.send(None)
    for _ in range(rounds - 1):
        for task in tasks:
            task.send(None)
            steps += 1
    for task in tasks:
        task.close()
    return steps


def sample_bare(schedules: int) -> int:
    """Run random schedules without observers; return the steps."""
    program, arguments = SAMPLED
    options = RunOptions(scenario="small", strategy="random", driver="stepper")
    run_bare(ProgramExperiment.make(program, arguments, options, hunts=False), "stepper", schedules)
    return 2 * TASKS * ROUNDS * schedules


def explore(load: Load, strategy: str, schedules: int) -> int:
    """Explore a program as `slabrace explore` does; return the steps: every task reads and writes in each round."""
    campaign = small_campaign(load, strategy, 1, schedules, hunts=False)
    campaign.run()
    tasks, rounds = load[1]
    return 2 * tasks * rounds * campaign.schedules


def spin_rate(tasks: int, rounds: int) -> float:
    """Transitions per CPU second of Spin's exhaustive search of the same program."""
    with TemporaryDirectory(prefix="slabrace-") as folder:
        generate = ["spin", f"-DTASKS={tasks}", f"-DROUNDS={rounds}", "-a", str(MODEL)]
        for command in (generate, ["cc", "-O2", "-DSAFETY", "-o", "pan", "pan.c"]):
            subprocess.run(command, cwd=folder, check=True, capture_output=True)  # noqa: S603 -- fixed arguments
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([f"{folder}/pan", "-n"], cwd=folder, check=True, capture_output=True, text=True)  # noqa: S603 -- as above
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return transitions(done.stdout) / (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def transitions(report: str) -> int:
    """The number of transitions in Spin's report of a search that was not cut short."""
    found = re.search(r"^ *(\d+) transitions", report, re.MULTILINE)
    assert found is not None, report
    assert "Search not completed" not in report, report
    assert "max search depth too small" not in report, report
    return int(found[1])
