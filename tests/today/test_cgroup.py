"""Cgroups of 6.12: the end of a css in three queues, counts of dying csses, a css that cannot go online, tasks."""

from __future__ import annotations

import pytest

from actors.files.crash_reader import look
from actors.linux.include.kernfs import KernfsNode, kernfs_remove
from actors.linux.kernel.cgroup import cgroup as cgroup_module
from actors.linux.kernel.cgroup.cgroup import Cgroup, cgroup_attach_task, cgroup_mkdir, cgroup_rmdir, css_get, css_put
from actors.linux.kernel.locking.locks import Completion
from actors.machine.context import Context
from actors.system.flow import Flow
from protocol.formats.cgroup_files import parse_flat_keyed
from scenarios.stage import Stage, mkdir, rmdir
from tests.today.memcontrol_stub import Stub, perform

each_seed = pytest.mark.parametrize("seed", range(12))


# -- the life of a css ------------------------------------------------------------------------------------------------


PERIODS = {
    "5.4-fixed": {"offline": 1, "released": 1, "free": 2, "cgroup": 3},
    "6.12": {"offline": 1, "released": 1, "free": 2, "cgroup": 3},
    "7.2": {"offline": 2, "released": 2, "free": 3, "cgroup": 4},
}
"""The grace periods from rmdir on: 6.12 and 7.2 as captured (README-6.12-7.2, E3), and 5.4 as 5.3.1."""


@pytest.mark.parametrize("kernel", PERIODS)
def test_an_idle_cgroup_is_freed_after_grace_periods_of_which_7_2_has_one_more(kernel: str) -> None:
    """In 7.2 css_killed_work_fn() comes a grace period of its own after css_killed_ref_fn()."""
    periods: dict[str, int] = {}
    stub = Stub()

    def build(stage: Stage) -> None:
        machine = stage.machine

        async def see(_ctx: Context, callback: str, _name: str) -> None:
            periods[callback] = machine.rcu.completed

        async def work(ctx: Context) -> None:
            cgroup = await mkdir(ctx, machine.root_cgroup, "a")
            await cgroup_attach_task(ctx, cgroup, ctx)
            await cgroup_attach_task(ctx, machine.root_cgroup, ctx)
            await ctx.settle()
            periods["rmdir"] = machine.rcu.completed
            assert await cgroup_rmdir(ctx, cgroup)

        def free(_flow: Flow) -> None:
            if "free" in periods and machine.cgroup_tree.nr_cgrps == 1:
                periods.setdefault("cgroup", machine.rcu.completed)

        stub.seen = see
        stage.world.checks.append(free)
        stage.task("t", work)

    perform(stub, build, kernel=kernel, strategy="clock")

    assert {name: periods[name] - periods["rmdir"] for name in PERIODS[kernel]} == PERIODS[kernel]
    ends = [name for name, _ in stub.events if name in PERIODS[kernel]]
    assert ends == ["offline", "released", "free"]


@pytest.mark.parametrize("kernel", ["6.12", "7.2"])
def test_a_cgroup_is_counted_as_dying_when_its_directory_has_gone(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """KERNEL-today 3.2: whoever uses one of its files delays that."""
    counts: list[tuple[int, int]] = []

    def build(stage: Stage) -> None:
        root = stage.machine.root_cgroup

        async def see(ctx: Context, node: KernfsNode) -> None:
            counts.append((root.nr_descendants, root.nr_dying_descendants))
            await kernfs_remove(ctx, node)

        async def work(ctx: Context) -> None:
            job = await mkdir(ctx, root, "job")
            monkeypatch.setattr(cgroup_module, "kernfs_remove", see)
            await rmdir(ctx, job)
            counts.append((root.nr_descendants, root.nr_dying_descendants))
            monkeypatch.undo()

        stage.task("t", work)

    perform(Stub(), build, kernel=kernel)

    assert counts == [(1, 0), (1, 0), (0, 1)]


@each_seed
def test_dying_csses_are_counted_from_the_kill_to_the_release_and_dying_cgroups_longer(seed: int) -> None:
    """KERNEL-today 3.5: nr_dying_subsys_memory falls first."""
    seen: list[tuple[int, int]] = []

    def build(stage: Stage) -> None:
        root = stage.machine.root_cgroup

        def look_at(_flow: Flow) -> None:
            now = root.nr_dying_subsys, root.nr_dying_descendants
            if not seen or now != seen[-1]:
                seen.append(now)

        async def work(ctx: Context) -> None:
            assert await cgroup_rmdir(ctx, await mkdir(ctx, root, "a"))

        stage.world.checks.append(look_at)
        stage.task("t", work)

    perform(Stub(), build, seed=seed)

    assert seen == [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]


@each_seed
def test_each_level_counts_the_csses_below_it(seed: int) -> None:
    """Three levels, the one in the middle is held: the lowest goes, the other two stay dying."""
    cgroups: dict[str, Cgroup] = {}
    files: dict[str, dict[str, int]] = {}

    def build(stage: Stage) -> None:
        machine = stage.machine
        cgroups["/"] = machine.root_cgroup

        def read(point: str) -> None:
            files[point] = parse_flat_keyed(look(machine, "cgroup.stat").decode(), source="x")

        async def make(ctx: Context) -> None:
            for above, name in zip("/abc", "abcd", strict=True):
                cgroups[name] = await mkdir(ctx, cgroups[above], name)
            await css_get(ctx, cgroups["b"].css)
            files["a"] = parse_flat_keyed(look(machine, "a/cgroup.stat").decode(), source="x")
            read("before")

        async def remove(ctx: Context) -> None:
            for name in "dcba":
                await rmdir(ctx, cgroups[name])

        async def release(ctx: Context) -> None:
            read("held")
            assert [cgroups[name].nr_dying_subsys for name in "/ab"] == [2, 2, 1]
            assert [cgroups[name].css.nr_descendants for name in "/ab"] == [0, 0, 0]
            await css_put(ctx, cgroups["b"].css)
            await ctx.settle()
            read("after")

        stage.set_up(make)
        stage.task("t", remove, cpu=1)
        stage.wind_up(release)

    stub = Stub()
    stage = perform(stub, build, seed=seed)

    keys = ["nr_descendants", "nr_subsys_memory", "nr_dying_descendants", "nr_dying_subsys_memory"]
    assert list(files["before"]) == keys, "the order of the file"
    assert list(files["before"].values()) == [4, 5, 0, 0]
    assert list(files["a"].values()) == [3, 4, 0, 0], "its own css is one"
    assert list(files["held"].values()) == [0, 1, 2, 2]
    assert list(files["after"].values()) == [0, 1, 0, 0]
    assert [name for callback, name in stub.events if callback == "free"] == ["d", "c", "b", "a"]
    assert stage.machine.cgroup_tree.nr_cgrps == 1


def test_a_css_that_cannot_go_online_is_freed_though_it_was_never_offline() -> None:
    """KERNEL-today 3.1: no css_offline, no css_released."""
    made: list[Cgroup | None] = []
    stub = Stub(fails=("a",))

    def build(stage: Stage) -> None:
        async def work(ctx: Context) -> None:
            made.append(await cgroup_mkdir(ctx, stage.machine.root_cgroup, "a"))
            await ctx.settle()
            made.append(await cgroup_mkdir(ctx, stage.machine.root_cgroup, "b"))

        stage.task("t", work)

    stage = perform(stub, build)
    root = stage.machine.root_cgroup

    assert made[0] is None
    assert made[1] is not None
    assert [event for event in stub.events if event[1] == "a"] == [("alloc", "a"), ("online", "a"), ("free", "a")]
    assert (root.nr_dying_subsys, root.nr_dying_descendants, root.css.nr_descendants) == (0, 0, 1)
    assert list(root.css.children) == [made[1].css]
    assert made[1].css.id == 2, "the id of the first is free again"
    assert root.css.online_cnt == 2


# -- the queues -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["6.12", "5.4-fixed"])
def test_an_offline_waits_for_the_free_of_another_css_in_one_queue_only(kernel: str) -> None:
    """KERNEL-today 2.4: a css_free that does not come to its end keeps this CPU's offlines waiting before 6.12."""
    stub, waits = Stub(), kernel != "6.12"

    def build(stage: Stage) -> None:
        machine = stage.machine
        freeing = Completion(machine.cgroup_tree.actor, remaining=1)
        offline = Completion(machine.cgroup_tree.actor, remaining=1)

        async def see(ctx: Context, callback: str, name: str) -> None:
            if (callback, name) == ("free", "b"):
                await ctx.ask(freeing.complete)
                await ctx.ask(offline.wait_for_completion)
                stub.events.append(("freed", name))
            if (callback, name) == ("offline", "a"):
                await ctx.ask(offline.complete)

        async def work(ctx: Context) -> None:
            a = await mkdir(ctx, machine.root_cgroup, "a")
            await rmdir(ctx, await mkdir(ctx, machine.root_cgroup, "b"))
            await ctx.ask(freeing.wait_for_completion)
            await rmdir(ctx, a)

        stub.seen = see
        stage.task("t", work)

    perform(stub, build, kernel=kernel, cpus=1, finds=("deadlock",) if waits else ())

    assert (("offline", "a") in stub.events) is not waits
    assert (("freed", "b") in stub.events) is not waits


@each_seed
def test_each_queue_runs_one_item_a_cpu(seed: int) -> None:
    """T16; and several of the queues do run at a time on one CPU."""
    most = [0]

    def build(stage: Stage) -> None:
        machine = stage.machine

        def count(_flow: Flow) -> None:
            for pool in machine.worker_pools:
                running = [worker.current.pwq.wq.name for worker in pool.busy if worker.current is not None]
                ours = [name for name in running if name.startswith("cgroup_")]
                assert len(ours) == len(set(ours)), ours
                most[0] = max(most[0], len(ours))

        async def work(ctx: Context) -> None:
            for number in range(4):
                await rmdir(ctx, await mkdir(ctx, machine.root_cgroup, f"{ctx.name}{number}"))

        stage.world.checks.append(count)
        for name in "xyz":
            stage.task(name, work)

    perform(Stub(), build, seed=seed, cpus=1)

    assert most[0] > 1


# -- tasks ------------------------------------------------------------------------------------------------------------


def test_the_controller_hears_of_a_fork_first_and_of_moves_and_the_exit_after_the_list() -> None:
    """KERNEL-today 3.7: the callbacks stand behind the change of the list."""
    told: list[tuple[str, str, int]] = []
    stub = Stub()

    def build(stage: Stage) -> None:
        machine = stage.machine
        cgroups: list[Cgroup] = []

        async def see(_ctx: Context, callback: str, name: str) -> None:
            if name == "t":
                told.append((callback, name, cgroups[0].tasks))

        async def make(ctx: Context) -> None:
            cgroups.append(await mkdir(ctx, machine.root_cgroup, "a"))

        async def work(ctx: Context) -> None:
            told.append(("runs", "t", 0))
            await cgroup_attach_task(ctx, cgroups[0], ctx)

        stub.seen = see
        stage.set_up(make)
        stage.task("t", work)

    perform(stub, build)

    assert told == [("fork", "t", 0), ("runs", "t", 0), ("attach", "t", 1), ("exit", "t", 0)]
