"""F23 of docs/findings.md: a reader of objcg->memcg may count for a memcg whose statistics are flushed no more."""

from __future__ import annotations

import pytest

from actors.api import Cgroup, Context, SlabObject, kmem_cache_free
from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign
from scenarios.api import MACHINE, Stage, charge_elsewhere, fill, mkdir, scenario, small_cache
from scenarios.objcgs import displace, kill

BUDGET = 1_000


@scenario("count-vs-release", "bytes that a stock keeps are counted while their cgroup is released", *MACHINE)
def count_vs_release(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []

    async def leave_bytes(ctx: Context) -> None:
        """Only the stock of CPU 1 has to do with the cgroup by now: it has yet to count an object that is in use."""
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await displace(ctx, stage.session, cache)
        await ctx.migrate(machine.cpus[1])
        kept.extend(await fill(ctx, cgroups[0], cache, 1))
        await charge_elsewhere(ctx, stage.session)
        await kill(ctx, cgroups[0])

    async def allocate(ctx: Context) -> None:
        """Take over the stock."""
        for obj in await fill(ctx, stage.session, cache, 1):
            await kmem_cache_free(ctx, cache, obj)

    async def let_go(ctx: Context) -> None:
        await kmem_cache_free(ctx, cache, kept[0])
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)

    stage.set_up(leave_bytes, settles=False)
    stage.task("allocate", allocate, cpu=1)
    stage.wind_up(let_go)
    stage.eventually("every cgroup is gone", stage.only_session_left)


@pytest.mark.slow
def test_what_a_slow_reader_counts_is_lost() -> None:
    options = RunOptions(scenario="count-vs-release", kernel="6.12", strategy="pct:3", driver="stepper")
    campaign = Campaign(Experiment.of(options, count_vs_release), options, budget=BUDGET, first_only=True)
    campaign.run()

    assert list(campaign.found) == ["accounting:slab_unreclaimable of the root too low:"]
