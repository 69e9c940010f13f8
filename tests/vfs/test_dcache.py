"""Files and their names: the references, the dentries that stay after the last close, and the order of RCU frees."""

from __future__ import annotations

import pytest

from actors.linux.fs.dcache import DentryFlags, dget, dput
from actors.linux.fs.drop_caches import drop_caches_sysctl_handler
from actors.linux.fs.ext4 import EXT4, __ext4_iget
from actors.linux.fs.file_table import fput
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.inode import iput, prune_icache_sb
from actors.linux.fs.namei import do_filp_open, do_mkdirat, do_unlinkat, filename_lookup
from actors.linux.fs.read_write import vfs_read, vfs_write
from actors.linux.fs.super import FileSystemType, SuperBlock
from actors.linux.mm.list_lru import ListLruOne
from actors.linux.mm.shmem import TMPFS
from actors.linux.mm.vmscan import ShrinkControl
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL
from actors.system.flow import Flow
from actors.system.lane import Lane
from actors.system.recorder import Recorder
from actors.system.world import EnabledSet, World
from explorer.experiment import RunOptions
from explorer.search.strategies.simple import RandomWalk
from explorer.session import run as run_scenario
from protocol.vocabulary import PROFILES
from scenarios.stage import enter, mkdir
from tests.vfs.vfs_helpers import (
    Lab,
    Tracer,
    dentry_of,
    drop,
    in_cgroup,
    memcg,
    names_in_cache,
    open_file,
    rest,
    run,
    run_all,
    start,
    stat,
    touch,
)

each_filesystem = pytest.mark.parametrize("s_type", [TMPFS, EXT4], ids=["tmpfs", "ext4"])

FREED = ("file_free_rcu", "__d_free", "i_callback")


def is_on_lru(sb: SuperBlock, name: str) -> bool:
    return isinstance(dentry_of(sb, name).d_lru.on, ListLruOne)


# -- references -------------------------------------------------------------------------------------------------------


@each_filesystem
def test_an_open_file_holds_its_dentry_and_that_its_inode_and_its_parent(s_type: FileSystemType) -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        sb = lab.mounted(s_type)
        pinned = 1 if s_type is TMPFS else 0
        file = await do_filp_open(ctx, sb.root, "a", creat=True)
        assert file is not None
        dentry = dentry_of(sb, "a")
        assert dentry.d_lockref.count == 1 + pinned
        assert dentry.d_inode is not None
        assert dentry.d_inode.i_count == 1
        assert sb.root.d_lockref.count == 2
        await fput(ctx, file)
        assert dentry.d_lockref.count == pinned

    assert not run(story).signatures()


@each_filesystem
def test_a_lookup_from_another_cgroup_finds_the_same_dentry(s_type: FileSystemType) -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        sb = lab.mounted(s_type)
        first = await mkdir(ctx, lab.machine.root_cgroup, "first")
        await in_cgroup(ctx, lab, first, "a", s_type=s_type)
        dentry = dentry_of(sb, "a")
        second = await mkdir(ctx, lab.machine.root_cgroup, "second")
        await enter(ctx, second)
        file = await open_file(ctx, sb, "a")
        assert file.dentry is dentry
        assert dentry.obj.slab.slab_cache.memcg is memcg(first)
        await fput(ctx, file)
        await enter(ctx, lab.machine.root_cgroup)

    assert not run(story).signatures()


@each_filesystem
def test_a_name_that_does_not_exist_cannot_be_opened_or_unlinked(s_type: FileSystemType) -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        sb = lab.mounted(s_type)
        assert await do_filp_open(ctx, sb.root, "nobody") is None
        assert await filename_lookup(ctx, sb.root, "nobody") is None
        assert not await do_unlinkat(ctx, sb.root, "nobody")
        await rest(ctx)
        assert ("nobody" in names_in_cache(sb)) == (s_type is EXT4), "only a disk remembers in vain"

    assert not run(story).signatures()


@each_filesystem
def test_a_directory_holds_what_is_below_it(s_type: FileSystemType) -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        sb = lab.mounted(s_type)
        assert await do_mkdirat(ctx, sb.root, "d")
        assert not await do_mkdirat(ctx, sb.root, "d")
        directory = await filename_lookup(ctx, sb.root, "d")
        assert directory is not None
        file = await do_filp_open(ctx, directory, "a", creat=True)
        assert file is not None
        await dput(ctx, directory)
        await drop(ctx, 2)
        assert names_in_cache(sb) == {"d", "a"}
        assert file.dentry.d_parent is directory
        await fput(ctx, file)

    assert not run(story).signatures()


# -- rest and REFERENCED ----------------------------------------------------------------------------------------------


def test_on_a_disk_a_closed_file_rests_and_is_referenced_when_it_comes_to_rest_again() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a")
        dentry = dentry_of(lab.ext4, "a")
        assert is_on_lru(lab.ext4, "a")
        assert DentryFlags.REFERENCED not in dentry.d_flags
        await stat(ctx, lab.ext4, "a")
        assert is_on_lru(lab.ext4, "a")
        assert DentryFlags.REFERENCED in dentry.d_flags

    assert not run(story).signatures()


def test_an_open_file_is_on_the_lru_until_somebody_looks() -> None:
    """A new reference leaves the dentry on the list; a shrinker's walk takes it off, the last dput() puts it back."""

    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a")
        file = await open_file(ctx, lab.ext4, "a")
        assert is_on_lru(lab.ext4, "a")
        await drop(ctx, 2)
        assert not is_on_lru(lab.ext4, "a")
        await fput(ctx, file)
        assert is_on_lru(lab.ext4, "a")
        assert DentryFlags.REFERENCED not in dentry_of(lab.ext4, "a").d_flags

    assert not run(story).signatures()


def test_an_inode_rests_only_without_dentries_and_clean() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a")
        inode = dentry_of(lab.ext4, "a").d_inode
        assert inode is not None
        await drop(ctx, 2)
        assert names_in_cache(lab.ext4) == set()
        assert inode.i_count == 0
        assert inode.i_lru.on is None, "it is dirty"
        await sync_inodes_sb(ctx, lab.ext4)
        assert isinstance(inode.i_lru.on, ListLruOne)
        await drop(ctx, 2)
        assert inode not in lab.ext4.s_inodes

    assert not run(story).signatures()


def test_a_name_is_read_again_from_the_disk() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        file = await do_filp_open(ctx, lab.ext4.root, "a", creat=True)
        assert file is not None
        assert await vfs_write(ctx, file, 3) == 3
        await fput(ctx, file)
        old = dentry_of(lab.ext4, "a").d_inode
        assert old is not None
        number = old.i_ino
        await sync_inodes_sb(ctx, lab.ext4)
        for _ in range(3):
            await drop(ctx, 3)
        assert old not in lab.ext4.s_inodes
        again = await open_file(ctx, lab.ext4, "a")
        inode = again.dentry.d_inode
        assert inode is not None
        assert inode is not old
        assert (inode.i_ino, inode.i_size) == (number, 3)
        assert await vfs_read(ctx, again) == 3
        await fput(ctx, again)

    assert not run(story).signatures()


def test_on_a_disk_an_unlinked_name_leaves_a_negative_dentry() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a")
        assert await do_unlinkat(ctx, lab.ext4.root, "a")
        assert dentry_of(lab.ext4, "a").d_inode is None
        assert is_on_lru(lab.ext4, "a")
        await touch(ctx, lab.ext4, "a")
        assert dentry_of(lab.ext4, "a").d_inode is not None, "and it is used again"

    assert not run(story).signatures()


def test_nothing_of_tmpfs_ever_rests() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.tmpfs, "a", "b")
        await stat(ctx, lab.tmpfs, "a")
        for value in (1, 2, 3):
            await drop(ctx, value)
        assert names_in_cache(lab.tmpfs) == {"a", "b"}
        for lru in (lab.tmpfs.s_dentry_lru, lab.tmpfs.s_inode_lru):
            assert all(node.nr_items == 0 for node in lru.nodes)

    assert not run(story).signatures()


# -- the order of RCU frees (the captures) ----------------------------------------------------------------------------


def order_of(story_names: str, kernel: str) -> list[str]:
    """The order of the frees when a file of tmpfs is closed and unlinked, in either order."""
    tracer = Tracer()

    async def story(ctx: Context, lab: Lab) -> None:
        file = await do_filp_open(ctx, lab.tmpfs.root, "a", creat=True)
        assert file is not None
        await rest(ctx)
        tracer.trace(lab.machine, *FREED, "shmem_destroy_inode", "shmem_free_in_core_inode")
        for step in story_names.split():
            if step == "close":
                await fput(ctx, file)
            else:
                assert await do_unlinkat(ctx, lab.tmpfs.root, "a")
        await rest(ctx)

    lab = run(story, kernel=kernel)
    assert not lab.signatures()
    return list(tracer.entered)


@pytest.mark.parametrize("kernel", ["original", "5.3"])
def test_a_file_that_is_closed_and_unlinked_goes_as_in_the_captures(kernel: str) -> None:
    """The order in ftrace-linux-5.2.1-rmdir-held.txt and -5.3.1-rmdir-held.txt from release-begin on."""
    assert order_of("close unlink", kernel) == [
        "shmem_destroy_inode",
        "file_free_rcu",
        "__d_free",
        "i_callback",
        "shmem_free_in_core_inode",
    ]


def test_a_log_shows_what_is_freed_in_which_order() -> None:
    """Each RCU callback makes a step under its own name."""
    functions = (*FREED, "shmem_destroy_inode", "shmem_free_in_core_inode")
    options = RunOptions(
        scenario="shared-dentry", driver="stepper", strategy="clock", settings={"generations": "1", "files": "1"}
    )
    steps: list[str] = []
    original = Recorder.step

    def step(self: Recorder, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:
        steps.append(lane.request.code.co_name if isinstance(lane, Flow) else "")
        original(self, world, enabled, index, lane)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "step", step)
        assert run_scenario(options).outcome == "ok"

    assert [name for name in steps if name in functions] == [
        "file_free_rcu",  # the job closes its file
        "shmem_destroy_inode",  # the other task, which had it open too, closes and removes it
        "file_free_rcu",
        "__d_free",
        "i_callback",
        "shmem_free_in_core_inode",
    ]


@pytest.mark.parametrize("kernel", PROFILES)
def test_a_file_that_is_unlinked_while_open_goes_with_its_last_close(kernel: str) -> None:
    if kernel in ("v3", "v4"):
        return check_no_grace_period_ends(kernel)
    assert order_of("unlink close", kernel) == [
        "shmem_destroy_inode",
        "i_callback",
        "shmem_free_in_core_inode",
        "__d_free",
        "file_free_rcu",
    ]
    return None


def check_no_grace_period_ends(kernel: str) -> None:
    """Check that a task stays in an RCU section for ever after its first accounted allocation."""

    async def story(ctx: Context, lab: Lab) -> None:
        await enter(ctx, lab.session)
        await touch(ctx, lab.tmpfs, "a")

    assert any(signature.startswith("atomic-sleep") for signature in run(story, kernel=kernel).signatures())


def test_objects_are_created_in_the_order_of_the_captures() -> None:
    tracer = Tracer()

    async def story(ctx: Context, lab: Lab) -> None:
        tracer.trace(lab.machine, "alloc_empty_file", "__d_alloc", "alloc_inode", "shmem_alloc_inode")
        await touch(ctx, lab.tmpfs, "a")

    assert not run(story).signatures()
    assert tracer.entered == ["alloc_empty_file", "__d_alloc", "alloc_inode", "shmem_alloc_inode"]


def test_objects_come_back_on_the_cpu_that_dropped_them() -> None:
    tracer = Tracer()

    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.tmpfs, "a")
        await rest(ctx)
        tracer.trace(lab.machine, *FREED, note=lambda ctx, _head: ctx.smp_processor_id)
        await ctx.migrate(lab.machine.cpus[1])
        await do_unlinkat(ctx, lab.tmpfs.root, "a")
        await ctx.migrate(lab.machine.cpus[0])

    assert not run(story).signatures()
    assert tracer.entered == ["__d_free", "i_callback"]
    assert tracer.notes == [1, 1]


# -- races ------------------------------------------------------------------------------------------------------------


@each_filesystem
@pytest.mark.parametrize("kernel", ["original", "5.3", "5.4-fixed"])
def test_two_tasks_that_want_a_name_that_is_going_agree(s_type: FileSystemType, kernel: str) -> None:
    """One task unlinks and recreates the name, another opens it, and shrinkers run; the final accounts are right."""

    async def again(ctx: Context, lab: Lab) -> None:
        for _ in range(4):
            await do_unlinkat(ctx, lab.mounted(s_type).root, "a")
            await touch(ctx, lab.mounted(s_type), "a")

    async def look(ctx: Context, lab: Lab) -> None:
        for _ in range(6):
            file = await do_filp_open(ctx, lab.mounted(s_type).root, "a")
            if file is not None:
                await fput(ctx, file)

    async def shrink(ctx: Context, lab: Lab) -> None:
        for _ in range(3):
            await sync_inodes_sb(ctx, lab.mounted(s_type))
            await drop_caches_sysctl_handler(ctx, 2)

    for seed in range(40):
        lab = run_all(again, look, shrink, kernel=kernel, strategy=RandomWalk(seed), cpus=3)
        assert not lab.signatures(), f"seed {seed}"


def test_two_tasks_that_want_an_inode_by_its_number_get_the_same_one() -> None:
    """A lookup as for a file handle: the inode may be in memory, being freed, or being read for the other task."""
    waits: set[str] = set()

    async def get(ctx: Context, lab: Lab) -> None:
        for _ in range(6):
            inode = await __ext4_iget(ctx, lab.ext4, 2)
            assert inode is not None
            assert inode.i_size == 2
            assert lab.ext4.inode_hash[2] is inode
            await iput(ctx, inode)

    async def direct(ctx: Context, lab: Lab) -> None:
        file = await do_filp_open(ctx, lab.ext4.root, "a", creat=True)
        assert file is not None
        assert file.dentry.d_inode is not None
        assert file.dentry.d_inode.i_ino == 2
        await vfs_write(ctx, file, 2)
        await fput(ctx, file)
        await sync_inodes_sb(ctx, lab.ext4)
        for _ in range(3):
            await drop(ctx, 3)
        lab.world.checks.append(lambda flow: waits.add(flow.request.info.name))
        for cpu in (1, 2):
            start(lab, f"get{cpu}", get, cpu=cpu)
        for _ in range(20):
            sc = ShrinkControl(GFP_KERNEL, 0, lab.machine.root_mem_cgroup, nr_to_scan=2)
            await prune_icache_sb(ctx, lab.ext4, sc)

    for seed in range(60):
        lab = run(direct, strategy=RandomWalk(seed), cpus=3)
        assert not lab.signatures(), f"seed {seed}"

    assert {"wait_until_read", "wait_on_freeing_inode"} <= waits


def test_a_dentry_that_a_walk_has_taken_is_freed_by_the_walk() -> None:
    """MAY_FREE: a task that opens, removes and kills the dentry in this time leaves the free to the walk."""
    freed_for_another = 0

    async def use(ctx: Context, lab: Lab) -> None:
        """Open and remove the file that the walk comes to last, at any time."""
        for _ in range(await ctx.choose(8)):
            await stat(ctx, lab.tmpfs, "nobody")
        file = await open_file(ctx, lab.ext4, "z")
        await do_unlinkat(ctx, lab.ext4.root, "z")
        await fput(ctx, file)

    async def shrink(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, *"abcdefghijz")
        tracer.trace(lab.machine, "dentry_free", note=lambda _ctx, dentry: DentryFlags.MAY_FREE in dentry.d_flags)
        start(lab, "use", use, cpu=1)
        await drop_caches_sysctl_handler(ctx, 2)

    for seed in range(60):
        tracer = Tracer()
        lab = run(shrink, strategy=RandomWalk(seed))
        assert not lab.signatures(), f"seed {seed}"
        freed_for_another += tracer.notes.count(True)

    assert freed_for_another


def test_a_reference_is_added_without_the_lock() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a")
        file = await open_file(ctx, lab.ext4, "a")
        assert (await dget(ctx, file.dentry)).d_lockref.count == 2
        await dput(ctx, file.dentry)
        assert file.dentry.d_lockref.count == 1
        await fput(ctx, file)

    assert not run(story).signatures()
