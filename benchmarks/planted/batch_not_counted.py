"""kernel/rcu/tree.c: rcu_do_batch() does not count the running callbacks, so rcu_barrier() does not wait for them."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.lockdep import RCU_CALLBACK
from actors.linux.kernel.rcu.tree import RcuData
from actors.machine.context import Context, deref
from protocol.operations import UPDATE


@kernel_fn("rcu_do_batch", "kernel/rcu/tree.c")
async def do_batch(ctx: Context, rdp: RcuData) -> None:
    """n_cbs decreases as soon as a callback is taken off the list."""
    limit = ctx.machine.rcu.batch_limit(rdp)
    for _ in range(min(limit, len(rdp.done))):
        rdp.touch_part("done", UPDATE)
        head = rdp.called = rdp.done.popleft()
        head.queued = False
        if head.container.freed is not None:
            ctx.world.raise_use_after_free(head.container)
        func = deref(head.func, "rcu_do_batch(): head->func")
        ctx.machine.lockdep.acquire(ctx, RCU_CALLBACK)
        await func(ctx, head)
        ctx.machine.lockdep.release(ctx, RCU_CALLBACK)
    rdp.touch_part("done", UPDATE)
    rdp.in_batch = False
