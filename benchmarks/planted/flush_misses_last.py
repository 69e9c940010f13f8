"""kernel/workqueue.c: flush_workqueue() waits for all items except the one that was queued last."""

from actors.api import kernel_fn
from actors.linux.kernel.workqueue import Workqueue
from actors.machine.context import Context


@kernel_fn("flush_workqueue", "kernel/workqueue.c")
async def flush(ctx: Context, wq: Workqueue) -> None:
    """Off by one."""
    ctx.might_sleep("flush_workqueue")
    ctx.machine.lockdep.acquire(ctx, wq.completion)
    ctx.machine.lockdep.release(ctx, wq.completion)
    tickets = [await ctx.ask(pwq.last_ticket) for pwq in wq.pwqs]
    for pwq, ticket in zip(wq.pwqs, tickets, strict=True):
        await ctx.ask(pwq.wait_flushed, ticket - 1)
