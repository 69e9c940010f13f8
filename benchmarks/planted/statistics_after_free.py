"""mm/memcontrol.c: mem_cgroup_free() flushes the statistics of a memcg after it has freed the memcg."""

from actors.api import kernel_fn
from actors.linux.mm.memcontrol import Memcg, memcg_flush_percpu_vmstats
from actors.machine.context import Context


@kernel_fn("mem_cgroup_free", "mm/memcontrol.c")
async def free(ctx: Context, memcg: Memcg) -> None:
    """The two lines are exchanged."""
    ctx.kfree(*memcg.parts())
    await memcg_flush_percpu_vmstats(ctx, memcg, slab_only=False)
