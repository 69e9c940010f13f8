"""include/linux/percpu-refcount.h: percpu_ref_tryget() takes a reference although the count is zero."""

from actors.api import kernel_fn
from actors.linux.lib.percpu_refcount import PercpuRef, percpu_ref_get
from actors.machine.context import Context


@kernel_fn("percpu_ref_tryget", "include/linux/percpu-refcount.h")
async def tryget(ctx: Context, ref: PercpuRef) -> bool:
    """A percpu_ref_get() without a test."""
    await percpu_ref_get(ctx, ref)
    return True
