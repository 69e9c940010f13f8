"""include/linux/percpu-refcount.h: percpu_ref_put_many() reads the mode before its section begins."""

from actors.api import kernel_fn
from actors.linux.lib.percpu_refcount import THIS_CPU_ADD, PercpuRef
from actors.machine.context import Context


@kernel_fn("percpu_ref_put_many", "include/linux/percpu-refcount.h")
async def put_many(ctx: Context, ref: PercpuRef, nr: int) -> None:
    """A switch to atomic mode may be complete when the mode is used."""
    flags = await ctx.ask(ref.read_flags)
    with ctx.preempt_section:
        if not flags:
            await ctx.this_cpu(ref, THIS_CPU_ADD)
            ref.add_here(ctx, -nr)
            ref.recheck()
        elif await ctx.ask(ref.atomic_add, -nr) == 0:
            await ref.release(ctx, ref)
