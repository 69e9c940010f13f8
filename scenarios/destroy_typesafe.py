"""kmem_cache_destroy() of SLAB_TYPESAFE_BY_RCU roots whose children still have an empty slab on a partial list.

The slab is freed only after a grace period; until then the memcg that it is charged to must be reachable from it. In
the second scenario two such roots are destroyed at the same time. All caches that wait for the grace period are on one
list, and the first run of the work takes all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.api import Cgroup, Context, KmemCache, SlabFlags, kmem_cache_create, kmem_cache_destroy, kmem_cache_free
from scenarios.api import MACHINE, Knob, Stage, fill, mkdir, scenario, small_cache, warm_up

OBJECTS = 2


@scenario(
    "destroy-typesafe",
    "a type-safe root cache with an empty slab in a child cache is destroyed",
    *MACHINE,
    also=("memcg-pointer-before-rcu-free", "b749ecfaf6c5"),
)
def destroy_typesafe(stage: Stage) -> None:
    build(stage, ["typesafe"])


@scenario(
    "destroy-two-typesafe",
    "two type-safe root caches with empty slabs in child caches are destroyed at the same time",
    Knob("reads", "steps of a lookup under RCU that runs at the same time", 16, least=1),
    *MACHINE,
)
def destroy_two_typesafe(stage: Stage) -> None:
    build(stage, ["typesafe", "typesafe2"])

    async def look_up(ctx: Context) -> None:
        """A long RCU read-side section, as of a lookup of type-safe objects; grace periods wait for it."""
        with ctx.rcu_read_section:
            for _ in range(stage.knobs["reads"]):
                await ctx.ask(stage.machine.kmem_enabled.is_enabled)

    stage.task("lookup", look_up, cpu=1)
    to_destroy = stage.machine.slab_caches_to_rcu_destroy
    stage.sometimes("both wait for one grace period", lambda: sum(s.is_root_cache for s in to_destroy.caches) == 2)


def build(stage: Stage, names: Sequence[str]) -> None:
    """Set the stage with a root cache for each of *names*; each one is destroyed by a task of its own."""
    machine = stage.boot(caches=[small_cache(names[0], objects=OBJECTS)])
    roots = [machine.root_cache(names[0])]

    async def make_cgroup(ctx: Context) -> None:
        for name in names[1:]:
            flags = SlabFlags.ACCOUNT | SlabFlags.TYPESAFE_BY_RCU
            root = await kmem_cache_create(ctx, small_cache(name, objects=OBJECTS), flags)
            if root is not None:
                roots.append(root)
        cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        for root in roots:
            await leave_empty_slabs(ctx, cgroup, root)

    async def leave_empty_slabs(ctx: Context, cgroup: Cgroup, root: KmemCache) -> None:
        """Fill two slabs and free their objects on the other CPU: at least one empty slab stays on the node's list."""
        await ctx.migrate(machine.cpus[0])
        await warm_up(ctx, cgroup, root)
        made = await fill(ctx, cgroup, root, 2 * OBJECTS)
        await ctx.migrate(machine.cpus[-1])
        for obj in made:
            await kmem_cache_free(ctx, root, obj)

    def add_destroyer(number: int) -> None:
        async def destroy(ctx: Context) -> None:
            for root in roots[number : number + 1]:
                await kmem_cache_destroy(ctx, root)

        stage.task(f"rmmod{number or ''}", destroy, cpu=number)

    stage.set_up(make_cgroup)
    for number in range(len(names)):
        add_destroyer(number)
    stage.sometimes(
        "a freed slab waits for a grace period",
        lambda: any(slab.rcu_head.queued for child in machine.child_caches for slab in child.slabs),
    )
    stage.eventually("no cache is left", lambda: not machine.all_caches)
