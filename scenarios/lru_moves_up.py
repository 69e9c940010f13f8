"""Objects of a nested cgroup go onto an LRU list, and others leave it, while the list moves to the parent's.

No lock but the list's guards them, as for the open files that nfsd keeps. From 7.2 on there are two locks: an object
must leave under the lock of the list that it is on, and go onto a list that is not about to be freed. A shrinker of the
parent must find what has moved there (KERNEL-7.2 N7).
"""

from __future__ import annotations

import attrs

from actors.api import GFP_KERNEL, Cgroup, Context, KmemCache, Machine, kmem_cache_free
from actors.linux.include.slab import kmem_cache_alloc_lru
from actors.linux.kernel.cgroup.cgroup import css_get, css_put, memcg_of
from actors.linux.mm.list_lru import (
    ListLru,
    LruItem,
    list_lru_add,
    list_lru_count_one,
    list_lru_del,
)
from actors.linux.mm.list_lru import __list_lru_init as list_lru_init
from actors.linux.mm.shrinker import shrinker_alloc, shrinker_register
from actors.linux.mm.vmscan import SHRINK_EMPTY, SHRINK_STOP, ShrinkControl, Shrinker
from actors.versions.profiles import WITHOUT_CHILD_CACHES
from scenarios.api import MACHINE, Body, Knob, Stage, charge_elsewhere, mkdir, rmdir, run_in, scenario, small_cache
from scenarios.objcgs import displace, is_offline, kill


@attrs.define(eq=False)
class Module:
    """A module with objects of a cache, `lrus` and one shrinker, which never frees any; `items` have their list."""

    machine: Machine
    cache: KmemCache
    lrus: list[ListLru] = attrs.field(factory=list)
    items: list[tuple[ListLru, LruItem]] = attrs.field(factory=list)

    async def register(self, ctx: Context, lists: int) -> None:
        """Make the LRU lists and their shrinker."""
        tree = self.machine.cgroup_tree
        shrinker = Shrinker(tree.actor, tree, self.count, self.scan, [0] * self.machine.config.nodes)
        await shrinker_alloc(ctx, shrinker)
        for number in range(lists):
            self.lrus.append(await list_lru_init(ctx, tree.actor, f"lru{number}", shrinker.id))
        await shrinker_register(ctx, shrinker)

    async def count(self, ctx: Context, _shrinker: Shrinker, sc: ShrinkControl) -> int:
        return sum([await list_lru_count_one(ctx, lru, sc.nid, sc.memcg) for lru in self.lrus]) or SHRINK_EMPTY

    async def scan(self, _ctx: Context, _shrinker: Shrinker, _sc: ShrinkControl) -> int:
        return SHRINK_STOP

    async def allocate(self, ctx: Context, lru: ListLru, objects: int) -> None:
        """Make objects that may go onto *lru*; they are charged to the task's memcg."""
        for _ in range(objects):
            obj = await kmem_cache_alloc_lru(ctx, self.cache, lru, GFP_KERNEL)
            if obj is not None:
                self.items.append((lru, LruItem(obj.slab, obj)))

    def put(self, number: int) -> Body:
        """The body of a task that puts an object onto its list, if there is one of that number."""

        async def add(ctx: Context) -> None:
            for lru, item in self.items[number : number + 1]:
                await list_lru_add(ctx, lru, item)

        return add

    def take(self, number: int) -> Body:
        """The body of a task that takes an object from its list."""

        async def delete(ctx: Context) -> None:
            for lru, item in self.items[number : number + 1]:
                await list_lru_del(ctx, lru, item)

        return delete

    async def free_all(self, ctx: Context) -> None:
        for lru, item in self.items:
            await list_lru_del(ctx, lru, item)
            await kmem_cache_free(ctx, self.cache, item.obj)


@scenario(
    "lru-moves-up",
    "objects go onto an LRU list of a nested cgroup, and others leave it, while the list moves to the parent's",
    Knob("puts", "objects that go onto the list, each by a task of its own", 1, most=8),
    Knob("takes", "objects that leave the list, each by a task of its own", 1, most=8),
    Knob("late", "tasks that allocate for the cgroup what goes onto another list, the first of its kind", 0, most=8),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def lru_moves_up(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    module = Module(machine, machine.root_cache("alpha"))
    puts, takes, late = (stage.knobs[name] for name in ("puts", "takes", "late"))
    cgroups: list[Cgroup] = []

    async def allocate_and_kill(ctx: Context) -> None:
        """Allocate objects in the inner cgroup, and put those onto the list that will leave it."""
        await module.register(ctx, 2)
        outer = await mkdir(ctx, machine.root_cgroup, "outer")
        cgroups.extend([await mkdir(ctx, outer, "inner"), outer])
        await run_in(ctx, cgroups[0], lambda ctx: module.allocate(ctx, module.lrus[0], puts + takes))
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, module.cache)
        for number in range(takes):
            await module.put(number)(ctx)
        for _ in range(late):
            await css_get(ctx, cgroups[0].css)
        await kill(ctx, cgroups[0])

    async def allocate_late(ctx: Context) -> None:
        """Charge the inner cgroup from outside, with a reference to it, as a loop device does."""
        ctx.active_memcg = memcg_of(cgroups[0].css)
        obj = await kmem_cache_alloc_lru(ctx, module.cache, module.lrus[1], GFP_KERNEL)
        ctx.active_memcg = None
        await css_put(ctx, cgroups[0].css)
        if obj is not None:
            item = LruItem(obj.slab, obj)
            module.items.append((module.lrus[1], item))
            await list_lru_add(ctx, module.lrus[1], item)

    async def free_all_items(ctx: Context) -> None:
        await module.free_all(ctx)
        await rmdir(ctx, cgroups[1])
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, module.cache)

    stage.set_up(allocate_and_kill, settles=False)
    for number in range(takes):
        stage.task(f"take{number}", module.take(number), cpu=number + 1)
    for number in range(puts):
        stage.task(f"put{number}", module.put(takes + number), cpu=takes + number + 1)
    for number in range(late):
        stage.task(f"late{number}", allocate_late, cpu=number + 1)
    stage.wind_up(free_all_items)
    stage.sometimes("the list has moved while an object is on it", lambda: is_offline(cgroups) and is_used(module))
    stage.eventually("every cgroup is gone", stage.only_session_left)


@scenario(
    "lru-of-reused-id",
    "an object of a removed cgroup goes onto an LRU list, while a new cgroup with the id of the old one gets lists",
    Knob("puts", "objects that go onto the list, each by a task of its own", 1, least=1, most=8),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def lru_of_reused_id(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    module = Module(machine, machine.root_cache("alpha"))
    cgroups: list[Cgroup] = []

    async def allocate_and_kill(ctx: Context) -> None:
        await module.register(ctx, 1)
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "old"))
        await run_in(ctx, cgroups[0], lambda ctx: module.allocate(ctx, module.lrus[0], stage.knobs["puts"]))
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, module.cache)
        await kill(ctx, cgroups[0])

    async def replace(ctx: Context) -> None:
        """A service starts in a new cgroup, and allocates an object of the same kind."""
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "new"))
        await run_in(ctx, cgroups[1], lambda ctx: module.allocate(ctx, module.lrus[0], 1))

    async def free_all_items(ctx: Context) -> None:
        await module.free_all(ctx)
        await rmdir(ctx, cgroups[1])
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, module.cache)

    stage.set_up(allocate_and_kill, settles=False)
    for number in range(stage.knobs["puts"]):
        stage.task(f"put{number}", module.put(number), cpu=number + 1)
    stage.task("mkdir", replace)
    stage.wind_up(free_all_items)
    stage.sometimes("the new cgroup has the id of the old one", lambda: len(cgroups) > len(ids_of(cgroups)))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def is_used(module: Module) -> bool:
    """Whether any list has objects."""
    return any(node.nr_items > 0 for lru in module.lrus for node in lru.nodes)


def ids_of(cgroups: list[Cgroup]) -> set[int]:
    """The ids of their memcgs, alive or not."""
    return {memcg_of(cgroup.css).id for cgroup in cgroups}
