"""What drop_caches and memory pressure take away, and what stays (11.5, 11.6)."""

from __future__ import annotations

import pytest

from actors.linux.fs.dcache import dput, prune_dcache_sb
from actors.linux.fs.drop_caches import drop_caches_sysctl_handler
from actors.linux.fs.file_table import File, fput
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.inode import InodeState, prune_icache_sb
from actors.linux.fs.namei import do_filp_open, filename_lookup
from actors.linux.fs.read_write import vfs_read, vfs_write
from actors.linux.include.swap import try_to_free_mem_cgroup_pages
from actors.linux.mm.vmscan import Kswapd, ScanControl, ShrinkControl, balance_pgdat, shrink_node, try_to_free_pages
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL, GFP_NOWAIT
from explorer.strategies.simple import RandomWalk
from scenarios.stage import charge_elsewhere, enter, mkdir
from tests.vfs.vfs_helpers import (
    SOUND,
    Lab,
    drop,
    in_cgroup,
    memcg,
    names_in_cache,
    open_file,
    removed,
    rest,
    run,
    run_all,
    stat,
    touch,
)

# -- drop_caches (11.5) -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", SOUND)
def test_2_frees_what_is_unused_wherever_it_is_charged_and_nothing_that_is_open(kernel: str) -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        sb, opened = lab.ext4, []
        for number in range(3):
            cgroup = await mkdir(ctx, lab.machine.root_cgroup, f"job{number}")
            await in_cgroup(ctx, lab, cgroup, f"{number}.a", f"{number}.b")
            opened.append(await open_file(ctx, sb, f"{number}.b"))
            if number:
                await removed(ctx, cgroup)
        await drop(ctx, 2)
        assert names_in_cache(sb) == {"0.b", "1.b", "2.b"}
        inodes = {file.dentry.d_inode for file in opened}
        assert set(sb.s_inodes) == inodes | {sb.root.d_inode}
        for file in opened:
            await fput(ctx, file)
        await drop(ctx, 2)
        assert names_in_cache(sb) == set()
        assert len(sb.s_inodes) > 1, "the share of the inodes was settled when their dentries still held them"
        await drop(ctx, 2)
        assert set(sb.s_inodes) == {sb.root.d_inode}

    lab = run(story, kernel=kernel)
    assert not lab.signatures()
    assert [memcg.name for memcg in lab.machine.memcgs()] == ["session", "job0"]


def test_a_lone_referenced_dentry_survives_the_first_time_and_not_the_second() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a")
        await stat(ctx, lab.ext4, "a")
        await drop(ctx, 2)
        assert names_in_cache(lab.ext4) == {"a"}
        await drop(ctx, 2)
        assert names_in_cache(lab.ext4) == set()

    assert not run(story).signatures()


def test_of_several_referenced_dentries_each_is_looked_at_twice_and_goes() -> None:
    """The budget of full force is twice the list, so rotated items come up again."""

    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a", "b", "c")
        await stat(ctx, lab.ext4, "a", "b", "c")
        await drop(ctx, 2)
        assert len(names_in_cache(lab.ext4)) <= 1

    assert not run(story).signatures()


def test_a_dentry_and_its_inode_go_in_one_scan_and_its_directory_with_them() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        from_root = lab.ext4.root
        file = await do_filp_open(ctx, from_root, "a", creat=True)
        assert file is not None
        await fput(ctx, file)
        await sync_inodes_sb(ctx, lab.ext4)
        await drop(ctx, 2)
        assert list(lab.ext4.s_inodes) == [from_root.d_inode]

    assert not run(story).signatures()


def test_1_drops_clean_pages_only_and_3_everything() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        file = await do_filp_open(ctx, lab.ext4.root, "a", creat=True)
        assert file is not None
        inode = file.dentry.d_inode
        assert inode is not None
        await vfs_write(ctx, file, 3)
        await drop(ctx, 1)
        assert len(inode.i_pages) == 3, "they are dirty"
        await sync_inodes_sb(ctx, lab.ext4)
        await drop(ctx, 1)
        assert not inode.i_pages
        assert await vfs_read(ctx, file) == 3
        assert len(inode.i_pages) == 3
        await fput(ctx, file)
        await drop(ctx, 3)
        assert inode not in lab.ext4.s_inodes

    assert not run(story).signatures()


def test_2_takes_the_pages_of_an_inode_at_rest_first_and_the_inode_the_next_time() -> None:
    """Inode_lru_isolate() throws the pages away; its iput() marks the inode, which so gets another round."""

    async def story(ctx: Context, lab: Lab) -> None:
        file = await do_filp_open(ctx, lab.ext4.root, "a", creat=True)
        assert file is not None
        inode = file.dentry.d_inode
        assert inode is not None
        await vfs_write(ctx, file, 2)
        await fput(ctx, file)
        await sync_inodes_sb(ctx, lab.ext4)
        for _ in range(3):
            await drop(ctx, 2)
        assert not inode.i_pages
        assert inode not in lab.ext4.s_inodes

    assert not run(story).signatures()


def test_an_inode_that_loses_its_pages_gets_another_round() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        file = await do_filp_open(ctx, lab.ext4.root, "a", creat=True)
        assert file is not None
        inode = file.dentry.d_inode
        assert inode is not None
        await vfs_write(ctx, file, 2)
        await fput(ctx, file)
        await sync_inodes_sb(ctx, lab.ext4)
        sc = ShrinkControl(GFP_KERNEL, 0, lab.machine.root_mem_cgroup, nr_to_scan=1)
        assert await prune_dcache_sb(ctx, lab.ext4, sc) == 1
        assert inode.i_state is InodeState.NONE
        assert await prune_icache_sb(ctx, lab.ext4, sc) == 0
        assert (inode.i_state, inode.i_pages) == (InodeState.REFERENCED, {})
        assert await prune_icache_sb(ctx, lab.ext4, sc) == 0
        assert inode.i_state is InodeState.NONE
        assert await prune_icache_sb(ctx, lab.ext4, sc) == 1
        assert inode not in lab.ext4.s_inodes

    assert not run(story).signatures()


def test_pages_of_tmpfs_stay() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        file = await do_filp_open(ctx, lab.tmpfs.root, "a", creat=True)
        assert file is not None
        assert await vfs_write(ctx, file, 2) == 2
        await drop(ctx, 3)
        await try_to_free_pages(ctx, GFP_KERNEL)
        assert file.dentry.d_inode is not None
        assert len(file.dentry.d_inode.i_pages) == 2
        await fput(ctx, file)

    assert not run(story).signatures()


# -- pages, and memcgs that are gone (11.6) ---------------------------------------------------------------------------


async def file_of(ctx: Context, lab: Lab, name: str, pages: int) -> File:
    """A file with that many clean pages, open, all charged to the cgroup of the task."""
    file = await do_filp_open(ctx, lab.ext4.root, name, creat=True)
    assert file is not None
    assert await vfs_write(ctx, file, pages) == pages
    await sync_inodes_sb(ctx, lab.ext4)
    return file


@pytest.mark.parametrize("kernel", SOUND)
def test_page_cache_pins_a_removed_cgroup_until_there_is_some_pressure(kernel: str) -> None:
    """At priority 12 a few pages are nothing, but of an offline memcg they are scanned in any case; slabs are not."""

    async def story(ctx: Context, lab: Lab) -> None:
        job, online = [await mkdir(ctx, lab.machine.root_cgroup, name) for name in ("job", "online")]
        files = []
        for cgroup in (job, online):
            await enter(ctx, cgroup)
            files.append(await file_of(ctx, lab, cgroup.name, 4))
        await enter(ctx, lab.machine.root_cgroup)
        await removed(ctx, job)
        assert memcg(job).freed is None
        assert (memcg(job).cache_pages, memcg(online).cache_pages) == (4, 4)
        assert await balance_pgdat(ctx, 0, 1) == 4
        await rest(ctx)
        assert memcg(online).cache_pages == 4, "the first round was enough"
        assert memcg(job).cache_pages == 0
        for file in files:
            await fput(ctx, file)
        await drop(ctx, 3)
        await drop(ctx, 3)

    lab = run(story, kernel=kernel)
    assert not lab.signatures()
    assert [cgroup.name for cgroup in lab.machine.root_cgroup.descendants()] == ["session", "online"]


def test_reclaim_for_a_limit_takes_pages_and_slabs_of_the_subtree_only() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        parent, other = [await mkdir(ctx, lab.machine.root_cgroup, name) for name in ("parent", "other")]
        child = await mkdir(ctx, parent, "child")
        await in_cgroup(ctx, lab, child, "c1", "c2")
        await in_cgroup(ctx, lab, other, "o1")
        await enter(ctx, child)
        file = await file_of(ctx, lab, "c3", 2)
        await enter(ctx, lab.machine.root_cgroup)
        assert await try_to_free_mem_cgroup_pages(ctx, memcg(parent), 1, GFP_KERNEL) == 2
        assert memcg(child).cache_pages == 0
        assert not {"c1", "c2"} & names_in_cache(lab.ext4)
        assert {"c3", "o1"} <= names_in_cache(lab.ext4)
        await fput(ctx, file)

    assert not run(story).signatures()


def test_a_charge_over_the_limit_reclaims_and_goes_on() -> None:
    """What reclaim takes of slabs is there only after a grace period: an open that fails succeeds a little later."""

    async def story(ctx: Context, lab: Lab) -> None:
        cgroup = await mkdir(ctx, lab.machine.root_cgroup, "job")
        await enter(ctx, cgroup)
        await touch(ctx, lab.ext4, "warm up")
        await rest(ctx)
        file = await file_of(ctx, lab, "a", 4)
        await charge_elsewhere(ctx, lab.session)  # so that no stock is left of what was charged in advance
        memcg(cgroup).memory.max = memcg(cgroup).memory.usage
        made = 0
        for number in range(30):
            another = await do_filp_open(ctx, lab.ext4.root, f"b{number}", creat=True)
            if another is not None:
                await fput(ctx, another)
                made += 1
            await sync_inodes_sb(ctx, lab.ext4)
            await rest(ctx)
        assert made > 20
        assert memcg(cgroup).memory.failcnt > 0
        assert memcg(cgroup).memory.usage <= (memcg(cgroup).memory.max or 0)
        assert memcg(cgroup).cache_pages < 4
        await fput(ctx, file)
        await enter(ctx, lab.machine.root_cgroup)

    assert not run(story).signatures()


@pytest.mark.parametrize(("is_kswapd", "left"), [(False, [0, 4]), (True, [0, 0])])
def test_a_reclaimer_stops_when_it_has_enough_but_kswapd_sees_to_all(*, is_kswapd: bool, left: list[int]) -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        cgroups = [await mkdir(ctx, lab.machine.root_cgroup, name) for name in ("one", "two")]
        for cgroup in cgroups:
            await enter(ctx, cgroup)
            await fput(ctx, await file_of(ctx, lab, cgroup.name, 4))
        await enter(ctx, lab.machine.root_cgroup)
        sc = ScanControl(2, GFP_NOWAIT, None, is_kswapd=is_kswapd, priority=0)
        await shrink_node(ctx, 0, sc)
        assert [memcg(cgroup).cache_pages for cgroup in cgroups] == left
        assert sc.nr_reclaimed == 8 - sum(left)

    assert not run(story).signatures()


# -- kswapd -----------------------------------------------------------------------------------------------------------


def test_kswapd_sees_to_all_memcgs_until_enough_is_free() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        kswapd = Kswapd.run(lab.machine, 0)
        cgroups = [await mkdir(ctx, lab.machine.root_cgroup, name) for name in ("one", "two")]
        files = []
        for cgroup in cgroups:
            await enter(ctx, cgroup)
            files.append(await file_of(ctx, lab, cgroup.name, 8))
        await enter(ctx, lab.machine.root_cgroup)
        await ctx.ask(kswapd.wake_up, 4)
        await rest(ctx)
        taken = [8 - memcg(cgroup).cache_pages for cgroup in cgroups]
        assert sum(taken) >= 4
        assert len(set(taken)) == 1, "from both the same"
        for file in files:
            await fput(ctx, file)

    assert not run(story).signatures()


@pytest.mark.parametrize("kernel", SOUND)
def test_reclaimers_on_every_cpu_agree_with_each_other(kernel: str) -> None:
    """Pages that two reclaimers, a reader and a truncation want at once are each freed once, and uncharged once."""

    async def reclaim(ctx: Context, _lab: Lab) -> None:
        for _ in range(3):
            await try_to_free_pages(ctx, GFP_KERNEL)
            await drop_caches_sysctl_handler(ctx, 1 + await ctx.choose(3))

    async def use(ctx: Context, lab: Lab) -> None:
        cgroup = await mkdir(ctx, lab.machine.root_cgroup, "job")
        await enter(ctx, cgroup)
        file = await file_of(ctx, lab, "a", 4)
        for _ in range(3):
            await vfs_read(ctx, file)
        await fput(ctx, file)
        dentry = await filename_lookup(ctx, lab.ext4.root, "a")
        assert dentry is not None
        await fput(ctx, await open_file(ctx, lab.ext4, "a"))
        await enter(ctx, lab.machine.root_cgroup)
        assert (lab.ext4.root, "a") in lab.ext4.dentry_hash, "it is held"
        await dput(ctx, dentry)

    for seed in range(30):
        lab = run_all(use, reclaim, reclaim, kernel=kernel, strategy=RandomWalk(seed), cpus=3)
        assert not lab.signatures(), f"seed {seed}"
