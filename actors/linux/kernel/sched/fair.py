"""A task that does not run just now may be moved to another CPU. kernel/sched/fair.c @5.3.1.

Whoever has preemption on may have been preempted wherever it stands, and a CPU that has nothing to do pulls it over.
When which task runs is the strategy's choice, here as everywhere; only the move is an act of its own.
"""

from __future__ import annotations

import attrs

from actors.machine.context import Context
from actors.system.actor import Actor, Shared
from actors.system.cpu import Cpu
from actors.system.world import World
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import UPDATE, operation


@attrs.define(eq=False)
class RunQueues(Shared):
    """The struct rq of all CPUs; they are one thing here, for a move takes the locks of two of them."""

    @classmethod
    def boot(cls, world: World) -> RunQueues:
        """The queues as an actor of their own."""
        return cls(Actor(world, "run queues"))

    @property
    def label(self) -> str:
        return "run queues"

    @operation(UPDATE)
    def move_task(self, task: Context, cpu: Cpu) -> bool:
        """detach_task() and attach_task(); False, and nothing done, if *task* has its CPU to itself."""
        return task.push_to(cpu)


@kernel_fn("load_balance", "kernel/sched/fair.c")
async def load_balance(ctx: Context, queues: RunQueues, task: Context) -> bool:
    """Pull *task* to this CPU, unless it must not run here, or is running with others kept off (can_migrate_task)."""
    cpu = ctx.machine.cpus[ctx.smp_processor_id]
    return cpu in task.cpus_allowed and await ctx.ask(queues.move_task, task, cpu)
