"""mm/memcontrol.c: mem_cgroup_css_offline() does not drain the stocks of the memcg."""

from actors.api import kernel_fn
from actors.linux.mm.memcontrol import Memcg, mem_cgroup_id_put, memcg_offline_kmem
from actors.machine.context import Context


@kernel_fn("mem_cgroup_css_offline", "mm/memcontrol.c")
async def css_offline(ctx: Context, memcg: Memcg) -> None:
    """No drain_all_stock()."""
    await memcg_offline_kmem(ctx, memcg)
    await mem_cgroup_id_put(ctx, memcg)
