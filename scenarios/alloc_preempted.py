"""Tasks of one CPU allocate and free objects, and preempt each other in the middle.

SLUB's fast path reads the CPU's freelist and its tid, and takes the first object by one cmpxchg on both. Other tasks
may take the objects behind the first one and then free the first one again. The freelist then starts with the same
object, and only the tid has changed (KERNEL.md 4.3, F3). SLAB has interrupts off in this part.
"""

from __future__ import annotations

from actors.api import Context, SlabObject, kmem_cache_alloc, kmem_cache_free
from scenarios.api import MACHINE, Knob, Stage, fill, scenario, small_cache


@scenario(
    "alloc-preempted",
    "tasks of one CPU allocate and free objects, and preempt each other in the middle",
    Knob("rounds", "how often each task allocates two objects and frees them, the first one first", 4, least=1),
    *MACHINE,
)
def alloc_preempted(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    root = machine.root_cache("alpha")

    async def make_slab(ctx: Context) -> None:
        """Give the CPU a slab whose objects are all free."""
        for obj in await fill(ctx, machine.root_cgroup, root, 1):
            await kmem_cache_free(ctx, root, obj)

    async def allocate_and_free(ctx: Context) -> None:
        for _ in range(stage.knobs["rounds"]):
            made: list[SlabObject | None] = [await kmem_cache_alloc(ctx, root) for _ in range(2)]
            for obj in made:
                if obj is not None:
                    await kmem_cache_free(ctx, root, obj)

    stage.set_up(make_slab)
    for number in range(2):
        stage.task(f"allocate{number}", allocate_and_free)
    stage.sometimes("both tasks have objects", lambda: root.live_objects > 1)
