"""LRU lists of 7.2: a lock in each list, dead lists, lists made one memcg a round; KERNEL-7.2 N7."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Mapping

import attrs
import pytest

from actors.fixes_7_2 import FIXES_7_2
from actors.linux.include.memcontrol import mem_cgroup_from_slab_obj
from actors.linux.kernel.cgroup.cgroup import CssFlags
from actors.linux.kernel.locking.locks import spin_lock, spin_unlock
from actors.linux.mm.list_lru import (
    LONG_MIN,
    Isolate,
    ListLruMemcgNodes,
    ListLruWalk,
    LruItem,
    LruList,
    LruStatus,
    MemcgListsXarray,
    list_lru_add,
    list_lru_count_one,
    list_lru_del,
    list_lru_walk_node,
    list_lru_walk_one,
    lock_list_lru_of_memcg,
    memcg_list_lru_alloc,
)
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.shrinker import pass_over, set_shrinker_bit
from actors.linux.mm.vmscan import ShrinkControl
from actors.machine.context import Context, deref
from actors.machine.gfp import GFP_KERNEL
from actors.versions.kernel_fn import functions
from explorer.search.registry import make_strategy
from tests.today.lru_bench import Bench, Code, Story, bench
from tests.today.lru_races import (
    RACE,
    SMALL,
    STRATEGIES,
    adding,
    changes,
    deleting,
    from_slab_obj_slowly,
    linked,
    on_list,
    prepare,
    prepare_one,
    race,
    removing_one,
)

KERNEL, FILE = "7.2", "mm/list_lru.c"


run = functools.partial(bench, kernel=KERNEL)
race_7_2 = functools.partial(race, kernel=KERNEL)


def test_7_2_has_these_functions() -> None:
    for name in ("lock_list_lru_of_memcg", "memcg_reparent_list_lru_one"):
        assert functions()[name].body("6.12", "slub") is None
        assert functions()[name].body(KERNEL, "slub") is not None
    for name in ("memcg_reparent_list_lru", "memcg_reparent_list_lru_node", "memcg_list_lru_free"):
        assert functions()[name].body(KERNEL, "slub") is None
    for name in ("__list_lru_walk_one", "memcg_list_lru_alloc", "memcg_reparent_list_lrus", "set_shrinker_bit"):
        assert functions()[name].body(KERNEL, "slub") is not functions()[name].body("6.12", "slub")


# -- add, delete, count (KERNEL-7.2 N7.2) -----------------------------------------------------------------------------


def test_an_item_is_linked_once_counted_in_its_list_and_on_its_node() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        (item,) = await linked(ctx, lab, lab.grandchild, 1)
        assert not await list_lru_add(ctx, lab.lru, item)
        assert [await list_lru_count_one(ctx, lab.lru, 1, m) for m in (lab.parent, lab.grandchild, None)] == [0, 1, 0]
        assert [node.nr_items for node in lab.lru.nodes] == [0, 1]
        assert lab.grandchild.shrinker_maps == {1: {lab.shrinker.id}}
        assert await list_lru_del(ctx, lab.lru, item)
        assert not await list_lru_del(ctx, lab.lru, item)
        assert [node.nr_items for node in lab.lru.nodes] == [0, 0]
        (item,) = await linked(ctx, lab, None, 0)
        assert on_list(lab, -1) == [item]

    lab = run(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


def test_a_list_is_locked_by_itself() -> None:
    """Whoever holds the lock of one list keeps nobody from another one of the same node."""
    order: list[str] = []

    async def holding(ctx: Context, lab: Bench) -> None:
        lists = lab.lru.xa.entries[lab.child.kmemcg_id].locked
        await spin_lock(ctx, lists[0].lock)
        await ctx.stall(10**9)
        order.append("held")
        await spin_unlock(ctx, lists[0].lock)

    def adding(name: str, owner: Callable[[Bench], Memcg], nid: int) -> Story:
        async def story(ctx: Context, lab: Bench) -> None:
            await ctx.sleep(10**6)
            assert await list_lru_add(ctx, lab.lru, lab.thing(owner(lab), nid))
            order.append(name)

        return story

    async def prepare(ctx: Context, lab: Bench) -> None:
        assert await memcg_list_lru_alloc(ctx, lab.child, lab.lru, GFP_KERNEL)

    lab = run(
        holding,
        adding("parent", lambda lab: lab.parent, 0),
        adding("waits", lambda lab: lab.child, 0),
        adding("other node", lambda lab: lab.child, 1),
        prepare=prepare,
    )
    assert sorted(order[:2]) == ["other node", "parent"]
    assert order[2:] == ["held", "waits"]
    assert (lab.findings, lab.wrongs()) == ([], set())


def test_without_lists_a_dying_memcg_s_items_go_to_the_ancestor_that_has_some_and_so_does_the_bit() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        assert await memcg_list_lru_alloc(ctx, lab.parent, lab.lru, GFP_KERNEL)
        for memcg in (lab.grandchild, lab.child):
            await ctx.ask(memcg.css.set_flags, CssFlags.DYING)
        item = lab.thing(lab.grandchild)
        assert await list_lru_add(ctx, lab.lru, item)
        assert on_list(lab, lab.parent.kmemcg_id) == [item]
        assert lab.parent.shrinker_maps == {0: {lab.shrinker.id}}
        assert not lab.child.shrinker_maps
        assert not lab.grandchild.shrinker_maps
        assert await lock_list_lru_of_memcg(ctx, lab.lru.nodes[0], lab.child, skip_empty=True) is None
        assert await list_lru_del(ctx, lab.lru, item)

    lab = run(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


def test_only_a_dying_memcg_may_have_no_lists() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        await list_lru_add(ctx, lab.lru, lab.thing(lab.parent))
        assert len(on_list(lab, -1)) == 1

    (finding,) = run(story).findings
    assert finding.startswith("warn:lock_list_lru_of_memcg: VM_WARN_ON(!css_is_dying(&memcg->css))")


def test_a_change_of_a_list_without_its_lock_is_reported() -> None:
    """T12: with the lock of the parent's list, an item is taken from the child's."""

    async def story(ctx: Context, lab: Bench) -> None:
        (item,) = await linked(ctx, lab, lab.child, 0)
        other = lab.lru.xa.entries[lab.parent.kmemcg_id].locked[0]
        await spin_lock(ctx, other.lock)
        await ctx.ask(other.delete, item)
        await spin_unlock(ctx, other.lock)

    lab = run(story)
    assert [finding.partition(":list")[0] for finding in lab.findings] == ["lockdep:&l->lock is not held:story"]
    assert "Q8" in lab.wrongs()


# -- removal (KERNEL-7.2 N7.3) ----------------------------------------------------------------------------------------


def test_removal_moves_lists_and_counts_marks_the_lists_dead_and_keeps_the_id() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        of_parent = await linked(ctx, lab, lab.parent, 0)
        of_child = await linked(ctx, lab, lab.child, 0, 0, 1)
        mlru = lab.lru.xa.entries[2]
        lab.parent.shrinker_maps.clear()
        await lab.offline(ctx, lab.grandchild)
        await lab.offline(ctx, lab.child)
        assert (lab.child.kmemcg_id, lab.grandchild.kmemcg_id, sorted(lab.lru.xa.entries)) == (2, 3, [1])
        assert on_list(lab, 1, 0) == of_child[:2] + of_parent
        assert on_list(lab, 1, 1) == of_child[2:]
        assert [one.nr_items for one in lab.lru.xa.entries[1].node] == [3, 1]
        assert [one.nr_items for one in mlru.node] == [LONG_MIN, LONG_MIN]
        assert lab.parent.shrinker_maps == {0: {lab.shrinker.id}, 1: {lab.shrinker.id}}
        assert mlru.freed is None
        await ctx.sleep(60 * 10**9)
        assert all(part.freed is not None for part in mlru.parts())
        assert await list_lru_del(ctx, lab.lru, of_child[0])
        await lab.offline(ctx, lab.parent)
        assert on_list(lab, -1, 0) == [of_child[1], *of_parent]

    lab = run(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


def test_a_list_is_dead_before_it_can_no_longer_be_found() -> None:
    """Between the two, a delete finds the dead list, and then the parent's, where its item is."""
    seen: list[tuple[bool, bool]] = []

    async def watching(ctx: Context, lab: Bench) -> None:
        locked = lab.lru.xa.entries[2].locked[1]
        for _ in range(400):
            seen.append((2 in lab.lru.xa.entries, locked.one.nr_items == LONG_MIN))
            await ctx.ask(locked.read_count, locked.one)

    async def removing(ctx: Context, lab: Bench) -> None:
        await lab.offline(ctx, lab.child)

    for seed in range(4):
        run(watching, removing, prepare=prepare_one, strategy=make_strategy("random", seed))
    found = {state for state, _ in itertools.groupby(seen)}
    assert found == {(True, False), (True, True), (False, True)}


def test_a_negative_count_of_a_removed_memcg_is_warned_of() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        await linked(ctx, lab, lab.child, 0)
        lab.lru.xa.entries[2].node[0].nr_items = -1
        await lab.offline(ctx, lab.child)

    assert run(story).findings == ["warn:memcg_reparent_list_lru_one: src->nr_items < 0:memcg_reparent_list_lru_one"]


# -- lists on demand (KERNEL-7.2 N7.4) --------------------------------------------------------------------------------


@attrs.frozen
class SlotCase:
    """Which memcgs have lists before, which are dying, and which have lists afterwards; by kmemcg_id 1, 2, 3."""

    have: frozenset[int]
    dying: frozenset[int]

    def expected(self) -> set[int]:
        """The closed form: the topmost without lists first, down to the memcg itself or the first dying one.

        A round is for the topmost memcg such that all from it down to the memcg itself have none.
        """
        have = set(self.have)
        while 3 not in have:
            pos = 3
            while pos > 1 and pos - 1 not in have:
                pos -= 1
            if pos in self.dying:
                break
            have.add(pos)
        return have

    def __str__(self) -> str:
        return f"{sorted(self.have)}-{sorted(self.dying)}"


def subsets() -> list[frozenset[int]]:
    return [frozenset(chosen) for count in range(4) for chosen in itertools.combinations((1, 2, 3), count)]


CASES = [SlotCase(have, dying) for have in subsets() for dying in subsets()]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case_of_slots_and_dying_memcgs(case: SlotCase) -> None:
    made: list[bool] = []

    async def story(ctx: Context, lab: Bench) -> None:
        memcgs = {memcg.kmemcg_id: memcg for memcg in (lab.parent, lab.child, lab.grandchild)}
        for idx in case.have:
            lab.lru.xa.entries[idx] = ListLruMemcgNodes.alloc_locked(lab.lru.xa, memcgs[idx].name, 2)
        before = dict(lab.lru.xa.entries)
        for idx in case.dying:
            await ctx.ask(memcgs[idx].css.set_flags, CssFlags.DYING)
        made.append(await memcg_list_lru_alloc(ctx, lab.grandchild, lab.lru, GFP_KERNEL))
        assert set(lab.lru.xa.entries) == case.expected()
        assert all(lab.lru.xa.entries[idx] is mlru for idx, mlru in before.items())
        assert all(mlru.memcg == memcgs[idx].name for idx, mlru in lab.lru.xa.entries.items())
        assert all(mlru.freed is None for mlru in lab.lru.xa.entries.values())

    assert run(story).findings == []
    assert made == [True]


def test_the_root_needs_no_lists() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        assert await memcg_list_lru_alloc(ctx, lab.machine.root_mem_cgroup, lab.lru, GFP_KERNEL)
        assert not lab.lru.xa.entries

    assert run(story).findings == []


def noted_lists(monkeypatch: pytest.MonkeyPatch) -> list[ListLruMemcgNodes]:
    """All lists of memcgs that are allocated from now on."""
    made: list[ListLruMemcgNodes] = []
    alloc = ListLruMemcgNodes.alloc_locked

    def noted(xa: MemcgListsXarray, memcg: str, nodes: int) -> ListLruMemcgNodes:
        made.append(alloc(xa, memcg, nodes))
        return made[-1]

    monkeypatch.setattr(ListLruMemcgNodes, "alloc_locked", staticmethod(noted))
    return made


def test_without_memory_for_a_node_of_the_tree_the_new_lists_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = noted_lists(monkeypatch)

    async def story(ctx: Context, lab: Bench) -> None:
        allowed = iter([True, False])
        monkeypatch.setattr("actors.linux.mm.list_lru.kmalloc", lambda *_: next(allowed))
        assert not await memcg_list_lru_alloc(ctx, lab.grandchild, lab.lru, GFP_KERNEL)
        assert not lab.lru.xa.entries

    assert run(story, faults={"xarray": 1.0}).findings == []
    assert [part.freed is not None for mlru in made for part in mlru.parts()] == [True] * 5


def test_lists_that_another_task_was_first_with_are_kept_for_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tasks allocate at once: each list is made once or kept, and what is left over is freed."""
    made = noted_lists(monkeypatch)

    async def allocating(ctx: Context, lab: Bench) -> None:
        assert await memcg_list_lru_alloc(ctx, lab.grandchild, lab.lru, GFP_KERNEL)

    counts: set[int] = set()
    for seed in range(40):
        made.clear()
        lab = run(allocating, allocating, strategy=make_strategy(STRATEGIES[seed % 4], seed))
        stored = list(lab.lru.xa.entries.values())
        assert (lab.findings, len(stored)) == ([], 3)
        assert all((mlru.freed is None) == (mlru in stored) for mlru in made)
        counts.add(len(made))
    assert counts == {3, 4}, "at most one too many, as the others are kept"


# -- walks ------------------------------------------------------------------------------------------------------------


def walker(results: Mapping[int, LruStatus], shown: list[LruItem]) -> Isolate:
    """A callback that returns the given results for its calls, by number, else SKIP; it does what they say."""

    async def isolate(ctx: Context, item: LruItem, walk: ListLruWalk) -> LruStatus:
        status = results.get(len(shown), LruStatus.SKIP)
        shown.append(item)
        if status in (LruStatus.REMOVED, LruStatus.REMOVED_RETRY):
            await ctx.ask(walk.guard.isolate, item, walk.one)
        if status in (LruStatus.REMOVED_RETRY, LruStatus.RETRY, LruStatus.STOP):
            await spin_unlock(ctx, walk.guard.lock)
        return status

    return isolate


@pytest.mark.parametrize(
    ("results", "expected", "removed"),
    [
        ({}, [0, 1, 2], 0),
        ({0: LruStatus.REMOVED, 1: LruStatus.REMOVED}, [0, 1, 2], 2),
        ({0: LruStatus.ROTATE}, [0, 1, 2, 0], 0),
        ({2: LruStatus.ROTATE}, [0, 1, 2], 0),
        ({1: LruStatus.RETRY}, [0, 1, 0, 1, 2], 0),
        ({1: LruStatus.REMOVED_RETRY}, [0, 1, 0, 2], 1),
        ({1: LruStatus.STOP}, [0, 1], 0),
        ({0: LruStatus.REMOVED, 1: LruStatus.STOP}, [0, 1], 1),
    ],
)
def test_a_walk_does_what_the_callback_says(
    results: Mapping[int, LruStatus], expected: list[int], removed: int
) -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        items = await linked(ctx, lab, lab.child, 0, 0, 0)
        shown: list[LruItem] = []
        sc = ShrinkControl(GFP_KERNEL, 0, lab.child, 20)
        assert await list_lru_walk_one(ctx, lab.lru, sc, walker(results, shown), LruList()) == removed
        assert [items.index(item) for item in shown] == expected
        locked = lab.lru.xa.entries[2].locked[0]
        assert locked.lock.holder is None
        assert len(on_list(lab, 2)) == lab.lru.nodes[0].nr_items == 3 - removed

    lab = run(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


def test_a_walk_ends_when_its_list_dies_while_the_lock_is_dropped() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        items = await linked(ctx, lab, lab.child, 0, 0)
        shown: list[LruItem] = []

        async def isolate(ctx: Context, item: LruItem, walk: ListLruWalk) -> LruStatus:
            shown.append(item)
            await spin_unlock(ctx, walk.guard.lock)
            await lab.offline(ctx, lab.child)
            return LruStatus.RETRY

        sc = ShrinkControl(GFP_KERNEL, 0, lab.child, 10)
        assert not await list_lru_walk_one(ctx, lab.lru, sc, isolate, LruList())
        assert shown == items[:1]
        assert on_list(lab, 1) == items
        shown.clear()
        assert not await list_lru_walk_one(ctx, lab.lru, sc, isolate, LruList())
        assert not shown

    lab = run(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


def test_a_walk_over_a_node_visits_the_lists_of_all_memcgs_that_it_can_pin() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        owners = (lab.grandchild, None, lab.parent, lab.child)
        items = [(await linked(ctx, lab, memcg, 0))[0] for memcg in owners]
        shown: list[LruItem] = []
        walk = walker({}, shown)
        refs = [deref(memcg.css.refcnt, "css").own_refs for memcg in (lab.parent, lab.child, lab.grandchild)]
        assert await list_lru_walk_node(ctx, lab.lru.nodes[0], walk, LruList(), 6) == 2
        assert shown == [items[1], items[2], items[3], items[0]]
        assert refs == [deref(m.css.refcnt, "css").own_refs for m in (lab.parent, lab.child, lab.grandchild)]
        assert not await list_lru_walk_node(ctx, lab.lru.nodes[0], walk, LruList(), 2)
        assert shown[4:] == [items[1], items[2]]
        lab.child.id_ref = 0
        assert await list_lru_walk_node(ctx, lab.lru.nodes[0], walk, LruList(), 6) == 3
        assert shown[6:] == [items[1], items[2], items[0]], "an id whose memcg cannot be found is passed over"
        lab.child.id_ref = 1

    lab = run(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


# -- against a reference model ----------------------------------------------------------------------------------------


class Reference:
    """Which items are on which list, in their order, and which memcgs are gone: lists of lists, nothing else."""

    def __init__(self) -> None:
        self.above = {3: 2, 2: 1, 1: -1}
        self.lists: dict[tuple[int, int], list[int]] = {(idx, nid): [] for idx in (-1, 1, 2, 3) for nid in (0, 1)}
        self.bits: set[tuple[int, int]] = set()

    def home(self, idx: int) -> int:
        """The nearest memcg that is not gone."""
        while (idx, 0) not in self.lists:
            idx = self.above[idx]
        return idx

    def add(self, item: int, idx: int, nid: int) -> bool:
        if any(item in items for items in self.lists.values()):
            return False
        home = self.home(idx), nid
        self.bits |= {home} if not self.lists[home] else set()
        self.lists[home].append(item)
        return True

    def delete(self, item: int) -> bool:
        on = [items for items in self.lists.values() if item in items]
        for items in on:
            items.remove(item)
        return bool(on)

    def remove(self, idx: int) -> None:
        for nid in (0, 1):
            moved, to = self.lists.pop((idx, nid)), (self.above[idx], nid)
            self.bits |= {to} if moved else set()
            self.lists[to][:0] = moved


@pytest.mark.parametrize("seed", range(12))
def test_a_sequence_of_operations_does_what_the_reference_does(seed: int) -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        rng, want = random.Random(seed), Reference()
        memcgs = {memcg.kmemcg_id: memcg for memcg in (lab.parent, lab.child, lab.grandchild)}
        for memcg in memcgs.values():
            assert await memcg_list_lru_alloc(ctx, memcg, lab.lru, GFP_KERNEL)
        owner = [rng.choice((-1, 1, 2, 3)) for _ in range(8)]
        items = [lab.thing(memcgs.get(idx), number % 2) for number, idx in enumerate(owner)]
        alive = [3, 2, 1]
        for _ in range(120):
            number = rng.randrange(8)
            if alive and rng.random() < 0.03:
                gone = alive.pop(0)
                await lab.offline(ctx, memcgs[gone])
                want.remove(gone)
            elif rng.random() < 0.6:
                added = await list_lru_add(ctx, lab.lru, items[number])
                assert added == want.add(number, owner[number], number % 2)
            else:
                assert await list_lru_del(ctx, lab.lru, items[number]) == want.delete(number)
            for nid, node in enumerate(lab.lru.nodes):
                for idx, one in node.lists():
                    assert [items.index(item) for item in one.items] == want.lists[idx, nid]
                    assert one.nr_items == len(one.items)
                assert node.nr_items == sum(len(of) for (_, on), of in want.lists.items() if on == nid)
        for idx, nid in want.lists:
            assert idx < 0 or ((idx, nid) in want.bits) == (lab.shrinker.id in memcgs[idx].shrinker_maps[nid])

    lab = run(story)
    assert (lab.findings, lab.wrongs()) == ([], set())


# -- races ------------------------------------------------------------------------------------------------------------


def test_no_item_is_lost_and_no_list_remains_when_memcgs_are_removed() -> None:
    assert not race_7_2(range(60))
    assert not race_7_2(range(40), stories=SMALL, before=prepare_one)


def flaw(slug: str) -> dict[str, tuple[str, Code]]:
    """The functions of a fix that is taken out, or of a variation."""
    (entry,) = (entry for entry in FIXES_7_2 if entry.slug == slug)
    which = entry._out or entry._in
    return {name: (body.file, body.code) for name, body in which}


@pytest.mark.parametrize(
    ("slug", "wrong"),
    [
        ("list-lru-slot-first", "lockdep:&l->lock is not held:list_lru_del"),
        ("shrinker-bit-of-dying", "Q8-shrinker-bit"),
        ("child-list-not-dead", "lost"),
        ("lists-for-dying", "U4"),
    ],
)
def test_each_weaker_form_is_seen(slug: str, wrong: str) -> None:
    stories, before = WINDOWS.get(slug, (RACE, prepare))
    assert wrong in race_7_2(range(120), flaw(slug), stories, before)


WINDOWS: dict[str, tuple[tuple[Story, ...], Story]]


async def prepare_empty(ctx: Context, lab: Bench) -> None:
    """As `prepare_one`, and no item is on a list."""
    await prepare_one(ctx, lab)
    for item in lab.things:
        await list_lru_del(ctx, lab.lru, item)
    lab.parent.shrinker_maps.clear()
    changes[:] = [0]


WINDOWS = {
    "list-lru-slot-first": ((deleting, removing_one), prepare_one),
    "shrinker-bit-of-dying": ((adding, removing_one), prepare_empty),
}
"""The races of flaws that only few schedules show."""


def test_an_add_that_is_late_finds_the_lists_of_a_new_memcg_with_the_old_one_s_id() -> None:
    """A flaw of 7.2 as it is: the id is given again without a grace period, and RCU does not keep it."""

    async def reusing(ctx: Context, lab: Bench) -> None:
        await removing_one(ctx, lab)

    async def making(ctx: Context, lab: Bench) -> None:
        await ctx.sleep(10**6)
        new = await lab.memcg(ctx, "new", lab.parent.css.cgroup, 2)
        assert await memcg_list_lru_alloc(ctx, new, lab.lru, GFP_KERNEL)

    patch: dict[str, tuple[str, Code]] = {mem_cgroup_from_slab_obj.name: ("mm/memcontrol.c", from_slab_obj_slowly)}
    lab = run(adding, reusing, making, patches=patch, prepare=prepare_one)
    assert lab.findings == []
    assert lab.wrongs() == {"LRU list", "Q8-shrinker-bit"}
    assert on_list(lab, 2) == [lab.things[1]]
    assert lab.objcgs[lab.child].memcg is lab.parent


# -- shrinkers (KERNEL-7.2, row 13) -----------------------------------------------------------------------------------


def test_an_id_beyond_the_map_is_warned_of_and_no_unit_is_read() -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        await set_shrinker_bit(ctx, lab.child, 0, 64)
        assert not lab.child.shrinker_maps[0]
        await set_shrinker_bit(ctx, lab.child, 0, 63)
        assert lab.child.shrinker_maps[0] == {63}

    assert run(story).findings == ["warn:set_shrinker_bit: shrinker_id >= info->map_nr_max:set_shrinker_bit"]


@pytest.mark.parametrize(("kernel", "left"), [("6.12", 2), ("7.2", 1)])
def test_without_accounting_a_shrinker_is_passed_over_and_6_12_keeps_a_reference(kernel: str, left: int) -> None:
    async def story(ctx: Context, lab: Bench) -> None:
        assert await ctx.ask(lab.shrinker.try_get)
        await pass_over(ctx, lab.shrinker)
        assert lab.shrinker.refcount == left

    assert bench(story, kernel=kernel).findings == []
