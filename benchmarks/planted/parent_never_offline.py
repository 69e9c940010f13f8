"""kernel/cgroup/cgroup.c: css_killed_work_fn() forgets the parent that waits for this child to be offline."""

from actors.kernel.cgroup import css_of, css_put, offline_css
from actors.kernel.context import Context
from actors.kernel.locks import MutexHeld
from actors.kernel.patching import kernel_fn
from actors.kernel.workqueue import Work


@kernel_fn("css_killed_work_fn", "kernel/cgroup/cgroup.c")
async def killed(ctx: Context, work: Work) -> None:
    """The parent's online_cnt is lowered; that it is zero by that interests nobody."""
    css = css_of(work.container)
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        await offline_css(ctx, css)
        await css_put(ctx, css)
        if css.parent is not None:
            await ctx.ask(css.parent.add_online_cnt, -1)
