"""Small scenarios with known races, and the schedules that show them."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from actors.machine.context import BUG_ON, WARN_ON, Context
from actors.system.actor import Actor, Shared
from explorer.experiment import Experiment, RunOptions
from explorer.explain import Explanation, explain_schedule
from explorer.schedule import Follow
from explorer.trace import run_traced
from protocol.operations import READ, UPDATE, operation
from protocol.schedule import Schedule
from scenarios.registry import MACHINE, Scenario
from scenarios.stage import Stage

NASTY = '<script>alert("x")</script> end; #1 & `y`'
"""A name with every character that could break a diagram or a page."""


@attrs.define(eq=False)
class Box(Shared):
    """A number that a flow frees."""

    name: str
    value: int = 0

    @property
    def label(self) -> str:
        return self.name

    @property
    def tally(self) -> tuple[str, int]:
        return "references", self.value

    def is_positive(self) -> bool:
        return self.value > 0

    @operation(READ)
    def read(self) -> int:
        return self.value

    @operation(UPDATE)
    def write(self, value: int) -> None:
        self.value = value

    @operation(READ, when=is_positive)
    def wait_until_positive(self) -> None:
        """Wait for a write."""


def free_against_use(stage: Stage, name: str = "box") -> None:
    """One task frees a box that another still reads; a third task writes to a box of its own."""
    world = stage.boot("dentry").world
    box, other = Box(Actor(world, "box"), name), Box(Actor(world, "other"), "other box")

    async def box_use(ctx: Context) -> None:
        await ctx.ask(box.read)
        await ctx.ask(box.read)

    async def box_free(ctx: Context) -> None:
        await ctx.ask(box.write, 1)
        ctx.kfree(box)

    async def box_bystander(ctx: Context) -> None:
        for value in range(5):
            await ctx.ask(other.write, value)

    stage.task("user", box_use)
    stage.task("freer", box_free, cpu=1)
    stage.task("bystander", box_bystander, cpu=1)


def nasty_names(stage: Stage) -> None:
    """`free_against_use`, with an object whose name has to be escaped."""
    free_against_use(stage, NASTY)


def needs_no_race(stage: Stage) -> None:
    """A task with a flaw that needs no race."""
    world = stage.boot("dentry").world
    box = Box(Actor(world, "box"), "box")

    async def box_misuse(ctx: Context) -> None:
        await ctx.ask(box.write, 1)
        WARN_ON(ctx, await ctx.ask(box.read), "box is not empty")

    stage.task("user", box_misuse)


def wakes_up(stage: Stage) -> None:
    """One task waits for another's write; then it makes a mistake."""
    world = stage.boot("dentry").world
    box = Box(Actor(world, "box"), "box")

    async def box_wait(ctx: Context) -> None:
        await ctx.ask(box.wait_until_positive)
        BUG_ON(ctx, await ctx.ask(box.read), "woken")

    async def box_fill(ctx: Context) -> None:
        await ctx.ask(box.write, 2)

    stage.task("waiter", box_wait)
    stage.task("filler", box_fill, cpu=1)


def meets_behind_a_gate(stage: Stage) -> None:
    """One task reads a box before the other has filled it, and reports this only while the gate is still open."""
    world = stage.boot("dentry").world
    actor = Actor(world, "boxes")
    box, gate, end = Box(actor, "box"), Box(actor, "gate", 1), Box(actor, "end")

    async def box_look(ctx: Context) -> None:
        value = await ctx.ask(box.read)
        if await ctx.ask(gate.read):
            for box_of_mine in [Box(actor, "mine")] * 3:
                await ctx.ask(box_of_mine.write, 1)
            await ctx.ask(end.read)
            BUG_ON(ctx, not value, "nothing there")

    async def box_fill(ctx: Context) -> None:
        await ctx.ask(box.write, 1)
        await ctx.ask(gate.write, 0)
        await ctx.ask(end.write, 1)

    stage.task("looker", box_look)
    stage.task("filler", box_fill, cpu=1)


BEHIND_THE_GATE: Schedule = ("looker", "looker", "looker", "filler", "filler", "filler", "filler")
"""The looker reads the empty box and the open gate; then the filler does all its steps."""


def experiment(body: Callable[[Stage], None], kernel: str = "5.3") -> Experiment:
    """The experiment for a small scenario."""
    return Experiment.of(RunOptions(scenario="toy", kernel=kernel), Scenario("toy", "a toy", MACHINE, body))


FREED_TOO_EARLY: Schedule = ("user", "user", "bystander", "freer", "bystander", "freer", "bystander", "user")
"""The user begins and reads once; then the box is freed; then the user reads again."""


def signature_of(toy: Experiment, schedule: Schedule) -> str:
    """The first finding of the schedule."""
    world = run_traced(toy, Follow(schedule)).stage.world
    return next(iter(world.findings))


def explain(body: Callable[[Stage], None], schedule: Schedule = ()) -> Explanation:
    """The explanation of the finding of a small scenario's schedule."""
    toy = experiment(body)
    return explain_schedule(toy, schedule, signature_of(toy, schedule))


def explain_free(body: Callable[[Stage], None] = free_against_use) -> Explanation:
    """The explanation of the box that is freed too early."""
    return explain(body, FREED_TOO_EARLY)
