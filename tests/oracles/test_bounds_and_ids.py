"""Accesses beyond an array, ids without an owner, slabs that are freed too early, and cgroups that mkdir leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from actors.linux.include.slab import SlabFlags, kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import cgroup_create, cgroup_mkdir
from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.linux.kernel.rcu.tree import synchronize_rcu
from actors.linux.mm.kmem_cache import KmemCache, MemcgCacheArray
from actors.linux.mm.list_lru import ListLruMemcg, ListLruNode
from actors.linux.mm.slab_def import THIS_CPU_ARRAY
from actors.linux.mm.slub import __free_slab
from actors.machine.context import Context
from actors.system.actor import Actor
from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign
from protocol.findings import Oops
from scenarios.stage import Stage, small_cache
from tests.helpers import make_scenario, make_world

Body = Callable[[Context, KmemCache], Awaitable[None]]


def reported(body: Body, allocator: str = "slab") -> set[str]:
    """The signatures of one run of *body* by a task, with a root cache."""

    def build(stage: Stage) -> None:
        root = stage.boot(caches=[small_cache("alpha")]).root_cache("alpha")
        stage.task("task", lambda ctx: body(ctx, root))

    options = RunOptions(
        scenario="bounds", kernel="5.4-fixed", driver="stepper", strategy="random", settings={"allocator": allocator}
    )
    campaign = Campaign(Experiment.of(options, make_scenario("bounds", build)), options, budget=1)
    campaign.run()
    return {signature.rpartition(":")[0] for signature in campaign.found}


# -- arrays -----------------------------------------------------------------------------------------------------------


async def put_too_many(ctx: Context, root: KmemCache) -> None:
    obj = await kmem_cache_alloc(ctx, root)
    assert obj is not None
    with ctx.irq_section:
        await ctx.this_cpu(root, THIS_CPU_ARRAY)
        root.cpu_cache[0].put(*[obj] * (root.cpu_cache[0].limit + 1))


async def take_from_none(ctx: Context, root: KmemCache) -> None:
    with ctx.irq_section:
        await ctx.this_cpu(root, THIS_CPU_ARRAY)
        root.cpu_cache[0].pop()


async def leave_irqs_on(ctx: Context, root: KmemCache) -> None:
    await kmem_cache_alloc(ctx, root)
    root.cpu_cache[0].take_oldest(1)


async def take_no_lock(_ctx: Context, root: KmemCache) -> None:
    shared = root.slab_node[0].shared
    assert shared is not None
    shared.take_oldest(1)


async def take_lock(ctx: Context, root: KmemCache) -> None:
    n = root.slab_node[0]
    assert n.shared is not None
    async with SpinLockHeld(ctx, n.list_lock):
        n.shared.take_oldest(1)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (put_too_many, {"bug:slab-out-of-bounds"}),
        (take_from_none, {"bug:slab-out-of-bounds"}),
        (leave_irqs_on, {"bug:check_irq_off: !irqs_disabled()"}),
        (take_no_lock, {"lockdep:&(&n->list_lock)->rlock is not held"}),
        (take_lock, set()),
    ],
)
def test_the_arrays_of_slab_have_room_for_so_many_and_are_protected(body: Body, expected: set[str]) -> None:
    assert reported(body) == expected


def test_growing_an_array_copies_no_more_than_its_length() -> None:
    actor = Actor(make_world()[0], "owner")
    entries = MemcgCacheArray(actor, KmemCache.__new__(KmemCache), [None] * 4)
    node = ListLruNode(actor, "lru", 0)
    lists = ListLruMemcg(actor, "lru", []).grown(node, 0, 4)

    assert len(entries.grown(8, 4).entries) == 8
    assert lists.grown(node, 4, 8).lru[:4] == lists.lru
    with pytest.raises(Oops, match="slab-out-of-bounds"):
        lists.grown(node, 5, 8)


# -- at rest ----------------------------------------------------------------------------------------------------------


async def lose_id(ctx: Context, _root: KmemCache) -> None:
    await ctx.ask(ctx.machine.memcg_cache_ida.ida_simple_get)


async def give_id_back_too_early(ctx: Context, _root: KmemCache) -> None:
    await cgroup_mkdir(ctx, ctx.machine.root_cgroup, "job")
    await ctx.ask(ctx.machine.memcg_cache_ida.ida_simple_remove, 0)


async def leave_cgroup(ctx: Context, _root: KmemCache) -> None:
    await cgroup_create(ctx, ctx.machine.root_cgroup, "left")


@pytest.mark.parametrize(
    ("body", "expected"),
    [(lose_id, "invariant:ids"), (give_id_back_too_early, "invariant:ids"), (leave_cgroup, "invariant:cgroup")],
)
def test_ids_and_cgroups_without_an_owner_are_found(body: Body, expected: str) -> None:
    assert reported(body) == {expected}


# -- type-safe slabs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", [True, False])
def test_a_type_safe_slab_waits_for_its_readers(*, waits: bool) -> None:
    async def give_slab_back(ctx: Context, _root: KmemCache) -> None:
        s = await kmem_cache_create(ctx, small_cache("beta"), SlabFlags.TYPESAFE_BY_RCU)
        assert s is not None
        obj = await kmem_cache_alloc(ctx, s)
        assert obj is not None
        await kmem_cache_free(ctx, s, obj)
        if waits:
            await synchronize_rcu(ctx)
        await __free_slab(ctx, s, obj.slab)

    assert ("invariant:type-safe" in reported(give_slab_back, "slub")) is not waits
