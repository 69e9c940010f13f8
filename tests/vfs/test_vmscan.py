"""Shrinkers and reclaim: the number of scanned objects, the freed and the kept ones, and drop_caches (11.4 to 11.6)."""

from __future__ import annotations

import attrs
import pytest

from actors.linux.fs.dcache import prune_dcache_sb
from actors.linux.fs.file_table import fput
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.inode import InodeState, prune_icache_sb
from actors.linux.fs.namei import do_filp_open
from actors.linux.fs.read_write import vfs_read, vfs_write
from actors.linux.fs.super import super_cache_count, super_cache_scan
from actors.linux.kernel.locking.locks import down_write, up_write
from actors.linux.mm.vmscan import (
    DEF_PRIORITY,
    SHRINK_EMPTY,
    SHRINK_STOP,
    ScanTarget,
    ShrinkControl,
    Shrinker,
    do_shrink_slab,
    scan_target,
    shrink_slab,
    try_to_free_pages,
)
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL, GFP_NOWAIT, Gfp
from scenarios.stage import mkdir
from tests.vfs.vfs_helpers import (
    SOUND,
    Lab,
    drop,
    in_cgroup,
    list_of,
    memcg,
    names_in_cache,
    open_file,
    removed,
    run,
    stat,
    touch,
)

# -- the arithmetic of do_shrink_slab() -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freeable", "priority", "total_scan"),
    [
        (100, DEF_PRIORITY, 0),  # a memcg with few objects: nothing at all
        (4095, DEF_PRIORITY, 0),
        (4096, DEF_PRIORITY, 2),
        (100, 4, 12),
        (100, 1, 100),
        (100, 0, 200),  # with full force, twice as many as there are
        (1, 0, 2),
    ],
)
def test_the_scan_target_by_priority(freeable: int, priority: int, total_scan: int) -> None:
    assert scan_target(freeable, 0, 2, priority) == ScanTarget(total_scan, total_scan)


def test_what_was_deferred_is_added_but_alone_it_never_empties_the_cache() -> None:
    """A shrinker scans everything only if its own delta is large."""
    assert scan_target(1000, 5000, 2, DEF_PRIORITY) == ScanTarget(500, 5000)
    assert scan_target(1000, 5000, 2, 0) == ScanTarget(2000, 7000)


def test_objects_that_cost_nothing_are_trimmed_by_half() -> None:
    assert scan_target(100, 0, 0, DEF_PRIORITY) == ScanTarget(50, 50)


def test_a_negative_count_is_never_scanned_but_defers_very_much() -> None:
    """A count is read without the lock and may be negative (11.3); C converts it to a huge unsigned number."""
    target = scan_target(-1, 0, 2, DEF_PRIORITY)
    assert target.total_scan == -2
    assert target.with_deferred == 2**63 - 2


@attrs.define
class Counted:
    """A shrinker of *freeable* objects; `calls` are the sizes of the requested batches."""

    freeable: int
    ret: int | None = None
    calls: list[int] = attrs.field(factory=list)

    async def count(self, _ctx: Context, _shrinker: Shrinker, _sc: ShrinkControl) -> int:
        return self.freeable

    async def scan(self, _ctx: Context, _shrinker: Shrinker, sc: ShrinkControl) -> int:
        self.calls.append(sc.nr_to_scan)
        return sc.nr_to_scan if self.ret is None else self.ret


def shrink_counted(counted: Counted, priority: int, *, batch: int = 0, deferred: int = 0) -> tuple[int, int]:
    """The number of objects that do_shrink_slab() frees, and the number that it defers."""
    results: list[tuple[int, int]] = []

    async def story(ctx: Context, lab: Lab) -> None:
        shrinker = Shrinker(lab.ext4.actor, lab.ext4, counted.count, counted.scan, [deferred], batch=batch)
        sc = ShrinkControl(GFP_KERNEL, 0, lab.machine.root_mem_cgroup)
        freed = await do_shrink_slab(ctx, sc, shrinker, priority)
        results.append((freed, shrinker.nr_deferred[0]))

    assert not run(story).signatures()
    return results[0]


def test_at_priority_12_few_objects_are_not_touched() -> None:
    counted = Counted(1000)
    assert shrink_counted(counted, DEF_PRIORITY, batch=1024) == (0, 0)
    assert not counted.calls


def test_what_is_less_than_a_batch_is_deferred() -> None:
    counted = Counted(1000)
    assert shrink_counted(counted, 4, batch=1024) == (0, 124)
    assert not counted.calls


def test_deferred_objects_add_up_to_a_batch() -> None:
    counted = Counted(4000)
    assert shrink_counted(counted, 4, deferred=800) == (10 * 128, 800 + 500 - 10 * 128)
    assert counted.calls == [128] * 10


def test_full_force_scans_twice_as_many_as_there_are() -> None:
    counted = Counted(1000)
    assert shrink_counted(counted, 0, batch=1024) == (1024, 2000 - 1024)
    assert counted.calls == [1024]


def test_a_small_cache_is_scanned_whole_when_the_target_exceeds_it() -> None:
    counted = Counted(100)
    assert shrink_counted(counted, 0, batch=1024) == (200, 0)
    assert counted.calls == [200]


def test_a_shrinker_that_can_do_nothing_defers_all() -> None:
    counted = Counted(100, ret=SHRINK_STOP)
    assert shrink_counted(counted, 0) == (0, 200)
    assert counted.calls == [128]


def test_nothing_to_shrink_is_said_and_nothing_is_deferred_for_it() -> None:
    assert shrink_counted(Counted(SHRINK_EMPTY), 0, deferred=7) == (SHRINK_EMPTY, 7)
    assert shrink_counted(Counted(0), 0, deferred=7) == (0, 7)


# -- the shrinker of a superblock -------------------------------------------------------------------------------------


def test_a_superblock_scans_in_proportion_and_one_more_of_each() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        sb = lab.ext4
        await touch(ctx, sb, *"abcdefgh")
        sc = ShrinkControl(GFP_KERNEL, 0, lab.machine.root_mem_cgroup, nr_to_scan=4)
        assert await super_cache_count(ctx, sb.s_shrink, sc) == 8
        assert await super_cache_scan(ctx, sb.s_shrink, sc) == 4, "4 * 8 / 9 dentries and one more; no inode rests"
        assert names_in_cache(sb) == set("efgh")
        await sync_inodes_sb(ctx, sb)
        sc.nr_to_scan = 4
        assert await super_cache_count(ctx, sb.s_shrink, sc) == 8
        assert await super_cache_scan(ctx, sb.s_shrink, sc) == 4, "4 * 4 / 9 of each, and one more"
        assert names_in_cache(sb) == set("gh")

    assert not run(story).signatures()


def test_an_allocation_that_must_not_enter_filesystems_frees_nothing() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a", "b")
        for gfp, freed in ((GFP_NOWAIT, 0), (Gfp.DIRECT_RECLAIM, 0), (GFP_KERNEL, 2)):
            assert await shrink_slab(ctx, gfp, 0, lab.machine.root_mem_cgroup, 0) == freed
        assert names_in_cache(lab.ext4) == set()

    assert not run(story).signatures()


def test_a_shrinker_does_not_wait_for_a_remount() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a")
        await down_write(ctx, lab.ext4.s_umount)
        sc = ShrinkControl(GFP_KERNEL, 0, lab.machine.root_mem_cgroup, nr_to_scan=8)
        assert await super_cache_scan(ctx, lab.ext4.s_shrink, sc) == SHRINK_STOP
        await up_write(ctx, lab.ext4.s_umount)
        assert await super_cache_scan(ctx, lab.ext4.s_shrink, sc) == 1

    assert not run(story).signatures()


def test_while_shrinkers_are_registered_nobody_shrinks() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        cgroup = await mkdir(ctx, lab.machine.root_cgroup, "job")
        await in_cgroup(ctx, lab, cgroup, "a")
        await down_write(ctx, lab.machine.shrinkers.rwsem)
        assert await shrink_slab(ctx, GFP_KERNEL, 0, lab.machine.root_mem_cgroup, 0) == 0
        assert await shrink_slab(ctx, GFP_KERNEL, 0, memcg(cgroup), 0) == 0
        await up_write(ctx, lab.machine.shrinkers.rwsem)
        assert await shrink_slab(ctx, GFP_KERNEL, 0, memcg(cgroup), 0) > 0

    assert not run(story).signatures()


# -- shrink_slab() by memcg (11.4) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", SOUND)
def test_a_memcg_is_shrunk_only_if_its_bit_is_set_and_the_bit_goes_with_the_last_object(kernel: str) -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        cgroup = await mkdir(ctx, lab.machine.root_cgroup, "job")
        await in_cgroup(ctx, lab, cgroup, "a", "b")
        owner, bit = memcg(cgroup), lab.ext4.s_shrink.id
        owner.shrinker_maps[0].discard(bit)
        assert await shrink_slab(ctx, GFP_KERNEL, 0, owner, 0) == 0
        owner.shrinker_maps[0].add(bit)
        for _ in range(4):
            await shrink_slab(ctx, GFP_KERNEL, 0, owner, 0)
        assert not list_of(lab.ext4, owner).items
        assert bit not in owner.shrinker_maps[0]

    assert not run(story, kernel=kernel).signatures()


def test_what_comes_between_the_count_and_the_clearing_of_the_bit_is_found() -> None:
    """After a shrinker finds nothing and its bit is cleared, it counts once more; the bit is set again if needed."""

    async def story(ctx: Context, lab: Lab) -> None:
        cgroup = await mkdir(ctx, lab.machine.root_cgroup, "job")
        await in_cgroup(ctx, lab, cgroup, "a", "b")
        functions, counts = lab.machine.functions, iter([SHRINK_EMPTY])
        count = functions[super_cache_count]

        async def too_early(ctx: Context, shrinker: Shrinker, sc: ShrinkControl) -> int:
            return next(counts, None) or await count(ctx, shrinker, sc)

        functions[super_cache_count] = too_early
        assert await shrink_slab(ctx, GFP_KERNEL, 0, memcg(cgroup), 0) > 0
        assert lab.ext4.s_shrink.id in memcg(cgroup).shrinker_maps[0]

    assert not run(story).signatures()


@pytest.mark.parametrize("kernel", SOUND)
def test_an_offline_memcg_is_not_shrunk_its_objects_are_on_the_parents_list(kernel: str) -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        parent = await mkdir(ctx, lab.machine.root_cgroup, "parent")
        child = await mkdir(ctx, parent, "child")
        await in_cgroup(ctx, lab, child, "a", "b")
        held = await open_file(ctx, lab.ext4, "a")
        owner = memcg(child)
        await removed(ctx, child)
        assert owner.freed is None or kernel != "original"
        if owner.freed is None:
            assert await shrink_slab(ctx, GFP_KERNEL, 0, owner, 0) == 0
        assert await shrink_slab(ctx, GFP_KERNEL, 0, memcg(parent), 0) > 0
        assert "a" in names_in_cache(lab.ext4)
        await fput(ctx, held)

    assert not run(story, kernel=kernel).signatures()


def test_at_priority_12_a_small_memcg_keeps_all_and_at_0_nothing() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        cgroup = await mkdir(ctx, lab.machine.root_cgroup, "job")
        await in_cgroup(ctx, lab, cgroup, *"abcdef")
        names = names_in_cache(lab.ext4)
        assert await shrink_slab(ctx, GFP_KERNEL, 0, memcg(cgroup), DEF_PRIORITY) == 0
        assert names_in_cache(lab.ext4) == names
        assert lab.ext4.s_shrink.nr_deferred == [0], "a delta of nothing is not even deferred"
        assert await shrink_slab(ctx, GFP_KERNEL, 0, memcg(cgroup), 2) == 0
        assert lab.ext4.s_shrink.nr_deferred[0] > 0
        await shrink_slab(ctx, GFP_KERNEL, 0, memcg(cgroup), 0)
        assert not names_in_cache(lab.ext4) & set("abcdef")

    assert not run(story).signatures()


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
    """The scan budget at priority 0 is twice the list, so rotated items are visited again."""

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
    """The callback inode_lru_isolate() drops the pages; its iput() marks the inode, which gets another round."""

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
