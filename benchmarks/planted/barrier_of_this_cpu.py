"""kernel/rcu/tree.c: rcu_barrier() waits for the callbacks of the CPU that it runs on only."""

from actors.kernel.context import Context
from actors.kernel.locks import Completion
from actors.kernel.patching import kernel_fn
from actors.kernel.rcu import RcuHead, rcu_barrier_callback


@kernel_fn("rcu_barrier", "kernel/rcu/tree.c")
async def barrier(ctx: Context) -> None:
    """Others may have callbacks, too."""
    ctx.might_sleep("rcu_barrier")
    done = Completion(ctx.machine.rcu.actor, remaining=1)
    rdp = ctx.machine.rcu.per_cpu[ctx.smp_processor_id]
    if not await ctx.ask(rdp.entrain, RcuHead(done, rcu_barrier_callback)):
        await ctx.ask(done.complete)
    await ctx.ask(done.wait_for_completion)
