"""kernel/rcu/tree.c: rcu_barrier() waits only for the callbacks of the CPU that it runs on."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.lockdep import RCU_CALLBACK
from actors.linux.kernel.locking.locks import Completion, MutexHeld
from actors.linux.kernel.rcu.tree import RcuHead, rcu_barrier_callback
from actors.machine.context import Context


@kernel_fn("rcu_barrier", "kernel/rcu/tree.c")
async def barrier(ctx: Context) -> None:
    """The other CPUs may have callbacks too."""
    rcu, lockdep = ctx.machine.rcu, ctx.machine.lockdep
    ctx.might_sleep("rcu_barrier")
    lockdep.acquire(ctx, RCU_CALLBACK)
    lockdep.release(ctx, RCU_CALLBACK)
    async with MutexHeld(ctx, rcu.barrier_mutex):
        done = Completion(rcu.actor, remaining=0)
        rdp = rcu.per_cpu[ctx.smp_processor_id]
        await ctx.ask(done.expect_one_more)
        if not await ctx.ask(rdp.entrain, RcuHead(done, rcu_barrier_callback)):
            await ctx.ask(done.complete)
        await ctx.ask(done.wait_for_completion)
