"""A call that never ends is reported as a livelock; a call that only takes long is not."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.system.flow import Flow
from actors.system.livelock import Patience
from actors.system.world import World
from explorer.experiment import Given, RunOptions
from explorer.session import replay, run
from tests.helpers import Cell, Drive, each_driver, make_cell, make_world, only, spawn

IDEA = """
from actors.linux.mm.memcontrol import memcg_offline_kmem
from actors.api import kernel_fn, unpatched

@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c")
async def offline(ctx, memcg):
    while {condition}:
        {wait}
    await unpatched(ctx, memcg_offline_kmem, memcg)
"""
WAITS = ["await ctx.ask(memcg.read_kmem_state)", "await ctx.sleep(1_000_000)"]


@pytest.mark.parametrize("wait", WAITS, ids=["spins", "sleeps"])
def test_a_loop_of_a_patch_that_waits_for_what_never_comes_ends_the_run(tmp_path: Path, wait: str) -> None:
    idea = tmp_path / "idea.py"
    idea.write_text(IDEA.format(condition="True", wait=wait))
    log = tmp_path / "run.log"
    options = RunOptions(scenario="rmdir-empty", kernel="5.3", driver="stepper", patches=(str(idea),))

    result = run(options, log=log)

    finding = only([finding for finding in result.findings if finding.kind == "livelock"])
    assert (finding.name, finding.function) == ("memcg_offline_kmem", "memcg_offline_kmem")
    assert 100_000 < result.steps < 200_000
    assert result.stopped == "finding"
    assert replay(log, driver="stepper", given=Given(trust=True)).digest == result.digest


WORK = """
from actors.linux.mm.kmem_cache import cache_of
from actors.api import kernel_fn


@kernel_fn("kmemcg_workfn", "mm/slab_common.c")
async def kmemcg_workfn(ctx, work):
    s = cache_of(work.container)
    while not await ctx.ask(s.read_dying):
        await ctx.sleep(1000)
"""


def test_a_work_that_waits_for_what_never_comes_is_a_livelock(tmp_path: Path) -> None:
    idea = tmp_path / "idea.py"
    idea.write_text(WORK)
    result = run(RunOptions(scenario="rmdir-empty", kernel="5.3", driver="stepper", patches=(str(idea),)), log=None)

    assert "livelock:kmemcg_workfn:kmemcg_workfn" in {finding.signature for finding in result.findings}


async def spin(flow: Flow, cell: Cell, times: int) -> None:
    for _ in range(times):
        await flow.ask(cell.add)


async def many_calls(flow: Flow, cell: Cell, times: int) -> None:
    for _ in range(times):
        await spin(flow, cell, 100)


def look_closely(world: World, *functions: Callable[..., object]) -> None:
    """Count these functions as kernel functions, and set a low livelock bound."""
    world.function_ids = frozenset(id(inspect.unwrap(function).__code__) for function in functions)
    world.patience = Patience(every=50, least=1_000)


@each_driver
def test_many_short_calls_are_no_livelock(drive: Drive) -> None:
    world, seen = make_world()
    look_closely(world, spin)
    cell = make_cell(world)
    spawn(world, "worker", lambda flow: many_calls(flow, cell, 40))
    drive(world)

    assert not seen.findings
    assert cell.value == 4_000


@each_driver
def test_a_long_call_is_no_livelock_after_a_long_run(drive: Drive) -> None:
    """The livelock bound grows with the number of steps before the call."""
    world, seen = make_world()
    look_closely(world, spin)
    cell = make_cell(world)

    async def worker(flow: Flow) -> None:
        await many_calls(flow, cell, 8)
        await spin(flow, cell, 4_000)

    spawn(world, "worker", worker)
    drive(world)

    assert not seen.findings


@each_driver
def test_the_function_that_does_not_end_is_named_and_where_it_is(drive: Drive) -> None:
    world, seen = make_world()
    look_closely(world, spin, many_calls)
    cell = make_cell(world)
    spawn(world, "worker", lambda flow: many_calls(flow, cell, 40_000))
    drive(world)

    finding = only(seen.findings)
    assert (finding.kind, finding.name, finding.flow) == ("livelock", "many_calls", "worker")
    assert finding.details == ("the last step was add in spin < many_calls",)
