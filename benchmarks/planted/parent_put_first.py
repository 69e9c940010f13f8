"""kernel/cgroup/cgroup.c: css_free_rwork_fn() drops its reference to the parent before it frees the css."""

from actors.api import kernel_fn
from actors.linux.kernel.cgroup.cgroup import css_of, css_put
from actors.linux.kernel.workqueue import Work
from actors.linux.lib.percpu_refcount import percpu_ref_exit
from actors.machine.context import Context, deref
from protocol.operations import UPDATE


@kernel_fn("css_free_rwork_fn", "kernel/cgroup/cgroup.c")
async def free_rwork(ctx: Context, work: Work) -> None:
    """css_put() of the parent is called too early."""
    css = css_of(work.container)
    await percpu_ref_exit(ctx, deref(css.refcnt, "css_free_rwork_fn(): css->refcnt"))
    parent, cgroup = deref(css.parent, "css_free_rwork_fn(): css->parent"), css.cgroup
    await css_put(ctx, parent)
    if css.memcg is not None:
        await ctx.machine.memory_cgrp_subsys.css_free(ctx, css.memcg)
        if css.id:
            ctx.machine.cgroup_tree.css_idr.touch(UPDATE)
            ctx.machine.cgroup_tree.css_idr.ida_simple_remove(css.id)
        ctx.kfree(*css.parts())
        await css_put(ctx, cgroup.self_css)
    else:
        ctx.machine.cgroup_tree.touch_part("nr_cgrps", UPDATE)
        ctx.machine.cgroup_tree.nr_cgrps -= 1
        ctx.kfree(cgroup, *css.parts())
        cgroup.actor.retire()
