"""mm/memcontrol.c: drain_all_stock() reads the memcgs of other CPUs' stocks without references to them."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import mutex_trylock, mutex_unlock
from actors.linux.kernel.workqueue import queue_work_on
from actors.linux.mm.memcontrol import Memcg, drain_local_stock
from actors.machine.context import Context


@kernel_fn("drain_all_stock", "mm/memcontrol.c")
async def drain_all(ctx: Context, root_memcg: Memcg) -> None:
    """No css_tryget(), and preemption is still on, so the memcg may be freed."""
    machine = ctx.machine
    if not await mutex_trylock(ctx, machine.percpu_charge_mutex):
        return
    for stock in machine.stocks:
        memcg = await ctx.ask(stock.read_cached)
        if memcg is None or not await ctx.ask(memcg.memory.read):
            continue
        with ctx.preempt_section:
            if memcg.is_descendant_of(root_memcg) and not await ctx.ask(stock.test_and_set_flushing):
                if stock.cpu == ctx.smp_processor_id:
                    await drain_local_stock(ctx)
                else:
                    await queue_work_on(ctx, stock.cpu, machine.system_wq, stock.work)
    await mutex_unlock(ctx, machine.percpu_charge_mutex)
