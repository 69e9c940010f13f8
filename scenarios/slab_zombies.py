"""SLAB: objects are freed into the arrays of a cache whose cgroup is gone; only cache_reap() takes them out (4.8).

After the last free the zombie cache lives on, for a time that depends on the number of objects in the arrays and on
whether cache_reap() gets slab_mutex.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, KmemCache, SlabObject, kmem_cache_free
from actors.linux.mm.slab import REAPTIMEOUT_AC
from actors.oracles.ledger import is_published
from scenarios.api import Knob, Stage, charge_elsewhere, fill, machine, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "slab-zombies",
    "objects of a removed cgroup are freed into array caches, which only cache_reap() empties",
    Knob("objects", "objects that are freed during the removal or after it", 30, least=1),
    Knob("seconds", "how long the machine runs afterwards, in seconds", 20, least=2),
    *machine(allocator="slab"),
)
def slab_zombies(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha", objects=32)])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []

    async def make_zombie(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await warm_up(ctx, cgroups[0], cache)
        kept.extend(await fill(ctx, cgroups[0], cache, stage.knobs["objects"]))

    def add_freer(cpu: int) -> None:
        async def free(ctx: Context) -> None:
            for obj in kept[cpu :: len(machine.cpus)]:
                await kmem_cache_free(ctx, cache, obj)

        stage.task(f"free{cpu}", free, cpu=cpu)

    async def live_on(ctx: Context) -> None:
        for _ in range(stage.knobs["seconds"] * 1_000_000_000 // REAPTIMEOUT_AC):
            await ctx.sleep(REAPTIMEOUT_AC)

    stage.set_up(make_zombie)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]))
    for cpu in range(len(machine.cpus)):
        add_freer(cpu)
    stage.task("time", live_on)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("a zombie has free objects in an array", lambda: any(map(has_parked_objects, machine.child_caches)))
    stage.eventually("no child cache is left", lambda: not machine.child_caches)


def has_parked_objects(cache: KmemCache) -> bool:
    """Whether an unpublished cache has free objects in an array."""
    return not is_published(cache) and any(array.entries for array in cache.cpu_cache)
