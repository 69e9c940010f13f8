"""A planted lost update: two tasks increment a counter, each by a separate read and write.

The scenario models nothing in Linux; it is a test of slabrace. Every strategy must find the lost update within its
first schedules. If a strategy does not, slabrace is broken.
"""

from __future__ import annotations

import attrs

from actors.api import BUG_ON, READ, UPDATE, Actor, Context, Shared, operation
from scenarios.api import MACHINE, Knob, Stage, scenario


@attrs.define(eq=False)
class Counter(Shared):
    """A number without a lock."""

    value: int = attrs.field(default=0, init=False)

    @property
    def label(self) -> str:
        return "the canary's counter"

    @operation(READ)
    def read(self) -> int:
        return self.value

    @operation(UPDATE)
    def write(self, value: int) -> None:
        self.value = value


@scenario(
    "canary",
    "a planted lost update, in no kernel: every strategy must find it",
    Knob("rounds", "how often each task increments the counter", 20, least=1),
    *MACHINE,
)
def canary(stage: Stage) -> None:
    machine = stage.boot("dentry")
    counter = Counter(Actor(machine.world, "canary"))
    rounds = stage.knobs["rounds"]

    async def canary_count(ctx: Context) -> None:
        for _ in range(rounds):
            value = await ctx.ask(counter.read)  # the planted flaw: this value may be stale before the write
            await ctx.ask(counter.write, value + 1)

    async def canary_check(ctx: Context) -> None:
        BUG_ON(ctx, counter.value != 2 * rounds, "canary: an update was lost")

    stage.task("count0", canary_count, cpu=0)
    stage.task("count1", canary_count, cpu=1)
    stage.wind_up(canary_check)
    stage.sometimes("both tasks have counted", lambda: counter.value > 1)
