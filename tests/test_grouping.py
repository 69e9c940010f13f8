"""Symptoms with one racing pair of accesses as their cause are one finding; symptoms that only coincide are several."""

from __future__ import annotations

from actors.machine.context import WARN_ON, Context
from actors.system.actor import Actor
from explorer.experiment import Experiment, RunOptions
from explorer.explain.grouping import group_by_cause
from explorer.search.campaign import Campaign
from explorer.search.report import campaign_json
from scenarios.registry import MACHINE, Scenario
from scenarios.stage import Stage
from tests.explain.stages import Box


def search(scenario: str, budget: int, body: Scenario | None = None) -> Campaign:
    options = RunOptions(scenario=scenario, kernel="5.3", strategy="portfolio", driver="stepper", seed=1)
    campaign = Campaign(Experiment.of(options, body), options, budget=budget)
    campaign.run()
    group_by_cause(campaign)
    return campaign


def test_the_leak_and_the_property_of_one_flaw_are_one_finding() -> None:
    campaign = search("destroy-vs-offline", 40)
    leak, broken = "leak:kmem_cache held by its kobject:", "property:eventually: no cache is left:"
    (told,) = campaign_json(campaign)["findings"]

    assert set(campaign.found) == {leak, broken}
    assert told["signature"] == leak
    assert [symptom["signature"] for symptom in told["symptoms"]] == [broken]
    assert told["count"] == told["symptoms"][0]["count"] > 0


def two_mistakes(stage: Stage) -> None:
    """A task with two flaws that every schedule shows."""
    world = stage.boot("dentry").world
    box = Box(Actor(world, "box"), "box")

    async def box_misuse(ctx: Context) -> None:
        await ctx.ask(box.write, 1)
        WARN_ON(ctx, await ctx.ask(box.read), "first mistake")
        await ctx.ask(box.write, 2)
        WARN_ON(ctx, await ctx.ask(box.read), "second mistake")

    stage.task("user", box_misuse)
    stage.always("the box is empty", lambda: box.value == 0, is_local=True)


def test_two_flaws_that_every_schedule_shows_are_two() -> None:
    campaign = search("toy", 5, Scenario("toy", "a toy", MACHINE, two_mistakes))
    warnings = [found.finding.name for found in campaign.causes if found.finding.kind == "warn"]

    assert warnings == ["first mistake", "second mistake"]


def test_a_broken_property_is_no_function_s() -> None:
    campaign = search("toy", 5, Scenario("toy", "a toy", MACHINE, two_mistakes))
    broken = [signature for signature in campaign.found if signature.startswith("property")]

    assert broken == ["property:always: the box is empty:"]
