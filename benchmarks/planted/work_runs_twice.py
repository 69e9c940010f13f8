"""kernel/workqueue.c: __queue_work() queues a work on this CPU although it still runs on another one."""

from actors.api import kernel_fn
from actors.linux.kernel.workqueue import Work, Workqueue
from actors.machine.context import WARN_ON, Context


@kernel_fn("__queue_work", "kernel/workqueue.c")
async def queue(ctx: Context, cpu: int, wq: Workqueue, work: Work) -> None:
    """The pool where the work ran last is not checked."""
    pwq = wq.pwqs[cpu]
    queued = await ctx.ask(pwq.pool.insert, pwq, work)
    WARN_ON(ctx, not queued, "__queue_work: !list_empty(&work->entry)")
