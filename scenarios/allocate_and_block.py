"""A task makes one accounted allocation and then sleeps; the allocation must leave no section open that forbids this.

A task inside an RCU read-side section, or with preemption off, must not sleep. A read-side section that is never left
also keeps every later grace period from ending.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, SlabObject, kmem_cache_alloc, kmem_cache_free
from scenarios.api import MACHINE, Stage, enter, mkdir, scenario, small_cache, warm_up

WAIT_NS = 1_000_000


@scenario(
    "allocate-and-block",
    "a task in a cgroup allocates one accounted object, then sleeps",
    *MACHINE,
    also=("rcu-lock-for-unlock",),
)
def allocate_and_block(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    kept: list[SlabObject] = []

    async def allocate_then_sleep(ctx: Context) -> None:
        cgroup: Cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        await warm_up(ctx, cgroup, cache)
        await enter(ctx, cgroup)
        obj = await kmem_cache_alloc(ctx, cache)
        await ctx.sleep(WAIT_NS)
        if obj is not None:
            kept.append(obj)
            await kmem_cache_free(ctx, cache, obj)

    stage.task("allocate", allocate_then_sleep)
    stage.sometimes(
        "the object came from a child cache", lambda: bool(kept) and not kept[0].slab.slab_cache.is_root_cache
    )
