"""lib/percpu-refcount.c: the switch to atomic mode holds no reference of its own."""

from actors.api import kernel_fn
from actors.linux.kernel.rcu.tree import call_rcu
from actors.linux.lib.percpu_refcount import ATOMIC, Confirm, PercpuRef, percpu_ref_noop_confirm_switch
from actors.linux.lib.percpu_refcount import percpu_ref_switch_to_atomic_rcu as switched
from actors.machine.context import Context


@kernel_fn("__percpu_ref_switch_to_atomic", "lib/percpu-refcount.c")
async def switch_to_atomic(ctx: Context, ref: PercpuRef, confirm: Confirm | None) -> None:
    """No percpu_ref_get()."""
    if await ctx.ask(ref.read_flags) & ATOMIC:
        if confirm is not None:
            await confirm(ctx, ref)
        return
    await ctx.ask(ref.begin_switch, confirm or percpu_ref_noop_confirm_switch)
    await call_rcu(ctx, ref.head, switched)
