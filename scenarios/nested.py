"""A/B/C are removed, leaf first or each by a task of its own: caches are reparented from C to B to A to the root.

A parent goes offline only after its children, and inherits their caches. At every time each cache holds one reference
to the memcg that it belongs to (KERNEL.md 7.1, I5, I6, Q5).
"""

from __future__ import annotations

from actors.api import Cgroup, Context, SlabObject, kmem_cache_free
from actors.versions.profiles import WITHOUT_REPARENTING
from scenarios.api import MACHINE, Knob, Stage, fill, mkdir, rmdir, scenario, warm_up

CACHE = "task_struct"
NAMES = "ABCDEFGHIJKLMNOPQRST"


@scenario(
    "nested",
    "A/B/C are removed, in order or racing; their caches are reparented up to the root",
    Knob("depth", "levels of cgroups", 3, least=1, most=len(NAMES)),
    Knob(
        "order",
        "order of the removals: racing, a task for each level, or one task, leaf first",
        "racing",
        choices=("racing", "leaf-first"),
    ),
    *MACHINE,
)
def nested(stage: Stage) -> None:
    machine = stage.boot(CACHE)
    cache = machine.root_cache(CACHE)
    path: list[Cgroup] = []
    kept: list[SlabObject] = []
    depth = stage.knobs["depth"]

    async def make_path(ctx: Context) -> None:
        """Make the cgroups, each with two objects in its child cache."""
        parent = machine.root_cgroup
        for level in range(depth):
            parent = await mkdir(ctx, parent, NAMES[level])
            path.append(parent)
            await warm_up(ctx, parent, cache)
            kept.extend(await fill(ctx, parent, cache, 2))

    async def remove_all(ctx: Context) -> None:
        for cgroup in reversed(path):
            await rmdir(ctx, cgroup)

    def add_remover(level: int) -> None:
        stage.task(f"rmdir-{NAMES[level]}", lambda ctx: rmdir(ctx, path[level]), cpu=level)

    async def free_some(ctx: Context) -> None:
        """Free every second object during the removals."""
        for obj in kept[::2]:
            await kmem_cache_free(ctx, cache, obj)

    async def free_the_others(ctx: Context) -> None:
        stage.sample("removed")
        for obj in kept[1::2]:
            await kmem_cache_free(ctx, cache, obj)

    stage.set_up(make_path)
    if stage.knobs["order"] == "leaf-first":
        stage.task("rmdir", remove_all)
    else:
        for level in range(depth):
            add_remover(level)
    stage.task("free", free_some, cpu=1)
    stage.wind_up(free_the_others)
    if stage.kernel in WITHOUT_REPARENTING:
        stage.sometimes("a leaf keeps its ancestors dying", lambda: machine.root_cgroup.nr_dying_descendants == depth)
    else:
        stage.sometimes("a cache has been reparented to the root", lambda: bool(machine.root_mem_cgroup.kmem_caches))
    stage.eventually("every cgroup is gone", stage.only_session_left)
    stage.eventually("no child cache is left", lambda: not machine.child_caches)
