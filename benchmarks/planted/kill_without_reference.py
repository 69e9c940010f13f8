"""kernel/cgroup/cgroup.c: kill_css() takes no reference to the css for css_killed_work_fn()."""

from actors.api import kernel_fn
from actors.linux.include.kernfs import kernfs_remove
from actors.linux.kernel.cgroup.cgroup import Css, CssFlags, css_killed_ref_fn
from actors.linux.lib.percpu_refcount import percpu_ref_kill_and_confirm
from actors.machine.context import Context, deref


@kernel_fn("kill_css", "kernel/cgroup/cgroup.c")
async def kill(ctx: Context, css: Css) -> None:
    """No css_get()."""
    if CssFlags.DYING in await ctx.ask(css.read_flags):
        return
    await ctx.ask(css.set_flags, CssFlags.DYING)
    await kernfs_remove(ctx, css.files)
    await percpu_ref_kill_and_confirm(ctx, deref(css.refcnt, "kill_css(): css->refcnt"), css_killed_ref_fn)
