"""Kernel 6.12 reports only what docs/findings.md judges, on every stage that it can run."""

from __future__ import annotations

import pytest

from benchmarks.findings import cell, measure
from benchmarks.findings_page import unjudged
from explorer.judgements import known_judgements
from scenarios import OF_TODAY, SCENARIOS, find_scenario

KERNEL = "6.12"
BUDGET = 12
CHEAP = (
    "mkdir-fails",
    "charge-after-drain",
    "free-vs-destroy",
    "create-vs-destroy-merged",
    "create-vs-destroy-again",
    "dentries-vs-rmdir",
    "close-vs-release",
    "destroy-vs-shrink",
)
"""Stages of short schedules, among them those with findings and those that had to be changed for 6.12."""


def new_findings(name: str) -> list[str]:
    done = measure(cell(name, KERNEL, "slub", "portfolio", BUDGET))
    assert done.schedules == BUDGET or done.stopped == "exhausted"
    return unjudged(known_judgements(), KERNEL, name, done.findings)


@pytest.mark.parametrize("name", CHEAP)
def test_a_few_stages_report_only_what_is_judged(name: str) -> None:
    assert not new_findings(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        each.name
        for each in (*SCENARIOS, *OF_TODAY)
        if each.name not in CHEAP and (not each.kernels or KERNEL in each.kernels)
    ],
)
def test_every_stage_reports_only_what_is_judged(name: str) -> None:
    assert not new_findings(name)


@pytest.mark.parametrize("name", ["arrays-grow", "kmem-limit"])
def test_a_stage_about_child_caches_is_not_for_it(name: str) -> None:
    assert KERNEL not in find_scenario(name).kernels
