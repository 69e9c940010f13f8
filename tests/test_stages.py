"""The stages of races that are hard to reach: schedules reach each race, and each stage shows its planted mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.linux.kernel.sched.fair import RunQueues, load_balance
from actors.machine.context import Context
from actors.versions.profiles import ALLOCATORS
from benchmarks.mutants import PLANTED
from explorer.assertions import explored
from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign
from protocol.errors import UsageError
from scenarios.stage import Stage, small_cache
from tests.helpers import make_scenario, some_machine

STAGES = (
    "create-vs-destroy",
    "create-vs-destroy-merged",
    "create-vs-destroy-again",
    "lru-add-vs-rmdir",
    "lrus-grow",
    "lookups-race",
    "unlink-vs-sync",
    "writeback-vs-rmdir",
    "mount-vs-reclaim",
    "shrink-vs-rmdir",
    "destroy-two-typesafe",
    "full-arrays",
    "uneven-vmstat",
    "charge-after-drain",
    "charge-vs-charge",
    "charge-vs-drain",
    "drop-vs-close",
    "drop-vs-unlink",
    "drop-vs-path",
    "links-race",
    "prune-vs-unlink",
    "drop-pages-vs-unlink",
    "mount-vs-mkdir",
    "temporary-vs-sync",
    "reclaim-below-limit",
    "reclaim-vs-unlink",
    "inherited-free",
    "free-migrates",
    "free-large",
    "shared-partials",
    "reap-vs-destroy",
    "mkdir-fails",
    "creation-fails",
    "alloc-preempted",
    "alloc-migrates",
    "free-vs-softirq",
)
BUDGET = 200

SKIP_FLUSH = """
from actors.api import kernel_fn, unpatched

@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c")
async def flush_memcg_workqueue(ctx, s):
    if await ctx.ask(s.list_children):
        await unpatched(ctx, flush_memcg_workqueue, s)
"""
"""A patch that skips the flush if there are no children, although the creation of one may be pending."""

SECOND_BARRIER = """
from actors.api import kernel_fn, unpatched
from actors.linux.kernel.rcu.tree import rcu_barrier

@kernel_fn("flush_memcg_workqueue", "mm/slab_common.c")
async def flush_memcg_workqueue(ctx, s):
    await unpatched(ctx, flush_memcg_workqueue, s)
    await rcu_barrier(ctx)
"""
"""A patch that waits longer than necessary."""


# -- each race is tried -----------------------------------------------------------------------------------------------


def unreached(name: str, kernel: str, allocator: str) -> set[str]:
    """The `sometimes` properties that no schedule of the budget reaches; ends early when all are reached."""
    options = RunOptions(
        scenario=name, kernel=kernel, strategy="random", driver="stepper", settings={"allocator": allocator}
    )

    def end_when_reached(campaign: Campaign) -> None:
        if campaign.unreached == set():
            campaign.stopped = campaign.stopped or "first"

    campaign = Campaign(Experiment.of(options), options, budget=BUDGET, progress=end_when_reached)
    campaign.run()
    assert campaign.unreached is not None, "no schedule was run"
    return campaign.unreached


@pytest.mark.parametrize("name", STAGES)
def test_the_race_of_a_stage_is_tried(name: str) -> None:
    _, allocator = some_machine(name)

    assert unreached(name, "5.4-fixed", allocator) == set()


@pytest.mark.slow
@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("kernel", ["original", "5.3"])
@pytest.mark.parametrize("name", STAGES)
def test_the_race_of_a_stage_is_tried_on_each_machine(name: str, kernel: str, allocator: str) -> None:
    assert unreached(name, kernel, allocator) == set()


# -- each stage shows its mistake -------------------------------------------------------------------------------------


@pytest.fixture
def patch(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file with the patch that is the test's parameter."""
    path = tmp_path / "idea.py"
    path.write_text(request.param)
    return path


@pytest.mark.parametrize("patch", [SKIP_FLUSH], indirect=True)
@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("kernel", ["v6", "5.3", "5.4-fixed"])
def test_a_root_that_does_not_wait_for_a_pending_creation_is_used_after_free(
    patch: Path, kernel: str, allocator: str
) -> None:
    found = explored(
        "create-vs-destroy",
        kernel=kernel,
        budget=1_000,
        settings={"allocator": allocator},
        patches=[patch],
        expect="use-after-free:KmemCache:memcg_create_kmem_cache",
        must_reach=False,  # without the flush nothing marks the root as dying
    )

    assert found.schedules <= 1_000


@pytest.mark.parametrize("patch", [SECOND_BARRIER], indirect=True)
@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("kernel", ["5.3", "5.4-fixed"])
def test_a_flush_that_waits_longer_shows_nothing(patch: Path, kernel: str, allocator: str) -> None:
    settings = {"allocator": allocator}
    answer = explored("create-vs-destroy", kernel=kernel, budget=40, settings=settings, patches=[patch])

    assert answer.schedules == 40


def test_a_cache_that_is_merged_while_it_is_destroyed_is_freed_twice() -> None:
    """Both destroyers see a user count of zero under the lock: the cache was merged and dropped again in between."""
    found = explored(
        "create-vs-destroy-merged", kernel="5.4-fixed", budget=600, expect="use-after-free:KmemCache:", must_reach=False
    )

    assert {finding.function for finding in found.findings if finding.kind == "use-after-free"} <= {
        "kmem_cache_destroy",
        "flush_memcg_workqueue",
        "memcg_create_kmem_cache",
    }


@pytest.mark.slow
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_a_dying_cache_is_not_revived_if_dying_caches_are_not_merged(allocator: str) -> None:
    options = RunOptions(
        scenario="create-vs-destroy-merged",
        kernel="5.4-fixed",
        strategy="random",
        driver="stepper",
        settings={"allocator": allocator},
        patches=("dying-not-merged",),
    )
    campaign = Campaign(Experiment.of(options), options, budget=150)
    campaign.run()

    assert not [signature for signature in campaign.found if signature.startswith("use-after-free")]


def test_a_stock_that_is_filled_after_the_drain_keeps_its_cgroup() -> None:
    found = explored("charge-after-drain", kernel="5.4-fixed", budget=60, expect="property:eventually: no stock")

    assert any("no stock" in finding.name for finding in found.findings)


@pytest.mark.parametrize(
    ("name", "planted", "expect"),
    [
        ("charge-vs-charge", "stock_keeps_irqs_on", "accounting:memory usage:"),
        ("charge-vs-charge", "stock_of_another_cpu", "accounting:memory usage:"),
        ("charge-vs-charge", "stock_before_references", "refcount:Css:"),
        ("charge-vs-drain", "stock_without_reference", "use-after-free:PageCounter:drain_all_stock"),
        ("charge-vs-drain", "css_freed_at_once", "use-after-free:PercpuRef:percpu_ref_tryget"),
        ("drop-vs-close", "bit_cleared_for_good", "invariant:Q8-shrinker-bit"),
        ("drop-vs-unlink", "dentry_freed_on_list", "use-after-free:Lockref:shrink_dentry_list"),
        ("prune-vs-unlink", "walk_goes_on_after_retry", "use-after-free:SpinLock:inode_lru_isolate"),
        ("temporary-vs-sync", "clean_after_write", "invariant:disk:"),
        ("reclaim-below-limit", "iteration_not_broken_off", "leak:css reference:"),
        ("mount-vs-mkdir", "size_published_first", "bug:slab-out-of-bounds:list_lru_from_memcg_idx"),
        ("lrus-grow", "count_without_rcu", "use-after-free:ListLruMemcg:list_lru_from_memcg_idx"),
        ("inherited-free", "uncharge_without_rcu", "use-after-free:PageCounter:page_counter_cancel"),
        ("shared-partials", "partials_listed_before_lock", "bug:acquire_slab: VM_BUG_ON(new.frozen)"),
        ("free-large", "surplus_slabs_forgotten", "leak:slab:"),
        ("reap-vs-destroy", "reap_without_mutex", "use-after-free:KmemCache:"),
        ("mkdir-fails", "cgroup_left_without_css", "invariant:cgroup:"),
        ("arrays-grow", "size_published_first", "bug:slab-out-of-bounds:memcg_update_all_caches"),
    ],
)
def test_a_stage_shows_the_mistake_that_it_is_for(name: str, planted: str, expect: str) -> None:
    """Each patch removes one protection of the kernel; no other scenario showed it within a small budget."""
    found = explored(
        name,
        kernel="5.4-fixed",
        budget=300,
        patches=[PLANTED / f"{planted}.py"],
        expect=expect,
        must_reach=False,  # the search ends with the first finding
    )

    assert found.stopped == "first"


# -- load_balance() ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("migrates", [True, False])
def test_a_task_is_pulled_over_unless_it_is_bound_to_its_cpu(*, migrates: bool) -> None:
    cpus: set[int] = set()

    def body(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("alpha")])
        queues = RunQueues.boot(stage.world)

        async def work(ctx: Context) -> None:
            for _ in range(4):
                await ctx.ask(machine.kmem_enabled.is_enabled)
                cpus.add(ctx.smp_processor_id)

        async def pull(ctx: Context) -> None:
            assert await load_balance(ctx, queues, worker) is migrates

        worker = stage.task("work", work, migrates=migrates)
        stage.task("idle", pull, cpu=1)

    explored(make_scenario("pull", body), budget=20, strategy="random")

    assert cpus == ({0, 1} if migrates else {0})


def test_a_task_that_keeps_others_off_its_cpu_stays_there() -> None:
    tried: set[bool] = set()

    def body(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("alpha")])
        queues = RunQueues.boot(stage.world)

        async def work(ctx: Context) -> None:
            await ctx.ask(machine.kmem_enabled.is_enabled)
            with ctx.preempt_section:
                await ctx.ask(machine.kmem_enabled.is_enabled)  # the section takes effect from this step on
                cpu = ctx.smp_processor_id
                for _ in range(3):
                    await ctx.ask(machine.kmem_enabled.is_enabled)
                    assert ctx.smp_processor_id == cpu
            await ctx.ask(machine.kmem_enabled.is_enabled)

        async def pull(ctx: Context) -> None:
            tried.add(await load_balance(ctx, queues, worker))

        worker = stage.task("work", work, migrates=True)
        stage.task("idle", pull, cpu=1)

    explored(make_scenario("stay", body), budget=40, strategy="random")

    assert tried == {True, False}


def test_a_task_is_pulled_over_before_the_first_step_of_its_section() -> None:
    """The per-CPU values that it read before belong to another CPU then."""
    stale: set[bool] = set()

    def body(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("alpha")])
        queues = RunQueues.boot(stage.world)

        async def work(ctx: Context) -> None:
            await ctx.ask(machine.kmem_enabled.is_enabled)
            cpu = ctx.smp_processor_id
            with ctx.irq_section:
                await ctx.ask(machine.kmem_enabled.is_enabled)
                stale.add(ctx.smp_processor_id != cpu)

        async def pull(ctx: Context) -> None:
            await load_balance(ctx, queues, worker)

        worker = stage.task("work", work, migrates=True)
        stage.task("idle", pull, cpu=1)

    explored(make_scenario("stale", body), budget=40, strategy="random")

    assert stale == {True, False}


# -- memory for a mount -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_a_mount_that_gets_no_memory_tries_again(allocator: str) -> None:
    options = RunOptions(
        scenario="mount-vs-reclaim",
        kernel="5.4-fixed",
        driver="stepper",
        settings={"allocator": allocator},
        faults={"page": 0.3},
    )
    campaign = Campaign(Experiment.of(options), options, budget=20)
    campaign.run()

    assert campaign.schedules == 20
    assert not campaign.found


def test_a_mount_that_never_gets_memory_is_the_users_error() -> None:
    options = RunOptions(scenario="mount-vs-reclaim", driver="stepper", faults={"page": 1.0})
    campaign = Campaign(Experiment.of(options), options, budget=1)

    with pytest.raises(UsageError, match="mount tmpfs#1 failed 100 times"):
        campaign.run()
