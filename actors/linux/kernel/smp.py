"""Inter-processor interrupts. kernel/smp.c.

An IPI is sent to the target CPU. Its handler runs there as a hard IRQ, between two instructions of the code that runs
there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from actors.linux.kernel.locking.locks import Completion
from actors.machine.context import WARN_ON, Context
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import READ, UPDATE, OperationInfo, operation

if TYPE_CHECKING:
    from actors.system.cpu import Cpu

IPI_NS = (1_000, 5_000)

CALL_HERE = OperationInfo("call_here", READ)

Handler = Callable[[Context], Awaitable[None]]


@attrs.define(eq=False)
class CallQueue(Shared):
    """call_single_queue: the pending IPIs of one CPU, each with the completion that its sender waits for."""

    cpu: Cpu
    calls: deque[tuple[Handler, Completion]] = attrs.field(factory=deque, init=False)

    @property
    def label(self) -> str:
        return f"call_single_queue of {self.cpu.label}"

    def has_call(self) -> bool:
        return bool(self.calls)

    @operation(UPDATE)
    def send(self, handler: Handler, completion: Completion) -> None:
        self.calls.append((handler, completion))

    @operation(UPDATE, when=has_call, idle=True, latency=IPI_NS)
    def interrupt(self) -> tuple[Handler, Completion]:
        """The oldest IPI arrives."""
        return self.calls.popleft()


async def ipi_handler(ctx: Context, queue: CallQueue) -> None:
    """The hard IRQ context of one CPU; loops for ever."""
    while True:
        handler, completion = await ctx.ask(queue.interrupt)
        ctx.begin_handler()
        await handler(ctx)
        await ctx.ask(completion.complete)
        ctx.end_handler()


@kernel_fn("on_each_cpu_mask", "kernel/smp.c")
async def on_each_cpu_mask(ctx: Context, cpus: Sequence[int], handler: Handler) -> None:
    """Run *handler* on each of *cpus* with IRQs off, and wait for all. The caller has disabled preemption.

    IRQs must be on: two CPUs that waited for each other with IRQs off would deadlock.
    """
    WARN_ON(ctx, ctx.irqs_off, "smp_call_function_many: irqs_disabled()")
    here = ctx.smp_processor_id
    completion = Completion(ctx.machine.call_queues[here].actor, remaining=0)
    for cpu in cpus:
        if cpu != here:
            await ctx.ask(completion.expect_one_more)
            await ctx.ask(ctx.machine.call_queues[cpu].send, handler, completion)
    if here in cpus:
        with ctx.irq_section:
            await ctx.this_cpu(ctx.machine.call_queues[here], CALL_HERE)
            await handler(ctx)
    await ctx.ask(completion.spin_until_done)
