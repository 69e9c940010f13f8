"""kernel/workqueue.c: queue_rcu_work() queues the work without a grace period."""

from actors.api import kernel_fn
from actors.linux.kernel.rcu.tree import RcuHead
from actors.linux.kernel.workqueue import RcuWork, __queue_work
from actors.machine.context import Context


@kernel_fn("queue_rcu_work", "kernel/workqueue.c")
async def queue(ctx: Context, rwork: RcuWork) -> bool:
    """No call_rcu(): the callback is called directly."""
    if await ctx.ask(rwork.work.test_and_set_pending):
        return False

    async def rcu_work_rcufn(ctx: Context, _head: RcuHead) -> None:
        with ctx.irq_section:
            await __queue_work(ctx, ctx.smp_processor_id, rwork.wq, rwork.work)

    await rcu_work_rcufn(ctx, rwork.head)
    return True
