"""Load balancing: a task that is not running may be moved to another CPU. kernel/sched/fair.c @5.3.1.

A task with preemption on may have been preempted at any step, and an idle CPU may pull it over. The strategy chooses
which task runs when; only the move itself is an operation.
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
    """The struct rq of all CPUs. They are one object here, because a move takes the locks of two of them."""

    @classmethod
    def boot(cls, world: World) -> RunQueues:
        """The run queues, as an actor of their own."""
        return cls(Actor(world, "run queues"))

    @property
    def label(self) -> str:
        return "run queues"

    @operation(UPDATE, lifecycle=True)
    def move_task(self, task: Context, cpu: Cpu) -> bool:
        """detach_task() and attach_task(); False, and no move, while *task* may not be preempted."""
        return task.push_to(cpu)


@kernel_fn("load_balance", "kernel/sched/fair.c")
async def load_balance(ctx: Context, queues: RunQueues, task: Context) -> bool:
    """Pull *task* to this CPU, unless its mask excludes the CPU or it cannot be preempted (can_migrate_task)."""
    cpu = ctx.machine.cpus[ctx.smp_processor_id]
    return cpu in task.cpus_allowed and await ctx.ask(queues.move_task, task, cpu)
