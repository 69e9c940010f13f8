"""Small races for exhaustive search: a cgroup's memcg goes offline while its only child cache is used.

The cgroup has been killed before the race begins; css_killed_work_fn() waits for cgroup_mutex, which the set-up then
releases. A page of user memory keeps the memcg until the end, so that its release is not part of the race.
"""

from __future__ import annotations

import attrs

from actors.api import Cgroup, Context, KmemCache, MutexHeld, SlabObject, kmem_cache_destroy, kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import cgroup_destroy_locked
from actors.linux.mm.memcontrol import mem_cgroup_try_charge, mem_cgroup_uncharge
from scenarios.api import MACHINE, RCU, Stage, fill, mkdir, scenario, small_cache, warm_up

KNOBS = (*MACHINE, attrs.evolve(RCU, default="eager"))


@scenario("offline-vs-free", "a killed memcg goes offline while the last object of its cache is freed", *KNOBS)
def offline_vs_free(stage: Stage) -> None:
    cache, kept = build(stage, objects=1)
    stage.task("free", lambda ctx: kmem_cache_free(ctx, cache, kept[0]), cpu=1)
    stage.eventually("no child cache is left", lambda: not stage.machine.child_caches)


@scenario("offline-vs-destroy", "a killed memcg goes offline while the root of its empty cache is destroyed", *KNOBS)
def offline_vs_destroy(stage: Stage) -> None:
    cache, _ = build(stage, objects=0)
    stage.task("rmmod", lambda ctx: kmem_cache_destroy(ctx, cache), cpu=1)
    stage.eventually("no cache is left", lambda: not stage.machine.all_caches)


@scenario(
    "offline-vs-exit",
    "a killed memcg goes offline while a module frees the last object of its cache and destroys the root",
    *KNOBS,
)
def offline_vs_exit(stage: Stage) -> None:
    cache, kept = build(stage, objects=1)

    async def exit_module(ctx: Context) -> None:
        await kmem_cache_free(ctx, cache, kept[0])
        await kmem_cache_destroy(ctx, cache)

    stage.task("rmmod", exit_module, cpu=1)
    stage.eventually("no cache is left", lambda: not stage.machine.all_caches)


def build(stage: Stage, *, objects: int) -> tuple[KmemCache, list[SlabObject]]:
    """Set the stage; return the root cache and the list of the objects that the killed cgroup has in use."""
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []

    async def kill_cgroup(ctx: Context) -> None:
        cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        cgroups.append(cgroup)
        await warm_up(ctx, cgroup, cache)
        kept.extend(await fill(ctx, cgroup, cache, objects))
        assert cgroup.css.memcg is not None, "mkdir makes one"
        await mem_cgroup_try_charge(ctx, cgroup.css.memcg)
        async with MutexHeld(ctx, machine.cgroup_mutex):
            await cgroup_destroy_locked(ctx, cgroup)
            await ctx.settle()

    async def let_go(ctx: Context) -> None:
        memcg = cgroups[0].css.memcg
        assert memcg is not None, "the page keeps it"
        await mem_cgroup_uncharge(ctx, memcg)

    stage.set_up(kill_cgroup, settles=False)
    stage.wind_up(let_go)
    return cache, kept
