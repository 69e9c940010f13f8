"""Pages on LRU lists, from 6.12 on: batches, isolation, and removal of their memcg. KERNEL-today 10, 11; KERNEL-7.2."""

from __future__ import annotations

import random

import pytest

from actors.files.crash_reader import look
from actors.files.kernel_files import cgroup_path
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.namei import do_unlinkat
from actors.linux.fs.super import vfs_get_tree
from actors.linux.include.swap import lru_add_drain_all
from actors.linux.kernel.cgroup.cgroup import Cgroup, memcg_of
from actors.linux.mm import memory
from actors.linux.mm.filemap import Page
from actors.linux.mm.memcontrol import Memcg, mem_cgroup_try_charge, mem_cgroup_uncharge
from actors.linux.mm.migrate import migrate_misplaced_folio
from actors.linux.mm.mmzone import INACTIVE_FILE
from actors.linux.mm.shmem import TMPFS
from actors.linux.mm.swap import PAGEVEC_SIZE
from actors.linux.mm.vmscan import folio_isolate_lru, folio_putback_lru
from actors.linux.mm.vmstat import flush_memcg_stats_dwork, stats_of
from actors.machine.context import Context, deref
from actors.system.stepper import run_stepper
from actors.system.world import World
from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign
from explorer.search.registry import make_strategy
from protocol.formats.cgroup_files import parse_flat_keyed
from scenarios.registry import MACHINE, default_value
from scenarios.shared_dentry import forget_names, write_file
from scenarios.stage import Stage, mkdir, rmdir, run_in, touch_pages
from tests.today.lone_task import alone

STAGES = ("isolate-vs-reparent", "reclaim-vs-reparent", "batch-vs-reparent", "migrate-vs-reparent", "refault-vs-rmdir")
EACH_KERNEL = pytest.mark.parametrize("kernel", ["6.12", "7.2"])


@EACH_KERNEL
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("nodes", [1, 2])
def test_lists_and_sizes_agree_in_every_schedule(kernel: str, stage: str, nodes: int) -> None:
    """T10 is held at each unlock of a lruvec, and places, references and charges at rest."""
    options = RunOptions(
        scenario=stage, kernel=kernel, strategy="portfolio", driver="stepper", settings=(("nodes", str(nodes)),)
    )
    campaign = Campaign(Experiment.of(options), options, budget=12)
    campaign.run()

    assert list(campaign.found) == []


def listed(memcg: Memcg) -> int:
    """The pages on the lists of a memcg, by their number and by the sizes that the kernel keeps: both must agree."""
    sizes = [node.lruvec.lru_size[INACTIVE_FILE] for node in memcg.nodeinfo]
    assert sizes == [sum(page.nr_pages for page in node.lruvec.lists[INACTIVE_FILE]) for node in memcg.nodeinfo]
    return sum(sizes)


@EACH_KERNEL
@pytest.mark.parametrize("seed", range(4))
def test_random_work_leaves_each_page_on_one_list_or_in_a_batch(kernel: str, seed: int) -> None:
    """Against a count: pages that were made and not freed are on a list or in the batch of the one CPU.

    A full batch is emptied at once. What a removed cgroup had is on its parent's lists on 7.2, and its own on 6.12.
    """
    rng = random.Random(seed)

    async def work(ctx: Context) -> None:
        parent = await mkdir(ctx, ctx.machine.root_cgroup, "parent")
        job = await mkdir(ctx, parent, "job")
        waiting, made = await make_and_free(ctx, rng, job)
        assert listed(memcg_of(job.css)) == made - waiting
        await lru_add_drain_all(ctx)
        assert listed(memcg_of(job.css)) == made
        memcg = memcg_of(job.css)
        await rmdir(ctx, job)
        await ctx.sleep(3_000_000_000)
        assert listed(memcg_of(parent.css)) == (made if kernel == "7.2" else 0)
        assert (memcg.freed is not None) == (kernel == "7.2")
        assert kernel == "7.2" or listed(memcg) == made
        for page in list(ctx.machine.task_pages.i_pages.values()):
            assert await folio_isolate_lru(ctx, page)
            assert not await folio_isolate_lru(ctx, page)
            await folio_putback_lru(ctx, page)
        await lru_add_drain_all(ctx)
        assert listed(memcg_of(parent.css)) == (made if kernel == "7.2" else 0)

    settings = {knob.name: default_value(knob) for knob in MACHINE} | {"cpus": 1}
    world = World(make_strategy("roundrobin", 0))
    stage = Stage(world, kernel, settings, check="step")
    stage.has_session = False
    stage.boot()
    stage.set_up(work)
    stage.start()
    run_stepper(world)

    assert not [name for name in world.findings if not name.startswith("leak:")]


@EACH_KERNEL
def test_a_folio_of_several_pages_does_not_wait_in_the_batch(kernel: str) -> None:
    async def body(ctx: Context) -> None:
        memcg = memcg_of((await mkdir(ctx, ctx.machine.root_cgroup, "job")).css)
        await touch_pages(ctx, memcg, 1)
        assert listed(memcg) == 0
        await touch_pages(ctx, memcg, 2)
        assert listed(memcg) == 3
        for _ in range(2):
            await mem_cgroup_uncharge(ctx, memcg)

    alone(body, kernel=kernel)


async def make_and_free(ctx: Context, rng: random.Random, cgroup: Cgroup) -> tuple[int, int]:
    """Let tasks of *cgroup* take 100 pages and give some back; return how many wait in the batch, and are left.

    Whoever gives a page back empties the batch first.
    """
    waiting = made = 0
    for _ in range(100):
        if rng.random() < 0.03 and made:
            await mem_cgroup_uncharge(ctx, memcg_of(cgroup.css))
            waiting, made = 0, made - 1
        else:
            assert await mem_cgroup_try_charge(ctx, memcg_of(cgroup.css))
            waiting, made = (waiting + 1) % PAGEVEC_SIZE, made + 1
    return waiting, made


# -- memory.stat ------------------------------------------------------------------------------------------------------

PAGE = 4096


async def counted(ctx: Context, cgroup: Cgroup) -> tuple[int, ...]:
    """The pages of tasks, of files and of those in memory that memory.stat shows after a flush."""
    await flush_memcg_stats_dwork(ctx)
    values = parse_flat_keyed(look(ctx.machine, f"{cgroup_path(cgroup)}/memory.stat").decode(), source="x")
    return tuple(values[item] // PAGE for item in ("anon", "file", "shmem"))


@EACH_KERNEL
def test_memory_stat_counts_the_pages_of_files_and_of_tasks(kernel: str) -> None:
    """A page counts for the memcg that it is charged to; on 7.2 that is the parent after the removal."""

    async def body(ctx: Context) -> None:
        parent = await mkdir(ctx, ctx.machine.root_cgroup, "parent")
        job = await mkdir(ctx, parent, "job")
        disk, in_memory = await vfs_get_tree(ctx, EXT4), await vfs_get_tree(ctx, TMPFS)

        async def write(ctx: Context) -> None:
            await write_file(ctx, disk.root, "file", 3)
            await write_file(ctx, in_memory.root, "file", 2)

        await run_in(ctx, job, write)
        await touch_pages(ctx, memcg_of(job.css), 4)
        await touch_pages(ctx, memcg_of(job.css), 1)
        assert await counted(ctx, job) == await counted(ctx, parent) == (5, 5, 2)
        await mem_cgroup_uncharge(ctx, memcg_of(job.css))
        assert await counted(ctx, job) == (4, 5, 2)
        await rmdir(ctx, job)
        await ctx.settle()
        assert await counted(ctx, parent) == (4, 5, 2)
        await do_unlinkat(ctx, in_memory.root, "file")
        assert await counted(ctx, parent) == (4, 3, 0)
        await forget_names(ctx, disk)
        assert await counted(ctx, parent) == (4, 0, 0)
        for page in list(ctx.machine.task_pages.i_pages.values()):
            await mem_cgroup_uncharge(ctx, deref(page.charged_by, "the memcg of a task"))
        assert await counted(ctx, parent) == (0, 0, 0)

    alone(body, kernel=kernel, caches=("filp", "dentry", "ext4_inode_cache", "shmem_inode_cache"), check="step")


@EACH_KERNEL
def test_a_page_that_migrates_counts_on_its_new_node(kernel: str) -> None:
    async def body(ctx: Context) -> None:
        memcg = memcg_of((await mkdir(ctx, ctx.machine.root_cgroup, "job")).css)
        await touch_pages(ctx, memcg, 1)
        (page,) = ctx.machine.task_pages.i_pages.values()
        await lru_add_drain_all(ctx)
        await ctx.ask(page.get)
        assert await migrate_misplaced_folio(ctx, page, 1)
        await flush_memcg_stats_dwork(ctx)
        state = stats_of(memcg).state
        assert (state[0, "anon"], state[1, "anon"], state[None, "anon"]) == (0, 1, 1)
        await mem_cgroup_uncharge(ctx, memcg)
        await flush_memcg_stats_dwork(ctx)
        assert (state[1, "anon"], state[None, "anon"]) == (0, 0)

    alone(body, kernel=kernel, cpus=2, nodes=2, check="step")


def test_pages_that_nobody_counts_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """U3 holds the counters against the pages."""

    async def forget(_ctx: Context, _page: Page, _nid: int, _nr: int) -> None:
        """Count nothing."""

    async def body(ctx: Context) -> None:
        memcg = memcg_of((await mkdir(ctx, ctx.machine.root_cgroup, "job")).css)
        monkeypatch.setattr(memory, "count_folio", forget)
        await touch_pages(ctx, memcg, 1)
        monkeypatch.undo()

    alone(body, check="step", expected=("accounting:anon of the root too low:", "accounting:anon too low:"))
