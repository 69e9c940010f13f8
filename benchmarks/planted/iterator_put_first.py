"""mm/memcontrol.c: mem_cgroup_iter() drops its reference to the current memcg before it has found the next one."""

from actors.api import kernel_fn
from actors.linux.kernel.cgroup.cgroup import css_tryget
from actors.linux.mm.memcontrol import Memcg, mem_cgroup_iter_break
from actors.machine.context import Context


@kernel_fn("mem_cgroup_iter", "mm/memcontrol.c")
async def next_memcg(ctx: Context, root: Memcg, prev: Memcg | None) -> Memcg | None:
    """css_put() is called too early."""
    is_hierarchical = root.is_root or ctx.machine.config.cgroup == 2 or ctx.machine.config.use_hierarchy
    if not is_hierarchical:
        return root if prev is None else None
    await mem_cgroup_iter_break(ctx, root, prev)
    with ctx.rcu_read_section:
        memcg = await ctx.ask(root.next_descendant_pre, prev)
        while memcg is not None and memcg is not root and not await css_tryget(ctx, memcg.css):
            memcg = await ctx.ask(root.next_descendant_pre, memcg)
    return memcg
