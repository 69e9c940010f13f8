"""mm/memcontrol.c: drain_all_stock() looks at the memcgs of other CPUs' stocks without holding them."""

from actors.kernel.context import Context
from actors.kernel.locks import mutex_trylock, mutex_unlock
from actors.kernel.memcontrol import Memcg, drain_local_stock
from actors.kernel.patching import kernel_fn
from actors.kernel.workqueue import queue_work_on


@kernel_fn("drain_all_stock", "mm/memcontrol.c")
async def drain_all(ctx: Context, root_memcg: Memcg) -> None:
    """No css_tryget(), and preemption is still on: nothing keeps the memcg."""
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
