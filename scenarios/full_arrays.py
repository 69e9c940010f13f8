"""SLAB's arrays overflow while the cgroup is removed, and then the root cache is destroyed.

On each of two nodes a CPU frees objects of the first node. On the first node the CPU's array and the shared array are
already full, so a batch of objects goes back into the slabs, and surplus free slabs are destroyed. On the other node
the alien array is full, and its objects are sent back to the first node. Deactivation drains all arrays at the same
time, and the destruction drains them at the end (KERNEL.md 4.7). SLUB has none of these arrays: there the same frees
put objects back into slabs of another node.
"""

from __future__ import annotations

from actors.api import Cgroup, Completion, Context, KmemCache, SlabObject, kmem_cache_destroy, kmem_cache_free
from actors.linux.mm.slab_def import ALIEN_LIMIT, ArrayCache
from scenarios.api import Knob, Stage, fill, machine, mkdir, rmdir, scenario, small_cache, warm_up

ARRAY, SHARED = 24, 96
"""The limits of a CPU's array and of a node's shared array, for objects of 2048 bytes."""


@scenario(
    "full-arrays",
    "full arrays of SLAB overflow on two nodes while their cgroup is removed; then the cache is destroyed",
    Knob("frees", "objects that each CPU frees in the race", 2, least=1, most=40),
    *machine(allocator="slab", nodes=2),
)
def full_arrays(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha", objects=2)])
    root = machine.root_cache("alpha")
    frees = stage.knobs["frees"]
    cgroups: list[Cgroup] = []
    near: list[SlabObject] = []
    far: list[SlabObject] = []
    done = Completion(machine.cgroup_tree.actor, remaining=2)

    async def fill_arrays(ctx: Context) -> None:
        """Allocate on the first node, then free so many that its arrays and the last CPU's alien array are full."""
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await warm_up(ctx, cgroups[0], root)
        near.extend(await fill(ctx, cgroups[0], root, ARRAY + SHARED + ALIEN_LIMIT + 2 * frees))
        far.extend(near.pop() for _ in range(ALIEN_LIMIT + frees))
        while len(near) > frees:
            await kmem_cache_free(ctx, root, near.pop())
        await ctx.migrate(machine.cpus[-1])
        while len(far) > frees:
            await kmem_cache_free(ctx, root, far.pop())

    async def free(ctx: Context, objects: list[SlabObject]) -> None:
        for obj in objects:
            await kmem_cache_free(ctx, root, obj)
        await ctx.ask(done.complete)

    async def destroy(ctx: Context) -> None:
        """Wait until the module's last object has been freed, then destroy the cache."""
        await ctx.ask(done.wait_for_completion)
        await kmem_cache_destroy(ctx, root)

    stage.set_up(fill_arrays)
    stage.task("free-near", lambda ctx: free(ctx, near))
    stage.task("free-far", lambda ctx: free(ctx, far), cpu=len(machine.cpus) - 1)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
    stage.task("rmmod", destroy)
    stage.sometimes("the root is dying while it has a child", lambda: root.dying and bool(root.children))
    if machine.config.allocator == "slab":
        stage.sometimes("a shared array is full", lambda: any(map(is_full, shared_arrays(machine.child_caches))))
        if machine.config.nodes > 1:
            stage.sometimes("an alien array is full", lambda: any(map(is_full, alien_arrays(machine.child_caches))))
    stage.eventually("no cache is left", lambda: not machine.all_caches)


def shared_arrays(caches: tuple[KmemCache, ...]) -> list[ArrayCache]:
    """The shared arrays of all nodes."""
    return [node.shared for cache in caches for node in cache.slab_node if node.shared is not None]


def alien_arrays(caches: tuple[KmemCache, ...]) -> list[ArrayCache]:
    """The alien arrays of all nodes."""
    return [alien.array for cache in caches for node in cache.slab_node for alien in node.alien.values()]


def is_full(array: ArrayCache) -> bool:
    """Whether the array is at its limit."""
    return len(array.entries) >= array.limit
