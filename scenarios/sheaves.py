"""Sheaves, 7.2's arrays of free objects: filled on one CPU and used on another, interrupted, flushed, given to RCU.

A task that finds no full sheaf fills one from slabs. It holds no lock then, and may sleep and wake up on another CPU; a
flush that comes meanwhile does not see the sheaf (KERNEL-7.2 N1.2, N1.13). An interrupt that comes while a CPU's
sheaves are locked goes to the slabs instead. In the second scenario a kfree_rcu() makes an rcu sheaf full while the
cache is destroyed: the barrier must not overlook the sheaf, which is in no place for a moment (KERNEL-7.2 N2.4).
"""

from __future__ import annotations

import attrs

from actors.api import (
    Context,
    KmemCache,
    Machine,
    RcuHead,
    SlabObject,
    call_rcu,
    kmem_cache_alloc,
    kmem_cache_destroy,
    kmem_cache_free,
    kmem_cache_shrink,
)
from actors.linux.include.rcupdate import kfree_rcu_object
from actors.linux.kernel.locking.locks import LOCAL_TRYLOCK
from actors.versions.profiles import WITH_SHEAVES
from scenarios.api import MACHINE, MEMORY, Body, Knob, Stage, scenario, small_cache

PER_SLAB = 4
POLL_NS = 500


@scenario(
    "sheaf-moves",
    "a task fills a sheaf and may be moved meanwhile; interrupts free objects, and another task shrinks the cache",
    attrs.evolve(MEMORY, default="short"),
    Knob("objects", "objects that the task allocates", 2, least=1, most=60),
    Knob("freed", "objects that interrupts free on each of two CPUs", 2, least=1, most=60),
    *MACHINE,
    kernels=WITH_SHEAVES,
)
def sheaf_moves(stage: Stage) -> None:
    stage.has_session = False  # nothing here belongs to a cgroup
    machine = stage.boot(caches=[small_cache("module", objects=PER_SLAB)])
    cache = machine.root_cache("module")
    kept: list[SlabObject] = []

    async def leave_slabs(ctx: Context) -> None:
        """Keep objects for the interrupts, and leave no object in a sheaf."""
        for _ in range(2 * stage.knobs["freed"]):
            obj = await kmem_cache_alloc(ctx, cache)
            if obj is not None:
                kept.append(obj)
        await kmem_cache_shrink(ctx, cache)

    async def allocate(ctx: Context) -> None:
        made = [await kmem_cache_alloc(ctx, cache) for _ in range(stage.knobs["objects"])]
        for obj in made:
            if obj is not None:
                await kmem_cache_free(ctx, cache, obj)

    def free_later(number: int) -> Body:
        async def give(ctx: Context) -> None:
            """RCU frees half of the objects on this CPU."""
            for obj in kept[number::2]:
                await call_rcu(ctx, RcuHead(obj.slab), Free(obj).callback)

        return give

    async def shrink(ctx: Context) -> None:
        await kmem_cache_shrink(ctx, cache)

    stage.set_up(leave_slabs)
    task = stage.task("open", allocate, migrates=True)
    for number in range(2):
        stage.task(f"close{number}", free_later(number), cpu=number)
    stage.task("echo", shrink, cpu=1)
    stage.wind_up(shrink)
    filling = Filling(task)
    if len(machine.cpus) > 1:
        stage.sometimes("a sheaf is filled on one CPU and used on another", filling.has_moved)
    stage.sometimes(
        "the CPUs are flushed while a task fills a sheaf",
        lambda: machine.flush_lock.holder is not None and filling.is_going_on,
    )
    stage.sometimes("an interrupt comes while the sheaves are locked", lambda: is_interrupted(machine, cache))
    stage.eventually("every object is free, and every slab is gone", lambda: not cache.slabs)


@attrs.frozen
class Free:
    """An object that an RCU callback frees."""

    obj: SlabObject

    async def callback(self, ctx: Context, _head: RcuHead) -> None:
        await kmem_cache_free(ctx, self.obj.slab.slab_cache, self.obj)


@attrs.define
class Filling:
    """What can be seen of a task that fills a sheaf; `cpu` is the CPU where it last went to the slabs for that."""

    task: Context
    cpu: object = None

    @property
    def is_going_on(self) -> bool:
        """Whether the task is on its way to the slabs, without a lock."""
        return not self.task.finished and self.task.request.code.co_name in (
            "alloc_pages",
            "alloc_slab_page",
            "alloc_from_new_slab",
            "get_partial_node_bulk",
            "get_freelist_nofreeze",
        )

    def has_moved(self) -> bool:
        """Whether the task stands before the lock of another CPU's sheaves than those that it found empty."""
        request = self.task.request
        if request.info is not LOCAL_TRYLOCK:
            if self.cpu is None and self.is_going_on:
                self.cpu = self.task.cpu
            return False
        was, self.cpu = self.cpu, None
        return request.code.co_name == "__pcs_replace_empty_main" and was is not None and was is not self.task.cpu


def is_interrupted(machine: Machine, cache: KmemCache) -> bool:
    """Whether a handler runs on a CPU whose sheaves of *cache* are locked."""
    return any(pcs.lock.holder is not None and machine.cpus[pcs.cpu].in_softirq for pcs in cache.cpu_sheaves)


@scenario(
    "destroy-vs-full-sheaf",
    "a cache is destroyed while a kfree_rcu() on another CPU gives its full sheaf to RCU",
    *MACHINE,
    kernels=WITH_SHEAVES,
)
def destroy_vs_full_sheaf(stage: Stage) -> None:
    stage.has_session = False
    machine = stage.boot(caches=[small_cache("module", objects=1)])
    module = machine.root_cache("module")
    pcs = module.cpu_sheaves[-1]
    objects: list[SlabObject] = []

    async def allocate(ctx: Context) -> None:
        """As many objects of this CPU's node as a sheaf has room for."""
        await ctx.migrate(machine.cpus[-1])
        while len(objects) < module.sheaf_capacity:
            obj = await kmem_cache_alloc(ctx, module)
            if obj is not None:
                objects.append(obj)

    async def give(ctx: Context) -> None:
        while objects:
            await kfree_rcu_object(ctx, module, objects.pop())

    async def unload(ctx: Context) -> None:
        """The module's exit, as soon as the last kfree_rcu() is under way; what comes after, it must wait for."""
        while objects or not (pcs.lock.holder is not None or giver.finished):
            await ctx.sleep(POLL_NS)
            await ctx.ask(pcs.has_rcu_free)
        await kmem_cache_destroy(ctx, module)

    stage.set_up(allocate)
    giver = stage.task("give", give, cpu=pcs.cpu)
    stage.task("rmmod", unload)
    stage.sometimes(
        "the full sheaf is in no place while the cache is destroyed",
        lambda: machine.flush_lock.holder is not None and pcs.lock.holder is not None and pcs.rcu_free is None,
    )
    stage.eventually("the cache is gone", lambda: not machine.all_caches)
