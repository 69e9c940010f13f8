"""kernel/cgroup/cgroup.c: css_killed_work_fn() does not start the offlining of a parent that waits for this child."""

from actors.api import kernel_fn
from actors.linux.kernel.cgroup.cgroup import css_of, css_put, offline_css
from actors.linux.kernel.locking.locks import MutexHeld
from actors.linux.kernel.workqueue import Work
from actors.machine.context import Context


@kernel_fn("css_killed_work_fn", "kernel/cgroup/cgroup.c")
async def killed(ctx: Context, work: Work) -> None:
    """The parent's online_cnt decreases, but it is not checked for zero."""
    css = css_of(work.container)
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        await offline_css(ctx, css)
        await css_put(ctx, css)
        if css.parent is not None:
            await ctx.ask(css.parent.add_online_cnt, -1)
