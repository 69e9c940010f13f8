"""kernel/workqueue.c: queue_work_on() does not check whether the work is pending."""

from actors.api import kernel_fn
from actors.linux.kernel.workqueue import Work, Workqueue, __queue_work
from actors.machine.context import Context


@kernel_fn("queue_work_on", "kernel/workqueue.c")
async def queue(ctx: Context, cpu: int, wq: Workqueue, work: Work) -> bool:
    """PENDING is set without a test."""
    with ctx.irq_section:
        await ctx.ask(work.test_and_set_pending)
        await __queue_work(ctx, cpu, wq, work)
    return True
