"""The generated workload is the program that its parameters stand for, and valid in every interleaving."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.system.strategy import InTurn
from actors.versions.profiles import ALLOCATORS
from benchmarks.findings_page import PAGE, read_judgements, unjudged
from explorer.experiment import Experiment, RunOptions
from protocol.errors import UsageError
from scenarios.mixed_operations import KINDS, PERFORM, mixed_operations
from tests.conftest import Command, check_usage_error
from tests.helpers import run_process
from tests.workloads.programs import NAME, machines, plan_of, programs, run_program

JUDGEMENTS = read_judgements(Path(PAGE).read_text(encoding="utf-8"))

# -- the program ------------------------------------------------------------------------------------------------------

WORKLOAD_17 = """\
0 mkdir c
1 create module1 of 4 objects a page, alloc 4 of it
2 free 1
100 free 2
101 move task1 to a/b
102 move task1 to a
200 move task0 to a/b
201 move task1 to c
202 alloc 2 of beta"""
"""The program of `--set workload=17 --set operations=3`, here and everywhere."""


def test_a_workload_is_the_same_program_in_every_version() -> None:
    """A log has the parameters of the program, not the program itself."""
    planned = plan_of({"workload": "17", "operations": "3"})

    assert "\n".join(f"{one.number} {one.words}" for one in planned) == WORKLOAD_17


def test_a_workload_is_the_same_program_in_every_process() -> None:
    code = (
        "from tests.workloads.programs import plan_of\n"
        "for one in plan_of({'workload': '17', 'operations': '3'}): print(one.number, one.words)"
    )

    assert run_process(sys.executable, "-c", code).stdout.strip() == WORKLOAD_17


@given(programs)
def test_leaving_operations_out_removes_exactly_these(chosen: dict[str, str]) -> None:
    stage = Experiment.of(RunOptions(scenario=NAME, settings=chosen)).set_stage(InTurn())
    gone = {int(number) for number in chosen["left_out"].split(",") if number}

    assert [(one.number, one.words) for one in stage.present_operations()] == [
        (one.number, one.words) for one in plan_of(chosen) if one.number not in gone
    ]


@given(programs, st.integers(1, 6), st.sampled_from(KINDS))
def test_other_lengths_and_kinds_draw_no_other_operation_anew(
    chosen: dict[str, str], operations: int, kind: str
) -> None:
    """Fewer operations are the first of them; without one kind only the operations of that kind are others."""
    every = {**chosen, "kinds": ""}
    program = plan_of(every)
    shorter = plan_of({**every, "operations": str(operations)})
    without = plan_of({**every, "kinds": ",".join(other for other in KINDS if other != kind)})

    assert set(shorter) >= {one for one in program if one.number % 100 < operations}
    assert [one for one in without if one not in program] == [
        two for one, two in zip(program, without, strict=True) if one.kind == kind
    ]
    assert all(one.kind != kind for one in without)


@given(programs)
def test_only_the_chosen_kinds_occur(chosen: dict[str, str]) -> None:
    allowed = set(chosen["kinds"].split(",")) if chosen["kinds"] else set(KINDS)

    assert {one.kind for one in plan_of(chosen)} <= allowed


def test_every_kind_can_be_performed() -> None:
    assert set(PERFORM) == set(KINDS)


# -- its runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allocator", ALLOCATORS)
@given(programs, machines, st.integers(0, 1000))
@settings(max_examples=15)
def test_every_program_is_performed_to_its_end_and_shows_only_what_is_judged(
    allocator: str, program: dict[str, str], machine: dict[str, str], seed: int
) -> None:
    """Under both drivers, with equal records."""
    chosen = {**program, **machine, "allocator": allocator}
    result = run_program(chosen, seed=seed)

    assert not unjudged(JUDGEMENTS, "5.4-fixed", NAME, [finding.signature for finding in result.findings])
    assert result.stopped == "quiescent"
    assert all(one.outcome for one in result.program)
    assert run_program(chosen, seed=seed, driver="trio").digest == result.digest


def test_every_kind_of_operation_is_done_and_every_error_is_met() -> None:
    outcomes: dict[str, set[str]] = defaultdict(set)
    for workload in range(16):
        chosen = {"workload": str(workload), "tasks": "2", "operations": "20", "cgroups": "4"}
        if workload % 2:
            chosen |= {"cgroup": "v1", "kinds": "alloc,mkdir,rmdir,move,limit"}
        kinds = {one.number: one.kind for one in plan_of(chosen)}
        for one in run_program(chosen).program:
            outcomes[kinds[one.number]].add(one.outcome)

    assert {kind for kind in KINDS if "done" in outcomes[kind]} == set(KINDS)
    assert outcomes["mkdir"] == {"done", "EEXIST", "ENOENT"}
    assert outcomes["rmdir"] == {"done", "EBUSY", "ENOENT"}
    assert outcomes["move"] == {"done", "ENOENT", "ESRCH"}
    assert outcomes["limit"] == {"done", "EBUSY", "ENOENT"}
    assert {"ENOMEM"} <= outcomes["alloc"]


def test_misuse_is_found() -> None:
    """A module that destroys its cache before it frees the objects breaks a rule for callers."""
    chosen = {"workload": "17", "kinds": "create,destroy", "misuse": "yes"}
    found = {finding.signature.partition(" module")[0] for finding in run_program(chosen).findings}

    assert "warn:kmem_cache_destroy" in found
    assert not run_program({**chosen, "misuse": "no"}).findings


# -- what a person sees -----------------------------------------------------------------------------------------------


def test_run_prints_the_program_with_the_outcomes(slabrace: Command) -> None:
    told = slabrace(
        "run", NAME, "--kernel", "5.4-fixed", "--set", "workload=17", "--set", "operations=3", "--no-log"
    ).out

    assert (
        "\n  task0 on CPU 0: 0 mkdir c (EEXIST); 1 create module1 of 4 objects a page, alloc 4 of it; 2 free 1 ("
        in told
    )


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("left_out=5,six", "left_out=six: give a whole number from 0 to 799"),
        ("left_out=800", "left_out=800: give a whole number from 0 to 799"),
        ("left_out=1,", "left_out=: give a whole number"),
        ("kinds=alloc,fre", "kinds=fre: there is no such choice; do you mean 'free'?"),
    ],
)
def test_a_wrong_list_is_one_line(slabrace: Command, setting: str, named: str) -> None:
    assert named in check_usage_error(slabrace("run", NAME, "--set", setting))


@example({"kinds": "rmdir,alloc,rmdir", "left_out": "7,007,3"})
@given(programs)
def test_a_list_that_is_typed_has_one_form_in_the_log(chosen: dict[str, str]) -> None:
    values = mixed_operations.values(chosen)
    mixed_operations.check(values, "the log")

    assert {*values["left_out"].split(",")} - {""} == {
        str(int(number)) for number in chosen["left_out"].split(",") if number
    }
    assert (
        mixed_operations.values(
            {name: values[name] for name in ("kinds", "left_out")}
            | {name: chosen[name] for name in chosen if name not in ("kinds", "left_out")}
        )
        == values
    )


@pytest.mark.parametrize("value", [5, "5,3", "3,3", "800", "x", ",", "03"])
def test_a_list_of_another_form_is_no_value_of_a_log(value: object) -> None:
    with pytest.raises(UsageError, match="the log: left_out cannot be "):
        mixed_operations.check({"left_out": value}, "the log")
