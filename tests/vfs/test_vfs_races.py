"""Races of the dentry and inode caches that need an exact moment; a test reaches it by holding one of the locks."""

from __future__ import annotations

from actors.linux.fs.dcache import DentryFlags, d_add, d_alloc, d_lookup, dput, prune_dcache_sb
from actors.linux.fs.file_table import fput
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.namei import do_filp_open, do_unlinkat
from actors.linux.fs.read_write import vfs_write
from actors.linux.fs.super import SuperBlock
from actors.linux.include.swap import put_page
from actors.linux.kernel.locking.locks import SpinLock, spin_lock, spin_unlock
from actors.linux.mm.truncate import invalidate_mapping_pages
from actors.linux.mm.vmscan import ShrinkControl
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL
from explorer.search.strategies.simple import RandomWalk
from tests.vfs.vfs_helpers import Lab, Story, dentry_of, drop, names_in_cache, rest, run, run_all, start, touch

LONG_ENOUGH = 1_000_000


def prune(lab: Lab) -> ShrinkControl:
    """A ShrinkControl that asks for all objects of the root memcg."""
    return ShrinkControl(GFP_KERNEL, 0, lab.machine.root_mem_cgroup, nr_to_scan=8)


async def with_lock_held(ctx: Context, lab: Lab, lock: SpinLock, *others: Story) -> None:
    """Hold *lock* while tasks on other CPUs run *others*, one after the other; the first of them waits for it."""
    await spin_lock(ctx, lock)
    for cpu, other in enumerate(others, start=1):
        start(lab, f"other{cpu}", other, cpu=cpu)
        await ctx.stall(LONG_ENOUGH)
    await spin_unlock(ctx, lock)
    await rest(ctx)


def use(sb: SuperBlock) -> Story:
    """Look "a" up, and keep the reference."""

    async def story(ctx: Context, _lab: Lab) -> None:
        dentry = await d_lookup(ctx, sb.root, "a")
        assert dentry is not None
        assert dentry.d_lockref.count > 0

    return story


async def shrink(ctx: Context, lab: Lab) -> None:
    """Run a shrinker."""
    await prune_dcache_sb(ctx, lab.ext4, prune(lab))


def test_a_walk_that_waits_for_the_inode_lets_a_dentry_go_that_is_used_meanwhile() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a")
        dentry = dentry_of(lab.ext4, "a")
        assert dentry.d_inode is not None
        lock = dentry.d_inode.i_lock
        await with_lock_held(ctx, lab, lock, shrink, use(lab.ext4))
        assert (dentry.d_flags, dentry.d_lockref.count) == (DentryFlags.NONE, 1)
        await dput(ctx, dentry)
        assert names_in_cache(lab.ext4) == {"a"}

    assert not run(story, cpus=3).signatures()


def test_a_walk_that_waits_for_the_parent_lets_a_dentry_go_that_is_used_meanwhile() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a")
        dentry, lock = dentry_of(lab.ext4, "a"), lab.ext4.root.d_lockref
        await with_lock_held(ctx, lab, lock, shrink, use(lab.ext4))
        assert (dentry.d_flags, dentry.d_lockref.count) == (DentryFlags.NONE, 1)
        await dput(ctx, dentry)
        assert names_in_cache(lab.ext4) == {"a"}

    assert not run(story, cpus=3).signatures()


async def negative(ctx: Context, sb: SuperBlock, name: str) -> None:
    """A negative dentry, with a reference."""
    dentry = await d_alloc(ctx, sb.root, name)
    assert dentry is not None
    await d_add(ctx, dentry, None)


def test_a_task_that_waits_to_kill_a_dentry_keeps_it_if_it_is_used_meanwhile() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await negative(ctx, lab.tmpfs, "a")
        dentry, lock = dentry_of(lab.tmpfs, "a"), lab.tmpfs.root.d_lockref
        await with_lock_held(ctx, lab, lock, lambda ctx, _lab: dput(ctx, dentry), use(lab.tmpfs))
        assert dentry.d_lockref.count == 1
        await dput(ctx, dentry)
        await rest(ctx)
        assert names_in_cache(lab.tmpfs) == set()

    assert not run(story, cpus=3).signatures()


def test_a_task_that_waits_for_the_inode_of_a_dentry_kills_it_afterwards() -> None:
    """The slow path of dentry_kill(): its trylock of i_lock failed."""

    async def story(ctx: Context, lab: Lab) -> None:
        file = await do_filp_open(ctx, lab.tmpfs.root, "a", creat=True)
        assert file is not None
        await do_unlinkat(ctx, lab.tmpfs.root, "a")
        inode = file.dentry.d_inode
        assert inode is not None
        await with_lock_held(ctx, lab, inode.i_lock, lambda ctx, _lab: fput(ctx, file))
        assert inode not in lab.tmpfs.s_inodes
        assert file.freed is not None

    assert not run(story, cpus=3).signatures()


def test_a_walk_skips_a_dentry_whose_lock_is_taken() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a", "b")
        lock = dentry_of(lab.ext4, "a").d_lockref
        await with_lock_held(ctx, lab, lock, shrink)
        assert names_in_cache(lab.ext4) == {"a"}

    assert not run(story, cpus=3).signatures()


def test_an_inode_that_was_used_again_leaves_the_lru_with_its_last_name() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a")
        await sync_inodes_sb(ctx, lab.ext4)
        inode = dentry_of(lab.ext4, "a").d_inode
        assert inode is not None
        await prune_dcache_sb(ctx, lab.ext4, prune(lab))
        assert inode.i_lru.on is lab.ext4.s_inode_lru.nodes[0].lru
        assert await do_unlinkat(ctx, lab.ext4.root, "a")
        await rest(ctx)
        assert inode.freed is not None

    assert not run(story, cpus=3).signatures()


def test_an_inode_that_is_dirtied_while_it_is_written_is_written_again() -> None:
    async def write(ctx: Context, lab: Lab) -> None:
        file = await do_filp_open(ctx, lab.ext4.root, "a", creat=True)
        assert file is not None
        for _ in range(4):
            await vfs_write(ctx, file, 1)
        await fput(ctx, file)

    async def sync(ctx: Context, lab: Lab) -> None:
        for _ in range(6):
            await sync_inodes_sb(ctx, lab.ext4)

    for seed in range(40):
        lab = run_all(write, sync, strategy=RandomWalk(seed))
        assert not lab.signatures(), f"seed {seed}"


def test_a_page_that_a_reclaimer_has_isolated_is_not_invalidated_but_truncated() -> None:
    """The last reference frees it, whichever task drops it."""

    async def story(ctx: Context, lab: Lab) -> None:
        file = await do_filp_open(ctx, lab.ext4.root, "a", creat=True)
        assert file is not None
        inode, root = file.dentry.d_inode, lab.machine.root_mem_cgroup
        assert inode is not None
        await vfs_write(ctx, file, 2)
        await sync_inodes_sb(ctx, lab.ext4)
        (isolated,) = await ctx.ask(root.isolate_lru_pages, 0, 1)
        assert await invalidate_mapping_pages(ctx, inode) == 1
        assert list(inode.i_pages.values()) == [isolated]
        await do_unlinkat(ctx, lab.ext4.root, "a")
        await fput(ctx, file)
        await rest(ctx)
        assert (isolated.mapping, isolated.refs, root.cache_pages) == (None, 1, 1)
        await put_page(ctx, isolated)
        assert root.cache_pages == 0
        await drop(ctx, 2)

    assert not run(story, cpus=3).signatures()
