"""Page cache, offline memcgs, and kswapd (KERNEL.md 11.6)."""

from __future__ import annotations

import pytest

from actors.linux.fs.dcache import dput
from actors.linux.fs.drop_caches import drop_caches_sysctl_handler
from actors.linux.fs.file_table import File, fput
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.namei import do_filp_open, filename_lookup
from actors.linux.fs.read_write import vfs_read, vfs_write
from actors.linux.include.swap import try_to_free_mem_cgroup_pages
from actors.linux.mm.vmscan import Kswapd, ScanControl, balance_pgdat, shrink_node, try_to_free_pages
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL, GFP_NOWAIT
from explorer.search.strategies.simple import RandomWalk
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
    touch,
)

# -- pages and offline memcgs (11.6) ----------------------------------------------------------------------------------


async def file_of(ctx: Context, lab: Lab, name: str, pages: int) -> File:
    """Open a file with *pages* clean pages, all charged to the cgroup of the task."""
    file = await do_filp_open(ctx, lab.ext4.root, name, creat=True)
    assert file is not None
    assert await vfs_write(ctx, file, pages) == pages
    await sync_inodes_sb(ctx, lab.ext4)
    return file


@pytest.mark.parametrize("kernel", SOUND)
def test_page_cache_pins_a_removed_cgroup_until_there_is_some_pressure(kernel: str) -> None:
    """At priority 12 reclaim scans no small number of pages, except those of an offline memcg; it scans no slabs."""

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
    """Slab memory that reclaim frees is available only after a grace period: a failed open succeeds a little later."""

    async def story(ctx: Context, lab: Lab) -> None:
        cgroup = await mkdir(ctx, lab.machine.root_cgroup, "job")
        await enter(ctx, cgroup)
        await touch(ctx, lab.ext4, "warm up")
        await rest(ctx)
        file = await file_of(ctx, lab, "a", 4)
        await charge_elsewhere(ctx, lab.session)  # so that no stock keeps pages that were charged in advance
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
    """Two reclaimers, a reader and a truncation race for the same pages; each is freed once and uncharged once."""

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
