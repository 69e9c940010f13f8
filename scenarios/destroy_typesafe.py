"""kmem_cache_destroy() of a SLAB_TYPESAFE_BY_RCU root whose child still has an empty slab on its partial list.

The slab is given back only after a grace period; until then it has to find the memcg that it is charged to.
"""

from __future__ import annotations

from actors.kernel.context import Context
from actors.kernel.slab_destroy import kmem_cache_destroy
from actors.kernel.slub import kmem_cache_free
from scenarios.registry import MACHINE, scenario
from scenarios.stage import Stage, fill, mkdir, small_cache, warm_up

OBJECTS = 2


@scenario(
    "destroy-typesafe",
    "a type-safe root cache with an empty slab in a child cache is destroyed",
    *MACHINE,
    also=("memcg-pointer-before-rcu-free", "b749ecfaf6c5"),
)
def destroy_typesafe(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("typesafe", objects=OBJECTS)])
    root = machine.root_cache("typesafe")

    async def leave_empty_slabs(ctx: Context) -> None:
        """Fill two slabs and free them from the other CPU: at least one stays on the node's list, empty."""
        cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        await warm_up(ctx, cgroup, root)
        made = await fill(ctx, cgroup, root, 2 * OBJECTS)
        await ctx.migrate(machine.cpus[-1])
        for obj in made:
            await kmem_cache_free(ctx, root, obj)

    async def destroy(ctx: Context) -> None:
        await kmem_cache_destroy(ctx, root)

    stage.set_up(leave_empty_slabs)
    stage.task("rmmod", destroy)
    stage.sometimes(
        "a freed slab waits for a grace period",
        lambda: any(slab.rcu_head.queued for child in machine.child_caches for slab in child.slabs),
    )
    stage.eventually("no cache is left", lambda: not machine.all_caches)
