"""Small hosts for the tests: hours instead of days, and each cgroup of the model stands for many."""

from __future__ import annotations

from typing import Any

import attrs

from actors.system.stepper import run_stepper
from explorer.growth.host import Day, Job, set_stage, simulate
from scenarios.stage import Stage

SMALL = {"days": "1", "unit": "30", "uptime": "240"}
TINY = {"days": "0", "unit": "60", "uptime": "600"}


def job_of(kernel: str, **settings: str) -> Job:
    return Job.of(kernel, int(settings.pop("host", "0")), {**SMALL, **settings})


def days_of(kernel: str, **settings: str) -> list[Day]:
    """Simulate a small host, on which no kernel complains."""
    days: list[Day] = []
    findings = simulate(job_of(kernel, **settings), days.append)

    assert not findings

    return days


def stage_of(kernel: str, **settings: str) -> Stage:
    """A small host after its last day."""
    return run_host(set_stage(job_of(kernel, **settings), lambda _day: None))


def checked_stage_of(kernel: str) -> Stage:
    """The same, with the invariants of every child cache looked at after every step."""
    stage = set_stage(job_of(kernel), lambda _day: None)
    stage.machine.check_child = stage.ledger.check_child
    return run_host(stage)


def run_host(stage: Stage) -> Stage:
    stage.start()
    run_stepper(stage.world)
    return stage


def figures(days: list[Day]) -> list[dict[str, Any]]:
    """All but the time that it took."""
    return [attrs.asdict(attrs.evolve(day, seconds=0.0)) for day in days]


def day(number: int, dying: int, memory: int = 0, *, caches: int = 0) -> Day:
    """A day of which only these figures matter."""
    return Day(number, dying, caches, 0, memory, 0, 0, 0.0)
