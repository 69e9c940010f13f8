"""kernel/rcu/tree.c: the barrier does not wait for a monitor that has taken blocks off already."""

from actors.api import Context, kernel_fn
from actors.linux.kernel.rcu.kvfree import kvfree_rcu_queue_batch
from actors.linux.kernel.workqueue import flush_rcu_work


@kernel_fn("kvfree_rcu_barrier", "kernel/rcu/tree.c")
async def kvfree_rcu_barrier(ctx: Context) -> None:
    """No cancel_delayed_work_sync()."""
    for krcp in ctx.machine.krc.per_cpu:
        while await ctx.ask(krcp.krc_count):
            if await kvfree_rcu_queue_batch(ctx, krcp) or not await ctx.ask(krcp.krc_count):
                break
            for krwp in krcp.krw_arr:
                await flush_rcu_work(ctx, krwp.rcu_work)
    for krcp in ctx.machine.krc.per_cpu:
        for krwp in krcp.krw_arr:
            await flush_rcu_work(ctx, krwp.rcu_work)
