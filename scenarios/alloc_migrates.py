"""Tasks allocate objects, and wake up on another node in the middle of an allocation.

An allocation that finds no free object needs pages, and may sleep until it gets them. The task may wake up on any CPU.
The new slab is memory of the node where the task slept, but the per-CPU and per-node structures that the task reads now
may belong to another node (KERNEL.md 4.3, S8; 4.7).
"""

from __future__ import annotations

from actors.api import Context, kmem_cache_alloc, kmem_cache_free
from scenarios.api import Knob, Stage, machine, scenario, small_cache

OBJECTS = 2


@scenario(
    "alloc-migrates",
    "tasks that allocate objects wake up on another node in the middle",
    Knob("objects", "objects that each of two tasks allocates, then frees", 3, least=1),
    *machine(allocator="slab", nodes=2),
)
def alloc_migrates(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha", objects=OBJECTS)])
    root = machine.root_cache("alpha")

    async def allocate_and_free(ctx: Context) -> None:
        made = [await kmem_cache_alloc(ctx, root) for _ in range(stage.knobs["objects"])]
        for obj in made:
            if obj is not None:
                await kmem_cache_free(ctx, root, obj)

    tasks = [stage.task(f"allocate{cpu}", allocate_and_free, cpu=cpu, migrates=True) for cpu in range(2)]
    if len(machine.cpus) > 1:
        stage.sometimes(
            "a task is not on the CPU where it began",
            lambda: any(task.cpu is not machine.cpus[cpu] for cpu, task in enumerate(tasks)),
        )
