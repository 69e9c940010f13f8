"""Small hosts for the tests: hours instead of days, and one cgroup of the model stands for many real ones."""

from __future__ import annotations

from typing import Any

import attrs

from actors.system.stepper import run_stepper
from explorer.growth.host import Day, HostJob, set_stage, simulate
from scenarios.stage import Stage

SMALL = {"days": "1", "unit": "30", "uptime": "240"}
TINY = {"days": "0", "unit": "60", "uptime": "600"}


def job_of(kernel: str, **settings: str) -> HostJob:
    return HostJob.of(kernel, int(settings.pop("host", "0")), {**SMALL, **settings})


def days_of(kernel: str, **settings: str) -> list[Day]:
    """Simulate a small host; fail if the kernel reports a finding."""
    days: list[Day] = []
    findings = simulate(job_of(kernel, **settings), days.append)

    assert not findings

    return days


def stage_of(kernel: str, **settings: str) -> Stage:
    """A small host after its last day."""
    return run_host(set_stage(job_of(kernel, **settings), lambda _day: None))


def checked_stage_of(kernel: str) -> Stage:
    """A small host after its last day; the invariants of every child cache are checked after every step."""
    stage = set_stage(job_of(kernel), lambda _day: None)
    stage.machine.check_child = stage.ledger.check_child
    return run_host(stage)


def run_host(stage: Stage) -> Stage:
    stage.start()
    run_stepper(stage.world)
    return stage


def figures(days: list[Day]) -> list[dict[str, Any]]:
    """All figures of *days* except the elapsed time."""
    return [attrs.asdict(attrs.evolve(day, seconds=0.0)) for day in days]


def day(number: int, dying: int, memory: int = 0, *, caches: int = 0) -> Day:
    """A day with these figures, and zero for all others."""
    return Day(number, dying, caches, 0, memory, 0, 0, 0.0)
