"""Pages on LRU lists, from 6.12 on: batches, isolation, and removal of their memcg. KERNEL-today 10, 11; KERNEL-7.2."""

from __future__ import annotations

import random

import pytest

from actors.linux.include.swap import lru_add_drain_all
from actors.linux.kernel.cgroup.cgroup import Cgroup, memcg_of
from actors.linux.mm.memcontrol import Memcg, mem_cgroup_try_charge, mem_cgroup_uncharge
from actors.linux.mm.mmzone import INACTIVE_FILE
from actors.linux.mm.swap import PAGEVEC_SIZE
from actors.linux.mm.vmscan import folio_isolate_lru, folio_putback_lru
from actors.machine.context import Context
from actors.system.stepper import run_stepper
from actors.system.world import World
from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign
from explorer.search.registry import make_strategy
from scenarios.registry import MACHINE, default_value
from scenarios.stage import Stage, mkdir, rmdir

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
