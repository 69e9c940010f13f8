"""include/linux/percpu-refcount.h: percpu_ref_tryget() takes a reference though the count is zero."""

from actors.kernel.context import Context
from actors.kernel.patching import kernel_fn
from actors.kernel.percpu_ref import PercpuRef, percpu_ref_get


@kernel_fn("percpu_ref_tryget", "include/linux/percpu-refcount.h")
async def tryget(ctx: Context, ref: PercpuRef) -> bool:
    """A plain get."""
    await percpu_ref_get(ctx, ref)
    return True
