"""Eager grace periods have the same outcomes as batched ones, and their search needs fewer schedules."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from actors.linux.kernel.rcu.tree import RcuHead, call_rcu, rcu_barrier, synchronize_rcu
from actors.machine.context import Context
from actors.system.actor import Actor
from scenarios.stage import Stage, small_cache
from tests.helpers import Cell
from tests.search.stages import GoingThrough, toy

Seen = list[tuple[str, object]]


@attrs.define(eq=False)
class Story:
    """A cell that is replaced, and freed after a grace period; each flow records the values that it reads."""

    stage: Stage
    seen: dict[str, Seen] = attrs.field(factory=dict)
    cell: Cell = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.stage.boot(caches=[small_cache("alpha")])
        self.cell = Cell(Actor(self.stage.world, "cell"), "cell")

    def note(self, who: str, what: object) -> None:
        self.seen.setdefault(who, []).append((who, what))

    async def read(self, ctx: Context) -> None:
        """Read the cell twice in a read-side section, and once after it."""
        with ctx.rcu_read_section:
            self.note("reader", await ctx.ask(self.cell.read))
            self.note("reader", await ctx.ask(self.cell.read))
        self.note("reader", await ctx.ask(self.cell.read))

    async def glance(self, ctx: Context) -> None:
        """Read the cell once in a read-side section."""
        with ctx.rcu_read_section:
            self.note("reader", await ctx.ask(self.cell.read))

    async def replace(self, ctx: Context) -> None:
        """Replace the value; a callback adds one more."""
        await ctx.ask(self.cell.add)
        await call_rcu(ctx, RcuHead(self.cell), self.callback)

    async def replace_twice(self, ctx: Context) -> None:
        await self.replace(ctx)
        await self.replace(ctx)

    async def callback(self, ctx: Context, _head: RcuHead) -> None:
        await ctx.ask(self.cell.add)

    async def replace_and_wait(self, ctx: Context) -> None:
        await self.replace(ctx)
        await rcu_barrier(ctx)
        self.note("waiter", await ctx.ask(self.cell.read))

    async def synchronize(self, ctx: Context) -> None:
        await ctx.ask(self.cell.add)
        await synchronize_rcu(ctx)
        self.note("synchronizer", await ctx.ask(self.cell.read))


def one_callback(story: Story) -> None:
    story.stage.task("reader", story.read, cpu=0)
    story.stage.task("updater", story.replace, cpu=1)


def two_callbacks(story: Story) -> None:
    story.stage.task("reader", story.glance, cpu=0)
    story.stage.task("updater", story.replace_twice, cpu=1)


def a_barrier(story: Story) -> None:
    story.stage.task("reader", story.glance, cpu=0)
    story.stage.task("updater", story.replace_and_wait, cpu=1)


def a_grace_period_to_wait_for(story: Story) -> None:
    story.stage.task("reader", story.read, cpu=0)
    story.stage.task("updater", story.synchronize, cpu=1)


def go_through(tasks: Callable[[Story], None], rcu: str) -> tuple[int, set[str]]:
    """The number of schedules of these tasks, and the set of their outcomes."""
    stories: list[Story] = []

    def build(stage: Stage) -> None:
        stories.append(Story(stage))
        tasks(stories[-1])

    search, outcomes = GoingThrough(toy(build, rcu)), set()
    for stage in search.runs():
        outcomes.add(repr((sorted(stories[-1].seen.items()), stories[-1].cell.value, sorted(stage.world.findings))))
    assert search.ended
    return search.search.completed, outcomes


@pytest.mark.parametrize(
    "tasks",
    [one_callback, two_callbacks, pytest.param(a_barrier, marks=pytest.mark.slow), a_grace_period_to_wait_for],
)
def test_the_outcomes_are_the_same_in_fewer_schedules(tasks: Callable[[Story], None]) -> None:
    batched, eager = (go_through(tasks, rcu) for rcu in ("batched", "eager"))

    assert eager[1] == batched[1]
    assert len(eager[1]) > 1
    assert eager[0] <= batched[0]
