"""A/B/C are removed, leaf first or each by a task of its own: caches travel up, C to B to A to the root.

A parent goes offline only after its children, and takes over what they had; each level's caches hold one
reference to the memcg that they belong to at the moment (KERNEL.md 7.1, I5, I6, Q5).
"""

from __future__ import annotations

from actors.kernel.cgroup import Cgroup
from actors.kernel.context import Context
from actors.kernel.slab import SlabObject
from actors.kernel.slub import kmem_cache_free
from actors.kernel.slub_alloc import kmem_cache_alloc
from scenarios.registry import CPUS, SLABINFO, Knob, scenario
from scenarios.rmdir_under_load import children, warm_up
from scenarios.stage import Stage, enter, mkdir, rmdir

CACHES = ("task_struct",)


@scenario(
    "nested",
    "A/B/C are removed, in order or racing; their caches travel up to the root",
    Knob("depth", "levels of cgroups", 3, least=1, most=20),
    Knob(
        "order",
        "who removes them: one task leaf first, or one task each",
        "racing",
        "choice",
        choices=("racing", "leaf-first"),
    ),
    CPUS,
    SLABINFO,
)
def nested(stage: Stage) -> None:
    machine = stage.boot("filp", "dentry", "shmem_inode_cache", *CACHES)
    caches = [machine.root_cache(name) for name in CACHES]
    path: list[Cgroup] = []
    kept: list[SlabObject] = []

    async def remove(ctx: Context, cgroup: Cgroup) -> None:
        await rmdir(ctx, cgroup)

    async def story(ctx: Context) -> None:
        await set_up(ctx)
        if stage.knobs["order"] == "leaf-first":
            for cgroup in reversed(path):
                await rmdir(ctx, cgroup)
        else:
            for level, cgroup in enumerate(path):
                start_remover(level, cgroup)
        await release(ctx)

    async def set_up(ctx: Context) -> None:
        """Make the path, with one object kept in a child cache of each level."""
        parent = machine.root_cgroup
        for level in range(stage.knobs["depth"]):
            parent = await mkdir(ctx, parent, "ABCDEFGHIJKLMNOPQRST"[level])
            path.append(parent)
            await warm_up(ctx, parent, caches)
            await enter(ctx, parent)
            obj = await kmem_cache_alloc(ctx, caches[0])
            await enter(ctx, machine.root_cgroup)
            if obj is not None:
                kept.append(obj)

    def start_remover(level: int, cgroup: Cgroup) -> None:
        stage.task(f"rmdir{level}", lambda ctx: remove(ctx, cgroup), cpu=level)

    async def release(ctx: Context) -> None:
        """Free every second object while the removal runs, the others when it is over."""
        for obj in kept[::2]:
            await kmem_cache_free(ctx, obj)
        await ctx.settle()
        stage.sample("removed")
        for obj in kept[1::2]:
            await kmem_cache_free(ctx, obj)

    stage.task("story", story)
    if stage.kernel == "original":
        stage.sometimes("a leaf keeps its ancestors dying", lambda: machine.root_cgroup.nr_dying_descendants > 1)
    else:
        stage.sometimes("a cache has travelled up", lambda: any(map(has_moved, children(machine))))
    stage.eventually("every cgroup is gone", lambda: machine.root_cgroup.nr_dying_descendants == 0)
    stage.eventually("no child cache is left", lambda: not machine.child_caches)

    def has_moved(cache: object) -> bool:
        return getattr(cache, "memcg", None) is machine.root_mem_cgroup
