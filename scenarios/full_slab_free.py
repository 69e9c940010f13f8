"""An object of a full slab is freed on another CPU, while the cgroup of the cache is removed.

A full slab is on no list. The free makes it a partial slab of the CPU that frees, unless that CPU has already seen
cpu_partial set to 0. Only after a grace period is this store visible on every CPU.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, SlabObject, kmem_cache_free
from scenarios.api import MACHINE, Stage, charge_elsewhere, fill, mkdir, rmdir, scenario, small_cache, warm_up

OBJECTS = 2


@scenario(
    "full-slab-free",
    "the objects of a full slab are freed on another CPU while the cgroup is removed",
    *MACHINE,
    also=("partial-limit-not-visible",),
)
def full_slab_free(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha", objects=OBJECTS)])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []

    async def fill_slabs(ctx: Context) -> None:
        """Fill two slabs: the first one is on no list, the second one is the CPU's slab."""
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await warm_up(ctx, cgroups[0], cache)
        kept.extend(await fill(ctx, cgroups[0], cache, 2 * OBJECTS))

    async def free(ctx: Context) -> None:
        for obj in kept:
            await kmem_cache_free(ctx, cache, obj)

    stage.set_up(fill_slabs)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]))
    stage.task("free", free, cpu=1)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    if machine.config.allocator == "slub":
        stage.sometimes("a CPU has a partial slab", lambda: any(map(has_cpu_partial, machine.child_caches)))


def has_cpu_partial(cache: object) -> bool:
    """Whether a CPU keeps a partial slab of *cache*."""
    return any(c.partial for c in getattr(cache, "cpu_slab", ()))
