"""kernel/cgroup/cgroup.c: css_release_work_fn() frees the css without a grace period."""

from actors.api import kernel_fn
from actors.linux.kernel.cgroup.cgroup import CssFlags, css_free_rwork_fn, css_of
from actors.linux.kernel.locking.locks import MutexHeld
from actors.linux.kernel.workqueue import Work, queue_work
from actors.machine.context import Context, deref


@kernel_fn("css_release_work_fn", "kernel/cgroup/cgroup.c")
async def release(ctx: Context, work: Work) -> None:
    """queue_work(), not queue_rcu_work()."""
    css = css_of(work.container)
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        await ctx.ask(css.set_flags, CssFlags.RELEASED)
        if css.memcg is None:
            await ctx.ask(ctx.machine.cgroup_tree.forget, css.cgroup)
        else:
            await ctx.ask(deref(css.parent, "css_release_work_fn(): css->parent").unlink_child, css)
            await ctx.machine.memory_cgrp_subsys.css_released(ctx, css.memcg)
    css.destroy_rwork.work.init_work(css_free_rwork_fn)
    await queue_work(ctx, ctx.machine.cgroup_free_wq, css.destroy_rwork.work)
