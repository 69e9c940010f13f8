"""The stage of the traces: cgroup2 through the VFS, rmdir(2), and the scenarios of the traced program."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from actors.linux.fs.dcache import Dentry, d_lookup, dput
from actors.linux.fs.file_table import fput
from actors.linux.fs.kernfs import CGROUP2
from actors.linux.fs.namei import do_filp_open, do_mkdirat, do_rmdir, filename_lookup
from actors.linux.fs.super import FileSystemType, vfs_get_tree
from actors.linux.include.kernfs import PROCS
from actors.linux.kernel.cgroup.cgroup import cgroup_procs_write
from actors.linux.mm.shmem import TMPFS
from actors.machine.context import Context
from actors.system.stepper import run_stepper
from actors.system.strategy import InTurn
from actors.system.world import World
from explorer.experiment import RunOptions
from explorer.session import run
from scenarios import find_scenario
from scenarios.stage import Stage
from scenarios.traced import CACHES
from tests.match.traces import STORIES

Body = Callable[[Context, Dentry], Awaitable[None]]


def on_mount(body: Body, s_type: FileSystemType = CGROUP2) -> Stage:
    """Run *body* with the root directory of a new mount, and run all checks afterwards."""
    world = World(InTurn())
    stage = Stage(world, "5.3", find_scenario("traced-create").values({}))
    stage.boot(*CACHES)

    async def live(ctx: Context) -> None:
        await body(ctx, (await vfs_get_tree(ctx, s_type)).root)

    stage.task("task", live)
    stage.start()
    run_stepper(world)
    assert not world.findings
    assert world.stopped == "quiescent"
    return stage


def test_a_directory_is_a_cgroup() -> None:
    made: list[int] = []

    async def body(ctx: Context, root: Dentry) -> None:
        assert await do_mkdirat(ctx, root, "job")
        made.append(ctx.machine.root_cgroup.nr_descendants)
        assert not await do_mkdirat(ctx, root, "job"), "there is one"
        assert await do_rmdir(ctx, root, "job")
        assert not await do_rmdir(ctx, root, "job"), "there is none"

    stage = on_mount(body)

    assert made == [2]
    assert stage.only_session_left()


def test_a_cgroup_with_a_task_is_busy() -> None:
    async def body(ctx: Context, root: Dentry) -> None:
        await do_mkdirat(ctx, root, "job")
        directory = await filename_lookup(ctx, root, "job")
        assert directory is not None
        procs = await do_filp_open(ctx, directory, PROCS)
        assert procs is not None
        await cgroup_procs_write(ctx, procs.dentry, ctx)
        assert not await do_rmdir(ctx, root, "job")
        assert directory.is_hashed
        assert directory.d_inode is not None

        home = await do_filp_open(ctx, root, PROCS)
        assert home is not None
        await cgroup_procs_write(ctx, home.dentry, ctx)
        assert await do_rmdir(ctx, root, "job")
        for file in (procs, home):
            await fput(ctx, file)
        await dput(ctx, directory)

    assert on_mount(body).only_session_left()


def test_a_cgroup_with_a_child_is_busy_and_a_removed_child_is_none() -> None:
    async def body(ctx: Context, root: Dentry) -> None:
        await do_mkdirat(ctx, root, "job")
        directory = await filename_lookup(ctx, root, "job")
        assert directory is not None
        await do_mkdirat(ctx, directory, "sub")
        assert not await do_rmdir(ctx, root, "job")
        assert await do_rmdir(ctx, directory, "sub")
        await dput(ctx, directory)
        assert await do_rmdir(ctx, root, "job")
        assert not directory.d_subdirs, "the name of the removed child went with its directory"

    assert on_mount(body).only_session_left()


def test_dentries_below_a_directory_are_removed_with_it() -> None:
    async def body(ctx: Context, root: Dentry) -> None:
        await do_mkdirat(ctx, root, "job")
        directory = await filename_lookup(ctx, root, "job")
        assert directory is not None
        procs = await do_filp_open(ctx, directory, PROCS)
        assert procs is not None
        name = procs.dentry
        await fput(ctx, procs)
        await dput(ctx, directory)
        assert name.is_hashed, "it rests on the LRU"
        await do_rmdir(ctx, root, "job")
        await ctx.sleep(1_000_000_000)
        assert name.freed is not None
        assert directory.d_inode is None, "the name itself is negative"

    on_mount(body)


def test_a_file_that_is_open_outlives_its_directory() -> None:
    async def body(ctx: Context, root: Dentry) -> None:
        await do_mkdirat(ctx, root, "job")
        directory = await filename_lookup(ctx, root, "job")
        assert directory is not None
        procs = await do_filp_open(ctx, directory, PROCS)
        assert procs is not None
        await dput(ctx, directory)
        assert await do_rmdir(ctx, root, "job")
        await ctx.sleep(1_000_000_000)
        assert procs.dentry.freed is None
        await fput(ctx, procs)

    assert on_mount(body).only_session_left()


def test_a_name_that_does_not_exist_leaves_no_dentry() -> None:
    async def body(ctx: Context, root: Dentry) -> None:
        assert await filename_lookup(ctx, root, "nothing") is None
        assert await d_lookup(ctx, root, "nothing") is None
        assert await do_filp_open(ctx, root, "nothing", creat=True) is None
        await ctx.sleep(1_000_000_000)
        assert not root.d_subdirs

    on_mount(body)


def test_a_filesystem_without_rmdir_refuses() -> None:
    async def body(ctx: Context, root: Dentry) -> None:
        assert await do_mkdirat(ctx, root, "directory")
        assert not await do_rmdir(ctx, root, "directory")

    on_mount(body, TMPFS)


@pytest.mark.parametrize("scenario", STORIES.values())
@pytest.mark.parametrize("seed", range(10))
def test_the_fixed_kernel_has_no_finding_in_the_traced_program(scenario: str, seed: int) -> None:
    result = run(RunOptions(scenario=scenario, kernel="5.4-fixed", seed=seed, driver="stepper"))

    assert result.outcome == "ok"
    assert not result.unreached


@pytest.mark.parametrize("scenario", STORIES.values())
def test_the_traced_program_runs_alike_under_both_drivers(scenario: str) -> None:
    digests = {
        run(RunOptions(scenario=scenario, kernel="5.3", seed=3, driver=driver)).digest for driver in ("trio", "stepper")
    }

    assert len(digests) == 1


@pytest.mark.parametrize("scenario", STORIES.values())
@pytest.mark.parametrize(
    "settings", [{"allocator": "slab"}, {"cpus": "1"}, {"cgroup": "v1"}, {"nodes": "2"}, {"slow": "0"}]
)
def test_the_knobs_of_the_traced_program_work(scenario: str, settings: dict[str, str]) -> None:
    assert run(RunOptions(scenario=scenario, kernel="5.4-fixed", settings=settings, driver="stepper")).outcome == "ok"
