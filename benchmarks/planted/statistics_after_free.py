"""mm/memcontrol.c: mem_cgroup_free() hands on the statistics of a memcg that it has freed."""

from actors.kernel.context import Context
from actors.kernel.memcontrol import Memcg
from actors.kernel.patching import kernel_fn
from actors.kernel.vmstat import memcg_flush_percpu_vmstats


@kernel_fn("mem_cgroup_free", "mm/memcontrol.c")
async def free(ctx: Context, memcg: Memcg) -> None:
    """The two lines are exchanged."""
    ctx.kfree(*memcg.parts())
    await memcg_flush_percpu_vmstats(ctx, memcg, slab_only=False)
