"""LRU lists and shrinkers of 6.12: lists on demand, add and delete against removal, deferred work."""

from __future__ import annotations

import pytest

from actors.linux.include.memcontrol import mem_cgroup_from_slab_obj
from actors.linux.kernel.locking.locks import MutexHeld, SpinLockIrqHeld, spin_lock, spin_unlock
from actors.linux.kernel.rcu.tree import synchronize_rcu
from actors.linux.mm.list_lru import (
    ListLru,
    ListLruMemcgNodes,
    ListLruWalk,
    LruItem,
    LruList,
    LruStatus,
    list_lru_add,
    list_lru_count_one,
    list_lru_del,
    list_lru_walk_node,
    list_lru_walk_one,
    memcg_list_lru_alloc,
    memcg_reparent_list_lru,
    store_lists,
)
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.shrinker import (
    add_nr_deferred,
    alloc_shrinker_info,
    free_shrinker_info,
    infos_of,
    reparent_shrinker_deferred,
    set_shrinker_bit,
    shrink_slab,
    shrinker_alloc,
    shrinker_free,
    shrinker_put,
    xchg_nr_deferred,
)
from actors.linux.mm.vmscan import ShrinkControl, Shrinker
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL, Gfp
from actors.versions.kernel_fn import functions
from tests.today.lru_bench import KERNEL, Bench, Code, bench
from tests.today.lru_races import (
    add_without_rcu,
    adding,
    from_slab_obj_slowly,
    linked,
    on_list,
    prepare_one,
    race,
    removing_one,
)

FILE = "mm/list_lru.c"


def test_6_12_has_these_functions_and_none_of_the_arrays() -> None:
    for name in (
        "memcg_update_all_list_lrus",
        "memcg_drain_all_list_lrus",
        "mem_cgroup_from_kmem",
        "list_lru_from_kmem",
    ):
        assert functions()[name].body(KERNEL, "slub") is None
    for name in ("memcg_reparent_list_lrus", "memcg_list_lru_alloc", "set_shrinker_bit", "alloc_shrinker_info"):
        assert functions()[name].body(KERNEL, "slub") is not None
        assert functions()[name].body("5.4-fixed", "slub") is None
    added = functions()["list_lru_add"].body(KERNEL, "slub")
    assert added is not None
    assert added.name == "list_lru_add_obj"


# -- lists on demand (12.1, 12.4) -------------------------------------------------------------------------------------


def test_the_lists_of_a_memcg_and_its_ancestors_are_made_at_once() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        assert not lab.lru.xa.entries
        await linked(ctx, lab, lab.grandchild, 0, 1)
        assert sorted(lab.lru.xa.entries) == [1, 2, 3]
        assert (len(on_list(lab, 3, 0)), len(on_list(lab, 3, 1)), lab.lru.nodes[0].nr_items) == (1, 1, 1)
        assert lab.grandchild.shrinker_maps == {0: {lab.shrinker.id}, 1: {lab.shrinker.id}}
        before = dict(lab.lru.xa.entries)
        await linked(ctx, lab, lab.child, 0)
        assert lab.lru.xa.entries == before
        assert not lab.parent.shrinker_maps

    lab = bench(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


def test_an_item_that_is_charged_to_nobody_is_on_the_global_list() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        assert await memcg_list_lru_alloc(ctx, lab.machine.root_mem_cgroup, lab.lru, GFP_KERNEL)
        (item,) = await linked(ctx, lab, None, 1)
        assert on_list(lab, -1, 1) == [item]
        assert not await list_lru_add(ctx, lab.lru, item)
        assert await list_lru_count_one(ctx, lab.lru, 1, lab.machine.root_mem_cgroup) == 1
        assert await list_lru_del(ctx, lab.lru, item)
        assert not await list_lru_del(ctx, lab.lru, item)
        assert not lab.lru.xa.entries

    lab = bench(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


def test_an_add_without_lists_is_a_null_dereference() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        assert not await list_lru_count_one(ctx, lab.lru, 0, lab.child)
        assert not await lab.reclaim(ctx, lab.child, 0)
        await list_lru_add(ctx, lab.lru, lab.thing(lab.child))

    assert bench(story).findings == ["null-deref:list_lru_add(): l->list:list_lru_add"]


@pytest.mark.parametrize("kernel", ["6.12", "7.2"])
@pytest.mark.parametrize("fault", ["list_lru", "xarray"])
def test_an_allocation_that_fails_leaves_nothing(fault: str, kernel: str) -> None:
    made: list[bool] = []

    async def story(ctx: Context, lab: Bench) -> None:
        made.append(await memcg_list_lru_alloc(ctx, lab.grandchild, lab.lru, GFP_KERNEL))

    lab = bench(story, faults={fault: 1.0}, kernel=kernel)
    assert made == [fault == "xarray"], "a node of the tree is allocated without the lock"
    assert sorted(lab.lru.xa.entries) == ([1, 2, 3] if made[0] else [])
    assert (lab.findings, lab.wrongs()) == ([], set())


# -- removal (12.3) ---------------------------------------------------------------------------------------------------


def test_removal_gives_the_items_to_the_head_of_the_parents_list_and_frees_the_lists() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        of_parent = await linked(ctx, lab, lab.parent, 0)
        of_child = await linked(ctx, lab, lab.child, 0, 0, 1)
        mlru = lab.lru.xa.entries[2]
        lab.parent.shrinker_maps.clear()
        await lab.offline(ctx, lab.grandchild)
        assert lab.grandchild.kmemcg_id == 2
        await lab.offline(ctx, lab.child)
        assert (lab.child.kmemcg_id, lab.grandchild.kmemcg_id, sorted(lab.lru.xa.entries)) == (1, 1, [1])
        assert on_list(lab, 1, 0) == of_child[:2] + of_parent
        assert on_list(lab, 1, 1) == of_child[2:]
        assert lab.parent.shrinker_maps == {0: {lab.shrinker.id}, 1: {lab.shrinker.id}}
        assert mlru.freed is None
        await ctx.sleep(60 * 10**9)
        assert mlru.freed is not None
        assert await list_lru_del(ctx, lab.lru, of_child[0])
        await lab.offline(ctx, lab.parent)
        assert on_list(lab, -1, 0) == [of_child[1], *of_parent]

    lab = bench(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


def test_a_delete_between_the_new_id_and_the_splice_makes_a_negative_count_that_nobody_sees() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        (item,) = await linked(ctx, lab, lab.child, 0)
        lab.child.kmemcg_id = 1
        assert await list_lru_del(ctx, lab.lru, item)
        counts = [one.nr_items for _, one in lab.lru.nodes[0].lists()]
        assert counts == [0, -1, 1]
        assert await list_lru_count_one(ctx, lab.lru, 0, lab.parent) == 0
        lab.child.kmemcg_id = 2
        await lab.offline(ctx, lab.child)

    lab = bench(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


def test_a_walk_looks_its_list_up_again_after_the_lock_was_dropped() -> None:
    """The list goes while the callback has dropped the lock: the walk of the removed memcg's id ends."""

    async def story(ctx: Context, lab: Bench) -> None:
        items = await linked(ctx, lab, lab.child, 0, 0)
        shown: list[LruItem] = []

        async def isolate(ctx: Context, item: LruItem, walk: ListLruWalk) -> LruStatus:
            shown.append(item)
            await spin_unlock(ctx, walk.node.lock)
            await lab.offline(ctx, lab.grandchild)
            await lab.offline(ctx, lab.child)
            await synchronize_rcu(ctx)
            await spin_lock(ctx, walk.node.lock)
            return LruStatus.RETRY

        sc = ShrinkControl(GFP_KERNEL, 0, lab.child, 10)
        assert not await list_lru_walk_one(ctx, lab.lru, sc, isolate, LruList())
        assert shown == items[:1]
        assert on_list(lab, 1) == items

    lab = bench(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


def test_a_walk_over_a_node_visits_the_global_list_and_then_those_of_all_ids() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        items = [(await linked(ctx, lab, memcg, 0))[0] for memcg in (lab.grandchild, None, lab.parent)]
        shown: list[LruItem] = []

        async def isolate(_ctx: Context, item: LruItem, _walk: ListLruWalk) -> LruStatus:
            shown.append(item)
            return LruStatus.SKIP

        assert await list_lru_walk_node(ctx, lab.lru.nodes[0], isolate, LruList(), 5) == 2
        assert shown == [items[1], items[2], items[0]]
        assert not await list_lru_walk_node(ctx, lab.lru.nodes[0], isolate, LruList(), 2)
        assert shown[3:] == [items[1], items[2]]

    lab = bench(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


# -- races ------------------------------------------------------------------------------------------------------------


def test_no_item_is_lost_and_no_list_remains_when_memcgs_are_removed() -> None:
    assert not race(range(60))
    assert not race(range(30), stories=(adding, removing_one), before=prepare_one)


async def reparent_ids_late(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """memcg_reparent_list_lrus() with the ids after the lists (BUGS-today: kmemcg-id-late)."""
    src_idx = memcg.kmemcg_id
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        for lru in ctx.machine.list_lrus:
            await memcg_reparent_list_lru(ctx, lru, src_idx, parent)
    with ctx.rcu_read_section:
        for child in await ctx.ask(memcg.list_subtree):
            await ctx.ask(child.set_kmemcg_id, await ctx.ask(parent.read_kmemcg_id))


def test_with_the_ids_after_the_lists_items_are_lost() -> None:
    patch = {"memcg_reparent_list_lrus": (FILE, reparent_ids_late)}
    assert "U4" in race(range(15), patch)
    found = race(range(0, 150, 3), patch, (adding, removing_one), prepare_one)
    assert {"Q8", "lost"} <= found, found


@pytest.mark.parametrize("kernel", ["6.12", "7.2"])
@pytest.mark.parametrize("has_rcu", [True, False])
def test_rcu_keeps_the_memcg_from_being_freed_during_an_add(kernel: str, *, has_rcu: bool) -> None:
    patch: dict[str, tuple[str, Code]] = {mem_cgroup_from_slab_obj.name: ("mm/memcontrol.c", from_slab_obj_slowly)}
    if not has_rcu:
        patch["list_lru_add"] = FILE, add_without_rcu
    lab = bench(adding, removing_one, patches=patch, prepare=prepare_one, kernel=kernel)
    assert lab.findings == ([] if has_rcu else ["use-after-free:Memcg:memcg_cache_id"])
    assert lab.wrongs() == set()


async def alloc_by_old_id(ctx: Context, memcg: Memcg, lru: ListLru, _gfp: Gfp) -> bool:
    """memcg_list_lru_alloc() without the second read of the id."""
    idx = memcg.kmemcg_id
    if idx >= 0 and await ctx.ask(lru.xa.load, idx) is None:
        async with SpinLockIrqHeld(ctx, lru.xa.xa_lock):
            if await ctx.ask(lru.xa.load, idx) is None:
                await ctx.ask(lru.xa.store, idx, ListLruMemcgNodes.alloc(lru.xa, memcg.name, len(lru.nodes)))
    return True


def test_without_the_second_read_of_the_id_lists_of_nobody_remain() -> None:
    assert "U4" in race(range(30), {"memcg_list_lru_alloc": (FILE, alloc_by_old_id)})


def test_the_id_is_read_again_after_the_lock_was_dropped_for_a_node() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        table = [(lab.child, ListLruMemcgNodes.alloc(lab.lru.xa, "child", 2))]
        await linked(ctx, lab, lab.parent, 0)
        ctx.world.faults = {"xarray": 1.0}
        async with SpinLockIrqHeld(ctx, lab.lru.xa.xa_lock):
            await store_lists(ctx, lab.lru, table, has_node=False)
        assert len(table) == 1
        await lab.offline(ctx, lab.grandchild)
        await lab.offline(ctx, lab.child)
        (_, mlru) = table[0]
        async with SpinLockIrqHeld(ctx, lab.lru.xa.xa_lock):
            await store_lists(ctx, lab.lru, table, has_node=True)
        assert (table, sorted(lab.lru.xa.entries)) == ([], [1])
        assert mlru.freed is not None

    lab = bench(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


# -- shrinkers (13) ---------------------------------------------------------------------------------------------------


def test_an_info_is_replaced_by_a_longer_one_with_the_same_units() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        old = infos_of(lab.machine, lab.child).by_node[0]
        assert old is not None
        assert old.map_nr_max == 64
        lab.machine.shrinkers.by_id.update(dict.fromkeys(range(1, 64), lab.shrinker))
        more = Shrinker(lab.shrinker.actor, lab.shrinker.container, lab.count, lab.scan, [0, 0])
        await shrinker_alloc(ctx, more)
        new = infos_of(lab.machine, lab.child).by_node[0]
        assert new is not None
        assert (more.id, new.map_nr_max, new.unit[0], old.freed) == (64, 128, old.unit[0], None)
        await set_shrinker_bit(ctx, lab.child, 0, 64)
        assert lab.child.shrinker_maps[0] == {64}
        await ctx.sleep(60 * 10**9)
        assert old.freed is not None
        assert not await shrink_slab(ctx, GFP_KERNEL, 0, lab.child, 0)
        assert not lab.child.shrinker_maps[0], "nobody gets a reference to a shrinker that is not registered"
        await set_shrinker_bit(ctx, lab.child, 0, 128)

    assert bench(story).findings == [
        "warn:set_shrinker_bit: shrinker_id >= info->map_nr_max:set_shrinker_bit",
    ]


def test_deferred_work_is_kept_by_memcg_and_given_to_the_parent() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        of = {memcg: ShrinkControl(GFP_KERNEL, 1, memcg) for memcg in (lab.child, lab.parent)}
        await add_nr_deferred(ctx, 3, lab.shrinker, of[lab.child])
        await add_nr_deferred(ctx, 4, lab.shrinker, of[lab.parent])
        assert await xchg_nr_deferred(ctx, lab.shrinker, of[lab.parent]) == 4
        await add_nr_deferred(ctx, 5, lab.shrinker, of[lab.parent])
        await reparent_shrinker_deferred(ctx, lab.child)
        assert await xchg_nr_deferred(ctx, lab.shrinker, of[lab.parent]) == 8
        await free_shrinker_info(ctx, lab.child)
        assert lab.child not in lab.machine.shrinkers.infos

    assert not bench(story).findings


def test_infos_that_cannot_be_made_on_all_nodes_are_made_on_none() -> None:
    made: list[bool] = []

    async def story(ctx: Context, lab: Bench) -> None:
        await free_shrinker_info(ctx, lab.grandchild)
        made.append(await alloc_shrinker_info(ctx, lab.grandchild))
        assert infos_of(lab.machine, lab.grandchild).by_node == [None, None]

    assert not bench(story, faults={"shrinker_info": 1.0}).findings
    assert made == [False]


def test_a_shrinker_is_freed_after_its_last_user() -> None:
    order: list[str] = []

    async def using_it(ctx: Context, lab: Bench) -> None:
        assert await ctx.ask(lab.shrinker.try_get)
        await ctx.sleep(10**9)
        order.append("used")
        await shrinker_put(ctx, lab.shrinker)

    async def freeing(ctx: Context, lab: Bench) -> None:
        await ctx.sleep(10**8)
        await set_shrinker_bit(ctx, lab.child, 0, lab.shrinker.id)
        await shrinker_free(ctx, lab.shrinker)
        order.append("freed")
        assert not await shrink_slab(ctx, GFP_KERNEL, 0, lab.child, 0)
        assert not await shrink_slab(ctx, GFP_KERNEL, 0, lab.machine.root_mem_cgroup, 0)

    lab = bench(using_it, freeing)
    assert order == ["used", "freed"]
    assert not lab.findings
    assert not lab.child.shrinker_maps[0]
    assert lab.shrinker.freed is not None
