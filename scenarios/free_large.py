"""Large objects, such as the file tables of exiting processes, are freed on all CPUs while others are allocated.

SLAB keeps very few of them: the array of a CPU holds one object of more than 128 KiB, the node has no shared array, and
its lists keep a few free slabs. All other freed slabs go to the page allocator at once (KERNEL.md 4.7). SLUB discards
an empty slab as soon as its node has enough partial ones (4.5).
"""

from __future__ import annotations

from functools import partial

from actors.api import Context, SlabObject, kmem_cache_alloc, kmem_cache_free
from scenarios.api import PAGE_SIZE, Knob, SlabinfoRow, Stage, fill, machine, scenario

PAGES = 64
LARGE = SlabinfoRow("alpha", 0, 0, PAGES * PAGE_SIZE, 1, PAGES)


@scenario(
    "free-large",
    "objects of many pages are freed on all CPUs while others are allocated",
    Knob("objects", "objects that each CPU frees", 7, least=1, most=60),
    *machine(allocator="slab"),
)
def free_large(stage: Stage) -> None:
    machine = stage.boot(caches=[LARGE])
    root = machine.root_cache("alpha")
    objects = stage.knobs["objects"]
    kept: list[SlabObject] = []

    async def make(ctx: Context) -> None:
        kept.extend(await fill(ctx, machine.root_cgroup, root, objects * len(machine.cpus)))

    async def free(ctx: Context, number: int) -> None:
        for obj in kept[number * objects : (number + 1) * objects]:
            await kmem_cache_free(ctx, root, obj)

    async def use_one(ctx: Context) -> None:
        obj = await kmem_cache_alloc(ctx, root)
        if obj is not None:
            await kmem_cache_free(ctx, root, obj)

    stage.set_up(make)
    for cpu in range(len(machine.cpus)):
        stage.task(f"free{cpu}", partial(free, number=cpu), cpu=cpu)
    stage.task("use", use_one)
    if machine.config.allocator == "slab" or len(machine.cpus) > 1:  # SLUB keeps ten empty slabs of this size
        stage.sometimes("slabs are given back", lambda: any(obj.slab.freed is not None for obj in kept))
