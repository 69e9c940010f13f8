"""include/linux/percpu-refcount.h: percpu_ref_get_many() reads the mode before its RCU section begins."""

from actors.api import kernel_fn
from actors.linux.lib.percpu_refcount import THIS_CPU_ADD, PercpuRef
from actors.machine.context import Context


@kernel_fn("percpu_ref_get_many", "include/linux/percpu-refcount.h")
async def get_many(ctx: Context, ref: PercpuRef, nr: int) -> None:
    """__ref_is_percpu() has moved in front of rcu_read_lock_sched()."""
    flags = await ctx.ask(ref.read_flags)
    with ctx.preempt_section:
        if flags:
            await ctx.ask(ref.atomic_add, nr)
        else:
            await ctx.this_cpu(ref, THIS_CPU_ADD)
            ref.add_here(ctx, nr)
        ref.last_get = ctx.name, ctx.world.step
