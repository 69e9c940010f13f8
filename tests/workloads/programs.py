"""Parameters of the generated workload, as Hypothesis strategies, and runs with them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from explorer.experiment import RunOptions
from explorer.session import Result, run
from scenarios.mixed_operations import KINDS, MOST_CGROUPS, Planned, mixed_operations, plan

NAME = mixed_operations.name


def lists(items: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    """Values of a parameter that is a list, as a user may type them."""
    return st.lists(items.map(str), max_size=8).map(",".join)


programs = st.fixed_dictionaries(
    {
        "workload": st.integers(0, (1 << 64) - 1).map(str),
        "tasks": st.integers(1, 4).map(str),
        "operations": st.integers(1, 6).map(str),
        "cgroups": st.integers(1, MOST_CGROUPS).map(str),
        "caches": st.integers(1, 3).map(str),
        "kinds": lists(st.sampled_from(KINDS)),
        "left_out": lists(st.integers(0, 3).flatmap(lambda task: st.integers(100 * task, 100 * task + 5))),
    }
)
"""Settings of the parameters that make the program."""

machines = st.fixed_dictionaries(
    {
        "cpus": st.integers(1, 3).map(str),
        "nodes": st.sampled_from(["1", "1", "2"]),
        "cgroup": st.sampled_from(["v1", "v2"]),
        "memory": st.sampled_from(["short", "plenty"]),
        "rcu": st.sampled_from(["batched", "batched", "eager"]),
    }
)
"""Settings of the parameters of the machine."""


def plan_of(settings: dict[str, str]) -> list[Planned]:
    """The program without anything left out."""
    return plan(mixed_operations.values(settings))


def run_program(
    settings: dict[str, str], *, kernel: str = "5.4-fixed", driver: str = "stepper", seed: int = 0
) -> Result:
    """One random schedule of it."""
    return run(
        RunOptions(scenario=NAME, kernel=kernel, strategy="random", seed=seed, driver=driver, settings=settings),
        log=None,
    )
