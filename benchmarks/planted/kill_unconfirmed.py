"""lib/percpu-refcount.c: percpu_ref_kill_and_confirm() drops its confirm_kill callback."""

from actors.api import kernel_fn
from actors.linux.kernel.locking.locks import SpinLockIrqHeld
from actors.linux.lib.percpu_refcount import DEAD, Confirm, PercpuRef, __percpu_ref_switch_mode, percpu_ref_put
from actors.machine.context import WARN_ON, Context


@kernel_fn("percpu_ref_kill_and_confirm", "lib/percpu-refcount.c")
async def kill(ctx: Context, ref: PercpuRef, _confirm: Confirm | None) -> None:
    """NULL for confirm_kill."""
    async with SpinLockIrqHeld(ctx, ctx.machine.percpu_ref_switch_lock):
        flags = await ctx.ask(ref.set_flags, DEAD)
        WARN_ON(ctx, flags & DEAD, "percpu_ref_kill_and_confirm called more than once")
        await __percpu_ref_switch_mode(ctx, ref, None)
        ref.own_refs -= 1
        await percpu_ref_put(ctx, ref)
