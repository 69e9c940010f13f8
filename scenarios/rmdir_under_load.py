"""Cgroups are removed while their tasks, moved away in the middle of their work, still allocate, and others free.

On every CPU a worker allocates in a cgroup, and a reaper frees what a worker of another CPU allocated. A
manager moves the workers to the root cgroup and removes the cgroups, at any time: allocations that chose a
child cache before the move go on in it during offline, deactivation and reparenting (KERNEL.md 7.3), and frees
come from everywhere.
"""

from __future__ import annotations

from collections import deque

import attrs

from actors.kernel.cgroup import Cgroup
from actors.kernel.context import Context
from actors.kernel.machine import Machine
from actors.kernel.slab import KmemCache, SlabFlags, SlabObject
from actors.kernel.slub import kmem_cache_free
from actors.kernel.slub_alloc import kmem_cache_alloc
from actors.system.actor import Actor, Shared
from protocol.operations import UPDATE, operation
from scenarios.registry import CPUS, SLABINFO, Knob, scenario
from scenarios.stage import Stage, enter, mkdir, move, rmdir

CACHES = ("task_struct", "sighand_cache")


@attrs.define(eq=False)
class Handover(Shared):
    """Objects on their way from the CPU that allocated them to the CPU that frees them; None ends it."""

    name: str
    objects: deque[SlabObject | None] = attrs.field(factory=deque, init=False)

    @property
    def label(self) -> str:
        return self.name

    def has_object(self) -> bool:
        return bool(self.objects)

    @operation(UPDATE)
    def put(self, obj: SlabObject | None) -> None:
        self.objects.append(obj)

    @operation(UPDATE, when=has_object, sleeps=True)
    def take(self) -> SlabObject | None:
        return self.objects.popleft()


@scenario(
    "rmdir-under-load",
    "cgroups are removed while allocations and frees, also on other CPUs, go on",
    Knob("cgroups", "cgroups that are removed", 2, least=1, most=100),
    Knob("objects", "objects that each worker allocates", 6, least=1),
    Knob("reclaim", "milliseconds that an allocation of pages sleeps if it has to reclaim; 0: none has to", 100),
    Knob("bystanders", "cgroups that stay: with none, kmem accounting is switched off in between", 1, most=100),
    Knob("migrate", "whether a worker that sleeps may wake up on another CPU", "yes", "choice", choices=("yes", "no")),
    CPUS,
    SLABINFO,
)
def rmdir_under_load(stage: Stage) -> None:
    machine = stage.boot("filp", "dentry", "shmem_inode_cache", *CACHES)
    machine.buddy.reclaim_ns = stage.knobs["reclaim"] * 1_000_000
    caches = [machine.root_cache(name) for name in CACHES]
    cpus = range(len(machine.cpus))
    handovers = [Handover(Actor(machine.world, f"handover{cpu}"), f"handover{cpu}") for cpu in cpus]
    workers: list[Context] = []
    cgroups: list[Cgroup] = []

    async def manage(ctx: Context) -> None:
        for number in range(stage.knobs["bystanders"]):
            await mkdir(ctx, machine.root_cgroup, f"stays{number}")
        for number in range(stage.knobs["cgroups"]):
            cgroups.append(await mkdir(ctx, machine.root_cgroup, f"load{number}"))
            await warm_up(ctx, cgroups[-1], caches)
        for cpu in cpus:
            worker = start_worker(cpu)
            workers.append(worker)
            await move(ctx, worker, cgroups[cpu % len(cgroups)])
        for worker in workers:
            await move(ctx, worker, machine.root_cgroup)
        for cgroup in cgroups:
            await rmdir(ctx, cgroup)

    def start_worker(cpu: int) -> Context:
        async def work(ctx: Context) -> None:
            for number in range(stage.knobs["objects"]):
                obj = await kmem_cache_alloc(ctx, caches[number % len(caches)])
                await ctx.ask(handovers[cpu].put, obj)
            await ctx.ask(handovers[cpu].put, None)

        return stage.task(f"worker{cpu}", work, cpu=cpu, migrates=stage.knobs["migrate"] == "yes")

    def start_reaper(cpu: int) -> None:
        async def reap(ctx: Context) -> None:
            while (obj := await ctx.ask(handovers[cpu].take)) is not None:
                await kmem_cache_free(ctx, obj)

        stage.task(f"reaper{cpu}", reap, cpu=cpu + 1)

    stage.task("manager", manage)
    for cpu in cpus:
        start_reaper(cpu)
    stage.sometimes("an allocation runs in a cache that is deactivated", lambda: any(map(is_late, children(machine))))
    stage.sometimes("an object outlives its cgroup", lambda: machine.root_cgroup.nr_dying_descendants > 0)
    stage.eventually("no cgroup is dying", lambda: not is_dying_without_reason(machine))


async def warm_up(ctx: Context, cgroup: Cgroup, caches: list[KmemCache]) -> None:
    """Have the child caches of *cgroup* created."""
    await enter(ctx, cgroup)
    for cache in caches:
        obj = await kmem_cache_alloc(ctx, cache)
        if obj is not None:
            await kmem_cache_free(ctx, obj)
    await enter(ctx, ctx.machine.root_cgroup)
    await ctx.settle()


def children(machine: Machine) -> list[KmemCache]:
    return [child for root in machine.slab_root_caches for child in root.children]


def is_late(cache: KmemCache) -> bool:
    """Whether an allocation that chose *cache* in time is still at it."""
    is_deactivated = SlabFlags.DEACTIVATED in cache.flags or cache.work_fn is not None
    return is_deactivated and cache.inflight > 0


def is_dying_without_reason(machine: Machine) -> bool:
    """A dying cgroup that no per-CPU stock and no object pins."""
    stocked = {stock.cached for stock in machine.stocks if stock.nr_pages}
    dying = [memcg for memcg in machine.memcgs() if memcg.css.cgroup.is_dead]
    pinned = any(cache.live_objects for memcg in dying for cache in memcg.kmem_caches)
    return bool(dying) and not pinned and not stocked
