"""A task is moved to another CPU and back while it frees objects; other tasks allocate on both CPUs.

SLUB's fast path reads the CPU's slab and its tid with preemption on. Its cmpxchg fails on the tid if the task is now on
another CPU, or if the CPU has another slab (KERNEL.md 4.5, D2). SLAB has interrupts off from its first access to the
array, so the task can be moved only before or after.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, SlabObject, kmem_cache_alloc, kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task
from actors.linux.kernel.sched.fair import RunQueues, load_balance
from actors.linux.mm.kmem_cache import KmemCacheCpu
from actors.linux.mm.slub import CMPXCHG_FREELIST
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, fill, mkdir, rmdir, scenario, small_cache, warm_up

OBJECTS = 4


@scenario(
    "free-migrates",
    "a task that frees objects is moved from CPU to CPU between its steps",
    Knob("moves", "how often each CPU pulls the task over", 2, least=1),
    Knob("allocations", "objects that each CPU allocates at the same time", 3, least=1),
    *MACHINE,
)
def free_migrates(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha", objects=OBJECTS)])
    cache = machine.root_cache("alpha")
    queues = RunQueues.boot(stage.world)
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []
    workers: list[Context] = []

    async def fill_slab(ctx: Context) -> None:
        """Leave two objects in use and two free ones in the CPU's slab."""
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await warm_up(ctx, cgroups[0], cache)
        kept.extend(await fill(ctx, cgroups[0], cache, OBJECTS // 2))
        for worker in workers:
            await cgroup_attach_task(ctx, cgroups[0], worker)

    async def free(ctx: Context) -> None:
        for obj in kept:
            await kmem_cache_free(ctx, cache, obj)

    async def allocate(ctx: Context) -> None:
        made = [await kmem_cache_alloc(ctx, cache) for _ in range(stage.knobs["allocations"])]
        for obj in made:
            if obj is not None:
                await kmem_cache_free(ctx, cache, obj)

    async def pull(ctx: Context) -> None:
        for _ in range(stage.knobs["moves"]):
            await load_balance(ctx, queues, freer)

    async def remove(ctx: Context) -> None:
        await rmdir(ctx, cgroups[0])
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(fill_slab)
    freer = stage.task("free", free, migrates=True)
    for cpu in range(min(2, len(machine.cpus))):
        workers.append(stage.task(f"allocate{cpu}", allocate, cpu=cpu))
        stage.task(f"idle{cpu}", pull, cpu=cpu)
    stage.wind_up(remove)
    if len(machine.cpus) > 1:
        stage.sometimes("the task is moved while it frees", lambda: is_moved(freer))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def is_moved(task: Context) -> bool:
    """Whether a task that frees has left the CPU whose slab it read; without CPU slabs, the CPU where it began."""
    request = task.request
    if request.info is CMPXCHG_FREELIST and isinstance(request.target, KmemCacheCpu) and task.cpu is not None:
        return request.target.cpu != task.cpu.id
    has_cpu_slabs = any(cache.cpu_slab for cache in task.machine.all_caches)
    return not has_cpu_slabs and task.cpu is not task.machine.cpus[0]
