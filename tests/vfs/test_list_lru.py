"""LRU lists by memcg: the list of an item, version by version, and the reparenting of the lists."""

from __future__ import annotations

import attrs
import pytest

from actors.linux.fs.dcache import Dentry
from actors.linux.kernel.locking.locks import spin_lock, spin_unlock
from actors.linux.mm.list_lru import (
    Isolate,
    ListLruWalk,
    LruItem,
    LruList,
    LruStatus,
    list_lru_add,
    list_lru_count_one,
    list_lru_del,
    list_lru_walk_one,
)
from actors.linux.mm.vmscan import ShrinkControl
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL
from actors.versions.profiles import profile_range
from explorer.search.strategies.simple import RandomWalk
from protocol.vocabulary import PROFILES
from scenarios.stage import enter, mkdir
from tests.vfs.vfs_helpers import (
    SOUND,
    Lab,
    dentry_of,
    in_cgroup,
    list_of,
    lru_names,
    memcg,
    removed,
    rest,
    run,
    run_all,
    shrinking,
    signatures_of,
    start,
    stormy,
    touch,
)

WITHOUT_RCU_END = profile_range("v3..v4")
"""The kernels on which no grace period ends after the first accounted allocation, so that nothing can be tested."""


# -- the list of an item ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [kernel for kernel in PROFILES if kernel not in WITHOUT_RCU_END])
def test_which_list_a_dentry_of_a_cgroup_is_on(kernel: str) -> None:
    """The original uses page.mem_cgroup, which from v1 on is not set for slabs; v6 and later use the cache's memcg."""
    on_global_list = kernel in profile_range("v1..v5")

    async def story(ctx: Context, lab: Lab) -> None:
        cgroup = await mkdir(ctx, lab.machine.root_cgroup, "job")
        await in_cgroup(ctx, lab, cgroup, "a")
        sb, owner = lab.ext4, memcg(cgroup)
        assert dentry_of(sb, "a").obj.slab.slab_cache.memcg is owner
        assert ("a" in lru_names(list_of(sb, None))) == on_global_list
        assert ("a" in lru_names(list_of(sb, owner))) == (not on_global_list)
        assert (sb.s_shrink.id in owner.shrinker_maps[0]) == (not on_global_list)

    assert not run(story, kernel=kernel).signatures()


@pytest.mark.parametrize("kernel", SOUND)
def test_what_the_root_allocated_is_on_the_global_list(kernel: str) -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a")
        assert lru_names(list_of(lab.ext4, None)) == ["a"]
        assert await list_lru_count_one(ctx, lab.ext4.s_dentry_lru, 0, lab.machine.root_mem_cgroup) == 1
        assert not lab.machine.root_mem_cgroup.shrinker_maps[0]

    assert not run(story, kernel=kernel).signatures()


# -- reparenting (11.3) -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", SOUND)
def test_rmdir_moves_the_items_to_the_head_of_the_parents_list(kernel: str) -> None:
    """Then the parent's items move to the grandparent's list; the root's list is the global one."""

    async def story(ctx: Context, lab: Lab) -> None:
        sb = lab.ext4
        parent = await mkdir(ctx, lab.machine.root_cgroup, "parent")
        child = await mkdir(ctx, parent, "child")
        await in_cgroup(ctx, lab, parent, "p1", "p2")
        await in_cgroup(ctx, lab, child, "c1", "c2")
        old_id = memcg(child).kmemcg_id
        of_parent, of_child = list_of(sb, memcg(parent)), list_of(sb, memcg(child))
        mine, childs = lru_names(of_parent), lru_names(of_child)
        assert mine[-2:] == ["p1", "p2"]
        assert childs[-2:] == ["c1", "c2"]
        await removed(ctx, child)
        assert lru_names(of_parent) == childs + mine
        assert of_parent.nr_items == len(childs + mine)
        assert (of_child.nr_items, len(of_child.items)) == (0, 0)
        assert list_of(sb, memcg(parent)) is of_parent
        again = await mkdir(ctx, parent, "again")
        assert memcg(again).kmemcg_id == old_id, "the id is given out again, with an empty list"
        assert not lru_names(list_of(sb, memcg(again)))
        await removed(ctx, again)
        before = lru_names(list_of(sb, None))
        await removed(ctx, parent)
        assert lru_names(list_of(sb, None)) == childs + mine + before

    assert not run(story, kernel=kernel).signatures()


@pytest.mark.parametrize("kernel", SOUND)
def test_reparenting_tells_the_parents_shrinker(kernel: str) -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        parent = await mkdir(ctx, lab.machine.root_cgroup, "parent")
        child = await mkdir(ctx, parent, "child")
        await in_cgroup(ctx, lab, child, "c1")
        shrinker = lab.ext4.s_shrink.id
        assert shrinker not in memcg(parent).shrinker_maps[0]
        await removed(ctx, child)
        assert shrinker in memcg(parent).shrinker_maps[0]

    assert not run(story, kernel=kernel).signatures()


@pytest.mark.parametrize(("kernel", "is_told"), [("original", False), ("5.3", False), ("5.4-fixed", True)])
def test_a_parent_whose_count_is_wrong_for_a_moment_is_not_told_before_5_4(kernel: str, *, is_told: bool) -> None:
    """Before 8199be001a47 the bit was set only if the parent's count was 0; the count may be wrong for a moment."""

    async def story(ctx: Context, lab: Lab) -> None:
        parent = await mkdir(ctx, lab.machine.root_cgroup, "parent")
        child = await mkdir(ctx, parent, "child")
        await in_cgroup(ctx, lab, child, "c1")
        one = list_of(lab.ext4, memcg(parent))
        one.nr_items -= 1  # an item was taken off the child's list, and counted under the parent's id
        await removed(ctx, child)
        assert (lab.ext4.s_shrink.id in memcg(parent).shrinker_maps[0]) == is_told
        one.nr_items += 1

    found = run(story, kernel=kernel).signatures()
    assert any(signature.startswith("invariant:Q8-shrinker-bit") for signature in found) == (not is_told)


def test_a_delete_between_the_new_id_and_the_splice_is_repaired_by_the_splice() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        sb = lab.ext4
        parent = await mkdir(ctx, lab.machine.root_cgroup, "parent")
        child = await mkdir(ctx, parent, "child")
        await in_cgroup(ctx, lab, child, "c1")
        of_parent, of_child = list_of(sb, memcg(parent)), list_of(sb, memcg(child))
        count, item, old_id = of_child.nr_items, dentry_of(sb, "c1").d_lru, memcg(child).kmemcg_id
        memcg(child).kmemcg_id = memcg(parent).kmemcg_id  # memcg_offline_kmem() is between 3.3.5 and 3.3.6
        assert await list_lru_del(ctx, sb.s_dentry_lru, item)
        assert (of_parent.nr_items, of_child.nr_items) == (-1, count)
        assert len(of_child.items) == count - 1
        assert await list_lru_count_one(ctx, sb.s_dentry_lru, 0, memcg(parent)) == -1
        memcg(child).kmemcg_id = old_id
        await removed(ctx, child)
        assert (of_parent.nr_items, of_child.nr_items) == (count - 1, 0)
        assert await list_lru_add(ctx, sb.s_dentry_lru, item)

    assert not run(story).signatures()


# -- add and delete ---------------------------------------------------------------------------------------------------


def test_a_linked_item_is_not_added_and_an_unlinked_one_is_not_deleted() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a")
        lru, item = lab.ext4.s_dentry_lru, dentry_of(lab.ext4, "a").d_lru
        assert not await list_lru_add(ctx, lru, item)
        assert await list_lru_del(ctx, lru, item)
        assert not await list_lru_del(ctx, lru, item)
        assert await list_lru_add(ctx, lru, item)
        assert (lru.nodes[0].nr_items, lru.nodes[0].lru.nr_items) == (1, 1)

    assert not run(story).signatures()


def test_the_lists_grow_with_the_memcgs_and_the_old_array_is_freed_by_rcu() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        node = lab.ext4.s_dentry_lru.nodes[0]
        old = node.memcg_lrus
        cgroups = [await mkdir(ctx, lab.machine.root_cgroup, f"c{number}") for number in range(6)]
        await in_cgroup(ctx, lab, cgroups[-1], "a")
        assert node.memcg_lrus is not old
        assert len(node.memcg_lrus.lru) >= 7
        assert node.memcg_lrus.lru[: len(old.lru)] == old.lru
        await rest(ctx)
        assert old.freed is not None

    assert not run(story).signatures()


# -- the walk ---------------------------------------------------------------------------------------------------------


@attrs.define
class Script:
    """An isolate callback with scripted answers for each name, then SKIP; `shown` are the names in order."""

    answers: dict[str, list[LruStatus]]
    shown: list[str] = attrs.field(factory=list)

    async def isolate(self, ctx: Context, item: LruItem, walk: ListLruWalk) -> LruStatus:
        dentry = item.container
        assert isinstance(dentry, Dentry)
        name = dentry.d_name
        self.shown.append(name)
        answers = self.answers.get(name, [])
        status = answers.pop(0) if answers else LruStatus.SKIP
        if status in (LruStatus.REMOVED, LruStatus.REMOVED_RETRY):
            await ctx.ask(walk.node.isolate, item, walk.one)
        if status in (LruStatus.RETRY, LruStatus.REMOVED_RETRY):
            await spin_unlock(ctx, walk.node.lock)
            await spin_lock(ctx, walk.node.lock)
        return status


def walk_of(isolate: Isolate, nr_to_walk: int, *names: str, is_bad: bool = False) -> int:
    """Walk a list with these names; return the number of items that *isolate* took off."""
    isolated: list[int] = []

    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, *names)
        lru = lab.ext4.s_dentry_lru
        sc = ShrinkControl(GFP_KERNEL, 0, lab.machine.root_mem_cgroup, nr_to_walk)
        before = dict(lru.nodes[0].lru.items)
        isolated.append(await list_lru_walk_one(ctx, lru, sc, isolate, LruList()))
        for item in before:
            await list_lru_add(ctx, lru, item)

    found = run(story).signatures()
    assert found == (["bug:__list_lru_walk_one: unknown lru_status:__list_lru_walk_one"] if is_bad else [])
    return isolated[0] if isolated else 0


def test_a_walk_goes_from_the_oldest_on_as_far_as_its_budget() -> None:
    script = Script({})
    assert walk_of(script.isolate, 2, "a", "b", "c") == 0
    assert script.shown == ["a", "b"]


def test_what_is_rotated_comes_up_again_behind_the_others() -> None:
    script = Script({"a": [LruStatus.ROTATE, LruStatus.REMOVED], "b": [LruStatus.REMOVED]})
    assert walk_of(script.isolate, 10, "a", "b", "c") == 2
    assert script.shown == ["a", "b", "c", "a"]


def test_a_walk_is_over_when_the_last_item_is_rotated() -> None:
    """list_for_each_safe() read the end of the list before the item was moved there."""
    script = Script({"b": [LruStatus.ROTATE, LruStatus.REMOVED]})
    assert walk_of(script.isolate, 10, "a", "b") == 0
    assert script.shown == ["a", "b"]


@pytest.mark.parametrize(
    ("status", "isolated", "shown"),
    [(LruStatus.RETRY, 0, ["a", "b", "a", "b", "c"]), (LruStatus.REMOVED_RETRY, 1, ["a", "b", "a", "c"])],
)
def test_a_walk_whose_lock_was_dropped_begins_again(status: LruStatus, isolated: int, shown: list[str]) -> None:
    script = Script({"b": [status]})
    assert walk_of(script.isolate, 10, "a", "b", "c") == isolated
    assert script.shown == shown


def test_each_look_costs_budget_also_after_a_retry() -> None:
    script = Script({"a": [LruStatus.RETRY] * 9})
    assert walk_of(script.isolate, 4, "a", "b") == 0
    assert script.shown == ["a"] * 4


def test_an_unknown_answer_is_a_bug() -> None:
    async def isolate(_ctx: Context, _item: LruItem, _walk: ListLruWalk) -> LruStatus:
        return None  # type: ignore[return-value]  # an invalid status, which the test is about

    assert walk_of(isolate, 1, "a", is_bad=True) == 0


# -- over random schedules (Q8) ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("allocator", ["slub", "slab"])
@pytest.mark.parametrize("kernel", SOUND)
def test_all_counts_are_right_at_quiescence(kernel: str, allocator: str) -> None:
    """Q8 and all other accounts: files of disks in cgroups that are made and removed, with every kind of reclaim."""
    storms = [stormy(12), stormy(12, limit=8), shrinking(5)]
    runs = (
        run_all(*storms, kernel=kernel, allocator=allocator, strategy=RandomWalk(seed), cpus=3, nodes=1 + seed % 2)
        for seed in range(25)
    )

    assert not signatures_of(runs)


def race_with_reparenting(kernel: str, seed: int) -> Lab:
    """Shrinkers take items off and tasks use them, while their cgroup and then its parent go offline (11.3)."""

    async def use(ctx: Context, lab: Lab) -> None:
        await enter(ctx, lab.session)
        await touch(ctx, lab.ext4, *(f"child{number}" for number in range(5)))

    async def direct(ctx: Context, lab: Lab) -> None:
        parent = await mkdir(ctx, lab.machine.root_cgroup, "parent")
        child = await mkdir(ctx, parent, "child")
        for cgroup in (parent, child):
            await in_cgroup(ctx, lab, cgroup, *(f"{cgroup.name}{number}" for number in range(5)))
        start(lab, "shrink", shrinking(4), cpu=1)
        start(lab, "use", use, cpu=2)
        await removed(ctx, child)
        await removed(ctx, parent)

    return run(direct, kernel=kernel, strategy=RandomWalk(seed), cpus=3)


@pytest.mark.parametrize("kernel", SOUND)
def test_shrinkers_race_with_reparenting(kernel: str) -> None:
    assert not signatures_of(race_with_reparenting(kernel, seed) for seed in range(60))
