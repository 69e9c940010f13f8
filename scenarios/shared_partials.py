"""CPUs take slabs from the partial list of one node, while objects of these slabs are freed.

After a shrink (/sys/kernel/slab/*/shrink) no CPU has a slab, and all slabs that are not full are on the node's list. An
allocation in SLUB takes several slabs from the list at once under list_lock, and freezes each of them (KERNEL.md 4.3).
A free that empties a slab on the list may discard it (4.5). SLAB fills the arrays of the CPUs from these slabs (4.7).
"""

from __future__ import annotations

from actors.api import Context, KmemCache, Slab, SlabObject, kmem_cache_alloc, kmem_cache_free, kmem_cache_shrink
from scenarios.api import MACHINE, PAGE_SIZE, Knob, SlabinfoRow, Stage, fill, scenario

OBJECTS = 2


@scenario(
    "shared-partials",
    "CPUs take slabs from the partial list of one node, while objects of these slabs are freed",
    Knob("slabs", "slabs on the list, each with one free object and one freed in the race", 12, least=2, most=60),
    Knob("objects", "objects that each CPU allocates", 2, least=1, most=60),
    *MACHINE,
)
def shared_partials(stage: Stage) -> None:
    machine = stage.boot(caches=[SlabinfoRow("alpha", 0, 0, PAGE_SIZE, OBJECTS, OBJECTS)])
    root = machine.root_cache("alpha")
    kept: list[SlabObject] = []

    async def make_partial(ctx: Context) -> None:
        for obj in await fill(ctx, machine.root_cgroup, root, OBJECTS * stage.knobs["slabs"]):
            if any(other.slab is obj.slab for other in kept):
                await kmem_cache_free(ctx, root, obj)
            else:
                kept.append(obj)
        await kmem_cache_shrink(ctx, root)
        listed = [slab for n in root.node for slab in n.partial]
        kept.sort(key=lambda obj: listed.index(obj.slab) if obj.slab in listed else len(listed))

    async def allocate(ctx: Context) -> None:
        for _ in range(stage.knobs["objects"]):
            await kmem_cache_alloc(ctx, root)

    async def free(ctx: Context) -> None:
        for obj in kept:
            await kmem_cache_free(ctx, root, obj)

    stage.set_up(make_partial)
    for cpu in range(len(machine.cpus)):
        stage.task(f"allocate{cpu}", allocate, cpu=cpu)
    stage.task("free", free, cpu=1)
    if len(machine.cpus) > machine.config.nodes:
        stage.sometimes(
            "two CPUs have objects of slabs that were on the list",
            lambda: bool(kept) and holders(root, {obj.slab for obj in kept}) > 1,
        )


def holders(cache: KmemCache, slabs: set[Slab]) -> int:
    """The number of CPUs that have one of *slabs*, or objects of them."""
    per_cpu = cache.cpu_slab or cache.cpu_sheaves or cache.cpu_cache
    return sum(has_of(cache, cpu, slabs) for cpu in range(len(per_cpu)))


def has_of(cache: KmemCache, cpu: int, slabs: set[Slab]) -> bool:
    """Whether *cpu* has one of *slabs* (SLUB), or objects of them in its array (SLAB) or main sheaf (7.2)."""
    if cache.cpu_slab:
        c = cache.cpu_slab[cpu]
        return c.page in slabs or not slabs.isdisjoint(c.partial)
    if cache.cpu_sheaves:
        return any(obj.slab in slabs for obj in cache.cpu_sheaves[cpu].main.objects)
    return any(obj.slab in slabs for obj in cache.cpu_cache[cpu].entries)
