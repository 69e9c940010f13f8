"""An accounted allocation in a memcg at its limit: the charge has to reclaim, and reclaim sleeps."""

from __future__ import annotations

from actors.api import UPDATE, Context, kmem_cache_alloc, kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import memcg_of
from actors.linux.mm.memcontrol import mem_cgroup_try_charge, mem_cgroup_uncharge
from scenarios.api import Knob, Stage, machine, mkdir, run_in, scenario, small_cache, warm_up


@scenario(
    "reclaim-in-charge",
    "an accounted allocation in a cgroup at its limit has to reclaim",
    Knob("limit", "memory.max of the cgroup, in pages; they are used up by page cache", 4, least=1),
    *machine(),
    also=("sleep-in-rcu-charge",),
)
def reclaim_in_charge(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")

    async def allocate(ctx: Context) -> None:
        obj = await kmem_cache_alloc(ctx, cache)
        if obj is not None:
            await kmem_cache_free(ctx, cache, obj)

    async def use_up_then_allocate(ctx: Context) -> None:
        cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        memcg = memcg_of(cgroup.css)
        await warm_up(ctx, cgroup, cache)
        memcg.memory.touch(UPDATE)
        memcg.memory.max = stage.knobs["limit"]
        while memcg.user_pages < stage.knobs["limit"] and await mem_cgroup_try_charge(ctx, memcg):
            pass
        await run_in(ctx, cgroup, allocate)
        while memcg.user_pages:
            await mem_cgroup_uncharge(ctx, memcg)

    stage.task("allocate", use_up_then_allocate)
    stage.sometimes("reclaim took pages", lambda: any(memcg.memory.failcnt for memcg in machine.memcgs()))
