"""kernel/cgroup/cgroup.c: css_killed_ref_fn() does not wait until the children of the css are offline."""

from actors.api import kernel_fn
from actors.linux.kernel.cgroup.cgroup import css_killed_work_fn, css_of
from actors.linux.kernel.workqueue import queue_work
from actors.linux.lib.percpu_refcount import PercpuRef
from actors.machine.context import Context


@kernel_fn("css_killed_ref_fn", "kernel/cgroup/cgroup.c")
async def killed(ctx: Context, ref: PercpuRef) -> None:
    """The value of online_cnt is ignored."""
    css = css_of(ref.container)
    await ctx.ask(css.add_online_cnt, -1)
    css.destroy_work.init_work(css_killed_work_fn)
    await queue_work(ctx, ctx.machine.cgroup_offline_wq, css.destroy_work)
