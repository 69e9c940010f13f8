"""SLAB's reaper walks all caches while one of them is destroyed.

Every two seconds a CPU walks the caches with slab_mutex held; nothing else keeps them alive (KERNEL.md 4.8). The
destruction takes slab_mutex too, takes its cache off the list, and frees it (8.2). SLUB has no reaper.
"""

from __future__ import annotations

from actors.api import Context, kmem_cache_destroy, kmem_cache_free
from scenarios.api import Knob, Stage, fill, machine, scenario, small_cache


@scenario(
    "reap-vs-destroy",
    "SLAB's reaper walks all caches while one of them is destroyed",
    Knob("others", "caches that stay; the reaper visits them first", 6, most=60),
    *machine(allocator="slab"),
)
def reap_vs_destroy(stage: Stage) -> None:
    others = [small_cache(f"other{number}") for number in range(stage.knobs["others"])]
    machine = stage.boot(caches=[*others, small_cache("alpha")])
    root = machine.root_cache("alpha")

    async def fill_array(ctx: Context) -> None:
        """Leave a free object in the CPU's array, for the reaper to drain."""
        for obj in await fill(ctx, machine.root_cgroup, root, 1):
            await kmem_cache_free(ctx, root, obj)

    async def unload(ctx: Context) -> None:
        """Sleep until the reaper's next walk is due, then destroy the cache."""
        due = [time for base in machine.timer_bases for time, _ in base.timers]
        await ctx.sleep(max(0, min(due, default=0) - ctx.world.now))
        await kmem_cache_destroy(ctx, root)

    stage.set_up(fill_array)
    stage.task("rmmod", unload, cpu=1)
    if machine.config.allocator == "slab":
        stage.sometimes("there has been a walk before the cache is gone", lambda: is_in_time(stage))
    stage.eventually("the cache is gone", lambda: root not in machine.all_caches)


def is_in_time(stage: Stage) -> bool:
    """Whether the reaper has finished a walk before the cache is gone."""
    return bool(stage.machine.reaps) and len(stage.machine.all_caches) > stage.knobs["others"]
