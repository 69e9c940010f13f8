"""`slabrace try` on ten patches: five are right, five are subtly wrong. And on arguments that it cannot work with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, check_usage_error

PATCHES = Path(__file__).with_name("patches")

RIGHT = {
    "two_barriers": ("5.3", "warn:percpu_ref_exit", 100, ("offline-vs-exit", "destroy-vs-offline")),
    "work_fn_cleared_first": ("v7", "use-after-free:KmemCache:kmemcg_workfn", 20, ("rmdir-empty", "nested")),
    "rcu_unlock_at_exit": ("v4", "atomic-sleep:", 20, ("allocate-and-block", "reclaim-in-charge")),
    "wq_lock_irqs_off": ("v5", "lockdep:softirq: memcg_kmem_wq_lock:", 40, ("softirq-free-vs-destroy",)),
    "last_alias_dies": ("original", "leak:", 20, ("alias-marked-dying", "destroy-vs-offline")),
}
"""The patches that make nothing: kernel, beginning of a signature that they cure, budget, and stages."""

WRONG = {
    "barrier_after_flush": ("5.3", "use-after-free:", 40, ("offline-vs-destroy", "free-vs-destroy")),
    "wq_lock_irqs_on": ("v6", "lockdep:softirq: memcg_kmem_wq_lock:", 40, ("softirq-free-vs-destroy",)),
    "dying_after_flush": ("5.4-fixed", "use-after-free:", 40, ("offline-vs-destroy", "destroy-vs-offline")),
    "no_barrier": ("original", "use-after-free:", 100, ("destroy-vs-offline",)),
    "put_before_work": ("original", "leak:kmem_cache held by its kobject:", 30, ("rmdir-under-load",)),
}
"""The patches that make something: kernel, beginning of a signature of that, budget, and stages."""

REAP = """
from actors.api import kernel_fn, unpatched
from actors.linux.mm.slab import cache_reap

@kernel_fn("cache_reap", "mm/slab.c")
async def reap(ctx, *args):
    await unpatched(ctx, cache_reap, *args)
"""
"""A patch of a function that only SLAB has."""


def tried(command: Command, patch: str, kernel: str, *more: object) -> tuple[int, dict[str, Any]]:
    answer = command("try", PATCHES / f"{patch}.py", "--kernel", kernel, "--no-log", "--json", *more)
    assert answer.out, answer.err
    return answer.code, json.loads(answer.out)


def signatures(verdicts: list[dict[str, Any]]) -> set[str]:
    return {name for verdict in verdicts for name in (verdict["signature"], *verdict["symptoms"])}


@pytest.mark.slow
@pytest.mark.parametrize("patch", RIGHT)
def test_a_right_patch_makes_nothing(slabrace: Command, patch: str) -> None:
    kernel, cured, budget, stages = RIGHT[patch]
    code, told = tried(slabrace, patch, kernel, "--budget", budget, *(f"--scenario={stage}" for stage in stages))

    assert told["makes"] == []
    assert code == 0
    assert any(name.startswith(cured) for name in signatures(told["cures"]))


@pytest.mark.slow
@pytest.mark.parametrize("patch", WRONG)
def test_a_wrong_patch_makes_a_new_cause(slabrace: Command, patch: str) -> None:
    kernel, made, budget, stages = WRONG[patch]
    code, told = tried(slabrace, patch, kernel, "--budget", budget, *(f"--scenario={stage}" for stage in stages))

    assert code == 1
    assert any(name.startswith(made) for name in signatures(told["makes"]))


def test_a_right_patch_on_one_stage(slabrace: Command) -> None:
    code, told = tried(slabrace, "work_fn_cleared_first", "v7", "--budget", 6, "--scenario", "rmdir-empty")
    cured = told["cures"]

    assert code == 0
    assert "use-after-free:KmemCache:kmemcg_workfn" in signatures(cured)
    assert sum(one["without"]["seen"] for one in cured) == 6
    assert {one["with"]["seen"] for one in cured} == {0}
    assert told["functions"] == ["kmemcg_workfn"]


def test_a_fix_that_the_kernel_has_is_tried_against_the_kernel_without_it(slabrace: Command) -> None:
    stage = ("--scenario", "rmdir-empty", "--budget", 6, "--no-log", "--json")
    fix = "work-fn-store-after-free"
    answer = slabrace("try", fix, "--kernel", "5.3", "--without", fix, *stage)
    told = json.loads(answer.out)

    assert answer.code == 0
    assert "use-after-free:KmemCache:kmemcg_workfn" in signatures(told["cures"])
    assert told["functions"] == ["kmemcg_cache_shutdown", "kmemcg_workfn"]
    assert told["base_patches"] == [f"without {fix}"]


def test_the_answer_does_not_depend_on_the_number_of_workers(slabrace: Command) -> None:
    stages = ("--scenario=rmdir-empty", "--scenario=nested", "--scenario=canary")
    one, two = (
        tried(slabrace, "work_fn_cleared_first", "v7", "--budget", 2, "--workers", workers, *stages)[1]
        for workers in (1, 2)
    )

    assert [stage["tried"] for stage in two["stages"]] == [True, True, False]
    assert {**one, "seconds": 0} == {**two, "seconds": 0}


@pytest.mark.slow
def test_a_wrong_patch_on_one_stage_gets_a_log_that_replays(slabrace: Command) -> None:
    patch = PATCHES / "wq_lock_irqs_on.py"
    answer = slabrace("try", patch, "--kernel", "v6", "--budget", 40, "--scenario", "softirq-free-vs-destroy")
    log = answer.out.partition("  log: ")[2].partition("\n")[0]

    assert answer.code == 1
    assert "makes lockdep:softirq: memcg_kmem_wq_lock:" in answer.out
    assert f"explain: slabrace explain {log} --patch {patch}" in answer.out
    assert slabrace("replay", log, "--patch", patch).code == 1


def test_a_patch_for_slab_alone_is_tried_with_slab(slabrace: Command) -> None:
    Path("reap.py").write_text(REAP)
    told = json.loads(slabrace("try", "reap.py", "--scenario", "offline-vs-free", "--budget", 2, "--json").out)

    assert [stage["stage"] for stage in told["stages"]] == ["offline-vs-free allocator=slab"]


def test_both_allocators_make_two_stages(slabrace: Command) -> None:
    options = ("--kernel", "original", "--allocator", "both", "--scenario", "rmdir-empty", "--budget", 1, "--json")
    told = json.loads(slabrace("try", "flush-only", *options, "--no-log").out)

    assert [stage["stage"] for stage in told["stages"]] == [
        "rmdir-empty allocator=slub",
        "rmdir-empty allocator=slab",
    ]


def test_a_function_that_no_stage_runs_is_named(slabrace: Command) -> None:
    Path("reap.py").write_text(REAP)
    answer = slabrace("try", "reap.py", "--scenario", "canary")

    assert answer.code == 0
    assert "not reached cache_reap(): no stage ran it" in answer.out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nosuch"], "--patch nosuch: there is no such fix or file; see slabrace list patches"),
        (["exit-during-atomic-switch", "--kernel", "5.4-fixed"], "5.4-fixed has that fix already"),
        (["flush-only", "flush-only"], "--patch flush-only: it is given twice"),
        (["flush-only", "--scenario", "nosuch"], "nosuch: there is no such scenario"),
        (["flush-only", "--set", "nosuch=1"], "--set nosuch: there is no such knob of any stage"),
        (["flush-only", "--set", "allocator=slab", "--allocator", "slub"], "--allocator slub: --set gives"),
        (["flush-only", "--budget", "0"], "argument --budget: '0': give a whole number, one or more"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused(slabrace: Command, words: list[str], line: str) -> None:
    assert line in check_usage_error(slabrace("try", *words))


def test_a_patch_for_another_kernel_is_refused(slabrace: Command) -> None:
    Path("old.py").write_text(REAP.replace('"mm/slab.c"', '"mm/slab.c", profiles="v4"'))

    assert "it declares no function for 5.3" in check_usage_error(slabrace("try", "old.py"))
