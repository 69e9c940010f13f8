"""Cgroups are removed while tasks that were just moved out still allocate, and other tasks free.

On every CPU a worker allocates in a cgroup, and a reaper frees the objects that the worker of another CPU allocated. A
manager moves the workers to the root cgroup and removes the cgroups, at any time. An allocation that chose a child
cache before the move goes on in it during offline, deactivation and reparenting (KERNEL.md 7.3). Frees come from every
CPU.
"""

from __future__ import annotations

from collections import deque

import attrs

from actors.api import (
    UPDATE,
    Actor,
    Cgroup,
    Context,
    KmemCache,
    Shared,
    SlabObject,
    kmem_cache_alloc,
    kmem_cache_free,
    operation,
)
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, mkdir, rmdir, scenario, warm_up

CACHES = ("task_struct", "sighand_cache")


@attrs.define(eq=False)
class Handover(Shared):
    """A queue of objects from the CPU that allocates them to the CPU that frees them; None marks its end."""

    name: str
    objects: deque[tuple[KmemCache, SlabObject] | None] = attrs.field(factory=deque, init=False)

    @property
    def label(self) -> str:
        return self.name

    def has_object(self) -> bool:
        return bool(self.objects)

    @operation(UPDATE)
    def put(self, obj: tuple[KmemCache, SlabObject] | None) -> None:
        self.objects.append(obj)

    @operation(UPDATE, when=has_object, sleeps=True, lifecycle=True)
    def take(self) -> tuple[KmemCache, SlabObject] | None:
        return self.objects.popleft()


@scenario(
    "rmdir-under-load",
    "cgroups are removed while tasks on every CPU allocate and free",
    Knob("cgroups", "cgroups that are removed", 2, least=1, most=100),
    Knob("objects", "objects that each worker allocates", 6, least=1),
    Knob("memory", "short: an allocation of pages may have to reclaim and sleep", "short", choices=("short", "plenty")),
    Knob("migrate", "whether a worker that sleeps may wake up on another CPU", "yes", choices=("yes", "no")),
    *MACHINE,
)
def rmdir_under_load(stage: Stage) -> None:
    machine = stage.boot(*CACHES)
    caches = [machine.root_cache(name) for name in CACHES]
    cpus = range(len(machine.cpus))
    handovers = [Handover(Actor(machine.world, f"handover{cpu}"), f"handover{cpu}") for cpu in cpus]
    cgroups: list[Cgroup] = []

    async def make_cgroups(ctx: Context) -> None:
        for number in range(stage.knobs["cgroups"]):
            cgroups.append(await mkdir(ctx, machine.root_cgroup, f"load{number}"))
            await warm_up(ctx, cgroups[-1], *caches)
        for cpu, worker in enumerate(workers):
            await cgroup_attach_task(ctx, cgroups[cpu % len(cgroups)], worker)

    async def manage(ctx: Context) -> None:
        for worker in workers:
            await cgroup_attach_task(ctx, machine.root_cgroup, worker)
        for cgroup in cgroups:
            await rmdir(ctx, cgroup)

    def add_worker(cpu: int) -> Context:
        async def work(ctx: Context) -> None:
            for number in range(stage.knobs["objects"]):
                cache = caches[number % len(caches)]
                obj = await kmem_cache_alloc(ctx, cache)
                if obj is not None:
                    await ctx.ask(handovers[cpu].put, (cache, obj))
            await ctx.ask(handovers[cpu].put, None)

        return stage.task(f"worker{cpu}", work, cpu=cpu, migrates=stage.knobs["migrate"] == "yes")

    def add_reaper(cpu: int) -> None:
        async def reap(ctx: Context) -> None:
            while (given := await ctx.ask(handovers[cpu].take)) is not None:
                await kmem_cache_free(ctx, *given)

        stage.task(f"reaper{cpu}", reap, cpu=cpu + 1)

    stage.set_up(make_cgroups)
    stage.task("manager", manage)
    workers = [add_worker(cpu) for cpu in cpus]
    for cpu in cpus:
        add_reaper(cpu)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("an allocation runs in a cache that is deactivated", stage.has_late_allocation)
    stage.sometimes("an object outlives its cgroup", lambda: machine.root_cgroup.nr_dying_descendants > 0)
    stage.eventually("every cgroup is gone", stage.only_session_left)
