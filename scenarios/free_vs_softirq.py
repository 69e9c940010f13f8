"""A task frees objects of full slabs; between its steps RCU callbacks in a softirq of the same CPU do it too.

Both put slabs onto this CPU's partial list and objects back into its slab. SLUB takes no lock for this: a cmpxchg fails
if the other one came in between (KERNEL.md 4.5). SLAB has interrupts off.
"""

from __future__ import annotations

from actors.api import Context, SlabObject, kmem_cache_free
from scenarios.api import MACHINE, Knob, Stage, fill, scenario, small_cache
from scenarios.free_vs_destroy import free_by_rcu

OBJECTS = 2


@scenario(
    "free-vs-softirq",
    "objects of full slabs are freed by a task, and by RCU callbacks in the softirq of its CPU",
    Knob("slabs", "full slabs; the task frees objects of every other one", 8, least=2, most=60),
    *MACHINE,
)
def free_vs_softirq(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha", objects=OBJECTS)])
    root = machine.root_cache("alpha")
    kept: list[SlabObject] = []

    async def fill_slabs(ctx: Context) -> None:
        """Fill slabs; the last one is the CPU's slab, the others are on no list."""
        kept.extend(await fill(ctx, machine.root_cgroup, root, OBJECTS * stage.knobs["slabs"]))

    async def free(ctx: Context) -> None:
        """Queue the callbacks, then free directly; the callbacks run in between if a grace period ends then."""
        for obj in kept[:: 2 * OBJECTS]:
            await free_by_rcu(ctx, root, obj)
        for obj in kept[OBJECTS :: 2 * OBJECTS]:
            await kmem_cache_free(ctx, root, obj)

    stage.set_up(fill_slabs)
    task = stage.task("free", free)
    stage.sometimes(
        "a callback runs between two steps of the task",
        lambda: machine.cpus[0].in_softirq and not task.finished,
    )
