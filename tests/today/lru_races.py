"""The race of tasks that use the items of an LRU while memcgs are removed, for tests of the lists of 6.12 and 7.2."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from actors.linux.include.memcontrol import mem_cgroup_from_slab_obj
from actors.linux.mm.kmem_cache import SlabObject
from actors.linux.mm.list_lru import (
    ListLru,
    LruItem,
    list_lru_add,
    list_lru_add_memcg,
    list_lru_count_one,
    list_lru_del,
    memcg_list_lru_alloc,
)
from actors.linux.mm.memcontrol import Memcg
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL
from explorer.search.registry import make_strategy
from tests.today.lru_bench import KERNEL, Bench, Code, Story, bench, from_slab_obj

STRATEGIES = ("pos", "random", "surw", "pct:3")


async def linked(ctx: Context, lab: Bench, memcg: Memcg | None, *nids: int) -> list[LruItem]:
    """New items of *memcg* on its lists."""
    if memcg is not None:
        assert await memcg_list_lru_alloc(ctx, memcg, lab.lru, GFP_KERNEL)
    items = [lab.thing(memcg, nid) for nid in nids]
    for item in items:
        assert await list_lru_add(ctx, lab.lru, item)
    return items


def on_list(lab: Bench, kmemcg_id: int, nid: int = 0) -> list[LruItem]:
    """The items on the list of an id, oldest first."""
    (one,) = (one for idx, one in lab.lru.nodes[nid].lists() if idx == kmemcg_id)
    return list(one.items)


changes: list[int] = []
"""What the tasks of a race have linked (1) and unlinked (-1), as the calls have said."""


async def prepare(ctx: Context, lab: Bench) -> None:
    """Items of the child on each node, every second one of them on its list; one item of the parent on each."""
    items = await linked(ctx, lab, lab.child, 0, 0, 1, 1)
    for item in items[1::2]:
        assert await list_lru_del(ctx, lab.lru, item)
    await linked(ctx, lab, lab.parent, 0, 1)
    changes[:] = [4]


async def prepare_one(ctx: Context, lab: Bench) -> None:
    """As `prepare`, and the grandchild is gone."""
    await prepare(ctx, lab)
    await lab.offline(ctx, lab.grandchild)
    await lab.free(ctx, lab.grandchild)


async def put(ctx: Context, lab: Bench, number: int) -> None:
    """list_lru_add() of an item."""
    changes.append(int(await list_lru_add(ctx, lab.lru, lab.things[number])))


async def take(ctx: Context, lab: Bench, number: int) -> None:
    """list_lru_del() of an item."""
    changes.append(-int(await list_lru_del(ctx, lab.lru, lab.things[number])))


def using(first: int) -> Story:
    """A task that uses two items: it takes one from its list, and puts the other on its list."""

    async def story(ctx: Context, lab: Bench) -> None:
        await take(ctx, lab, first)
        await put(ctx, lab, first + 1)
        await put(ctx, lab, first)
        await put(ctx, lab, first)

    return story


async def allocating(ctx: Context, lab: Bench) -> None:
    """The first object of the grandchild, then of the child: their lists are needed now."""
    for memcg in (lab.grandchild, lab.child):
        owner = await lab.get(ctx, lab.objcgs[memcg])
        assert await memcg_list_lru_alloc(ctx, owner, lab.lru, GFP_KERNEL)
        await ctx.ask(lab.users[owner].complete)


async def reclaiming(ctx: Context, lab: Bench) -> None:
    """Reclaim of the parent takes one of its items on each node."""
    for nid in (0, 1):
        assert await list_lru_count_one(ctx, lab.lru, nid, lab.parent) >= 0
        changes.append(-await lab.reclaim(ctx, lab.parent, nid, 1))


async def adding(ctx: Context, lab: Bench) -> None:
    """The last user of an item puts it on its list."""
    await put(ctx, lab, 1)


async def deleting(ctx: Context, lab: Bench) -> None:
    """An item is used again."""
    await take(ctx, lab, 0)


async def removing(ctx: Context, lab: Bench) -> None:
    """The grandchild goes, then the child, which is freed, and with it its id."""
    await lab.offline(ctx, lab.grandchild)
    await lab.free(ctx, lab.grandchild)
    await removing_one(ctx, lab)


async def removing_one(ctx: Context, lab: Bench) -> None:
    """The child goes, which has no children any more."""
    await lab.offline(ctx, lab.child)
    await lab.free(ctx, lab.child)


RACE = (using(0), using(2), allocating, reclaiming, removing)

SMALL = (adding, deleting, removing_one)


def race(
    seeds: Iterable[int],
    patches: Mapping[str, tuple[str, Code]] | None = None,
    stories: Iterable[Story] = RACE,
    before: Story = prepare,
    kernel: str = KERNEL,
) -> set[str]:
    """All that goes wrong when tasks add, delete, allocate and reclaim while memcgs are removed."""
    found: set[str] = set()
    for seed in seeds:
        lab = bench(
            *stories,
            strategy=make_strategy(STRATEGIES[seed % len(STRATEGIES)], seed),
            patches=patches,
            faults={"xarray": 0.5} if seed % 2 else {},
            prepare=before,
            rcu="eager",
            kernel=kernel,
        )
        listed = list(itertools.chain(*(one.items for node in lab.lru.nodes for _, one in node.lists())))
        found |= {*lab.findings, *lab.wrongs()}
        found |= {"lost" for item in lab.things if (item.on is not None) != (item in listed)}
        found |= {"number"} if sum(changes) != len(listed) or len(listed) != len(set(listed)) else set()
    return found


async def from_slab_obj_slowly(ctx: Context, obj: SlabObject) -> Memcg | None:
    """The look-up of the memcg; its caller is preempted afterwards for a second."""
    memcg = await from_slab_obj(ctx, obj)
    await ctx.stall(10**9)
    return memcg


async def add_without_rcu(ctx: Context, lru: ListLru, item: LruItem) -> bool:
    """list_lru_add_obj() before 5161b48712dc (BUGS-today: list-lru-add-without-rcu)."""
    memcg = await mem_cgroup_from_slab_obj(ctx, item.obj)
    return await list_lru_add_memcg(ctx, lru, item, item.obj.slab.nid, memcg)
