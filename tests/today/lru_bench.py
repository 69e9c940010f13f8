"""A machine of 6.12 or 7.2 with three memcgs, an LRU and items, without the rest of the kernel, for tests of lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import attrs

from actors.linux.include.memcontrol import mem_cgroup_from_slab_obj
from actors.linux.include.rcupdate import kfree_rcu
from actors.linux.init.machine import Config, Machine
from actors.linux.kernel.cgroup.cgroup import Cgroup, Css, CssFlags
from actors.linux.kernel.locking.locks import Completion
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu, synchronize_rcu
from actors.linux.mm.kmem_cache import KmemCache, Slab, SlabObject
from actors.linux.mm.list_lru import (
    ListLru,
    ListLruWalk,
    LruItem,
    LruList,
    LruStatus,
    list_lru_walk_one,
    memcg_reparent_list_lrus,
)
from actors.linux.mm.list_lru import __list_lru_init as list_lru_init
from actors.linux.mm.memcontrol import Memcg, mem_cgroup_alloc
from actors.linux.mm.obj_cgroup import ObjCgroup, ObjExts
from actors.linux.mm.shrinker import alloc_shrinker_info, shrinker_alloc, shrinker_register
from actors.linux.mm.vmscan import SHRINK_EMPTY, ShrinkControl, Shrinker
from actors.machine.context import Context, deref
from actors.machine.gfp import GFP_KERNEL
from actors.machine.list_head import ListEntry
from actors.oracles.lru import lru_wrongs
from actors.system.actor import Actor, Shared
from actors.system.stepper import run_stepper
from actors.system.strategy import InTurn, Strategy
from actors.system.world import World
from actors.versions.kernel_fn import Body, make_body
from actors.versions.patching import Patch
from protocol.records import PatchRecord

KERNEL = "6.12"

Code = Callable[..., Awaitable[Any]]

Story = Callable[[Context, "Bench"], Awaitable[None]]


async def from_slab_obj(ctx: Context, obj: SlabObject) -> Memcg | None:
    """mem_cgroup_from_slab_obj(): the memcg of the obj_cgroup in the object's slot."""
    objcg = obj.slab.obj_exts.slots[obj.at] if obj.slab.obj_exts is not None else None
    return None if objcg is None else await ctx.ask(objcg.read_memcg)


async def free_after_grace_period(ctx: Context, *parts: Shared | None) -> None:
    """kfree_rcu() without its batches."""

    async def free(ctx: Context, _head: RcuHead) -> None:
        ctx.kfree(*parts)

    await call_rcu(ctx, RcuHead(deref(parts[0], "kfree_rcu(): ptr")), free)


STUBS: Mapping[str, tuple[str, Code]] = {
    mem_cgroup_from_slab_obj.name: ("mm/memcontrol.c", from_slab_obj),
    kfree_rcu.name: ("kernel/rcu/tree.c", free_after_grace_period),
}
"""Functions of other files, in their simplest form."""


def patch_of(functions: Mapping[str, tuple[str, Code]], kernel: str = KERNEL) -> Patch:
    """A patch with these functions, by name and C file."""
    bodies: dict[str, Body] = {name: make_body(code, name, file, [kernel]) for name, (file, code) in functions.items()}
    return Patch(PatchRecord("bench"), bodies)


@attrs.define(eq=False)
class Thing(ListEntry):
    """An object that is on the LRU while nobody uses it."""

    name: str

    @property
    def label(self) -> str:
        return f"thing {self.name}"


@attrs.define(eq=False, repr=False)
class Bench:
    """A machine with the memcgs parent/child/grandchild, and an LRU whose shrinker takes everything it is shown."""

    machine: Machine
    parent: Memcg = attrs.field(init=False)
    child: Memcg = attrs.field(init=False)
    grandchild: Memcg = attrs.field(init=False)
    lru: ListLru = attrs.field(init=False)
    shrinker: Shrinker = attrs.field(init=False)
    objcgs: dict[Memcg, ObjCgroup] = attrs.field(factory=dict)
    users: dict[Memcg, Completion] = attrs.field(factory=dict)
    things: list[LruItem] = attrs.field(factory=list)

    @property
    def world(self) -> World:
        return self.machine.world

    @property
    def findings(self) -> list[str]:
        return sorted(self.world.findings)

    def wrongs(self) -> set[str]:
        """The numbers of the rules that the lists break now."""
        return {number for number, _ in lru_wrongs(self.machine)}

    async def set_up(self, ctx: Context) -> None:
        """Make the memcgs, put them online, and register the LRU."""
        self.parent = await self.memcg(ctx, "parent", self.machine.root_cgroup, 1)
        self.child = await self.memcg(ctx, "child", self.parent.css.cgroup, 2)
        self.grandchild = await self.memcg(ctx, "grandchild", self.child.css.cgroup, 3)
        actor = Actor(self.world, "lru")
        nodes = self.machine.config.nodes
        self.shrinker = Shrinker(actor, Thing(actor, "pool"), self.count, self.scan, [0] * nodes)
        await shrinker_alloc(ctx, self.shrinker)
        self.lru = await list_lru_init(ctx, actor, "lru", self.shrinker.id)
        await shrinker_register(ctx, self.shrinker)

    async def memcg(self, ctx: Context, name: str, above: Cgroup, kmemcg_id: int) -> Memcg:
        """A memcg that is online."""
        machine = self.machine
        cgroup = Cgroup(Actor(machine.world, name), name, machine.next_css_serial(), above)
        css = Css(cgroup.actor, f"css of {name}", cgroup, above.css, flags=CssFlags.ONLINE)
        cgroup.css, cgroup.self_css, cgroup.has_css = css, css, True
        css.prepare(machine)
        css.memcg = memcg = mem_cgroup_alloc(machine, css, deref(above.css.memcg, "parent"))
        above.children.list_add_tail(cgroup)
        above.css.children.list_add_tail(css)
        memcg.id = memcg.kmemcg_id = kmemcg_id
        await ctx.ask(memcg.add_id_ref, 1)
        machine.mem_cgroup_ids.used.add(kmemcg_id)
        assert await alloc_shrinker_info(ctx, memcg)
        self.objcgs[memcg] = ObjCgroup(memcg.actor, memcg, memcg)
        for owner in memcg.objcg_owners():
            owner.objcg = self.objcgs[memcg]
        self.users[memcg] = Completion(memcg.actor, 0)
        return memcg

    def thing(self, memcg: Memcg | None, nid: int = 0) -> LruItem:
        """A new object charged to *memcg*, on the given node."""
        number = len(self.things)
        slab = Slab(
            self.lru.xa.actor,
            number,
            cast("KmemCache", None),
            nid,
            order=0,
            objects=1,
            freelist=None,
            inuse=1,
            frozen=False,
            made_by=("bench", 0),
            pfn=number,
        )
        slab.obj_exts = ObjExts(slab.actor, slab, [self.objcgs.get(memcg) if memcg is not None else None])
        item = LruItem(Thing(self.lru.xa.actor, f"{number}"), SlabObject(slab, 0))
        self.things.append(item)
        return item

    async def offline(self, ctx: Context, memcg: Memcg, reparent: Code = memcg_reparent_list_lrus) -> None:
        """Give obj_cgroups and lists to the parent, the lists first from 7.2 on, and take the memcg offline."""
        parent = deref(memcg.parent, "memcg->parent")
        await ctx.ask(memcg.css.set_flags, CssFlags.DYING)
        if memcg.has_objcg_per_node:
            await reparent(ctx, memcg, parent)
            await self.give_objcgs(ctx, memcg, parent)
        else:
            await self.give_objcgs(ctx, memcg, parent)
            await reparent(ctx, memcg, parent)
        await ctx.ask(memcg.css.clear_flags, CssFlags.ONLINE)
        if await ctx.ask(memcg.add_id_ref, -1) == 0:
            await ctx.ask(self.machine.mem_cgroup_ids.ida_simple_remove, memcg.id)

    async def give_objcgs(self, ctx: Context, memcg: Memcg, parent: Memcg) -> None:
        """memcg_reparent_objcgs(), without locks."""
        for owner in memcg.objcg_owners():
            await ctx.ask(owner.take_objcg)
        for objcg in self.objcgs.values():
            if objcg.memcg is memcg:
                await ctx.ask(objcg.set_memcg, parent)

    async def get(self, ctx: Context, objcg: ObjCgroup) -> Memcg:
        """get_mem_cgroup_from_objcg(): the present memcg, which is not freed before its user completes it."""
        with ctx.rcu_read_section:
            memcg = await ctx.ask(objcg.read_memcg)
            await ctx.ask(self.users[memcg].expect_one_more)
            return memcg

    async def free(self, ctx: Context, memcg: Memcg) -> None:
        """Unlink an offline memcg, wait for RCU readers and for users, and free it."""
        above = deref(memcg.css.parent, "css->parent")
        await ctx.ask(above.unlink_child, memcg.css)
        above.cgroup.children.list_del(memcg.css.cgroup)
        await synchronize_rcu(ctx)
        await ctx.ask(self.users[memcg].wait_for_completion)
        ctx.kfree(*memcg.parts())

    # -- the shrinker -------------------------------------------------------------------------------------------------

    async def count(self, _ctx: Context, _shrinker: Shrinker, _sc: ShrinkControl) -> int:
        """count_objects(), of a pool that is always empty."""
        return SHRINK_EMPTY

    async def scan(self, ctx: Context, _shrinker: Shrinker, sc: ShrinkControl) -> int:
        """scan_objects(): take all of them from the list."""
        return await self.reclaim(ctx, sc.memcg, sc.nid, sc.nr_to_scan)

    async def reclaim(self, ctx: Context, memcg: Memcg, nid: int, nr_to_scan: int = 100) -> int:
        """Take the items of *memcg* from their list, oldest first."""

        async def isolate(ctx: Context, item: LruItem, walk: ListLruWalk) -> LruStatus:
            await ctx.ask(walk.guard.isolate, item, walk.one)
            return LruStatus.REMOVED

        return await list_lru_walk_one(
            ctx, self.lru, ShrinkControl(GFP_KERNEL, nid, memcg, nr_to_scan), isolate, LruList()
        )


class Failing(InTurn):
    """In turn, and every fault that is asked for happens."""

    def choose_fault(self, _probability: float) -> bool:
        """Choose that it happens."""
        return True


def bench(
    *stories: Story,
    strategy: Strategy | None = None,
    patches: Mapping[str, tuple[str, Code]] | None = None,
    faults: Mapping[str, float] | None = None,
    prepare: Story | None = None,
    rcu: str = "batched",
    kernel: str = KERNEL,
) -> Bench:
    """Run *prepare*, then each of *stories* as a task of its own, to quiescence. All *faults* happen, in turn."""
    world = World(strategy or Failing())
    config = Config(kernel=kernel, nodes=2, rcu=rcu)
    machine = Machine(world, config, patches=[patch_of({**STUBS, **(patches or {})}, kernel)])
    made = Bench(machine)

    def life(story: Story) -> Callable[[Context], Awaitable[None]]:
        return lambda ctx: story(ctx, made)

    async def direct(ctx: Context) -> None:
        await made.set_up(ctx)
        if prepare is not None:
            await prepare(ctx, made)
        world.faults = faults or {}
        for number, story in enumerate(stories):
            machine.start(machine.new_task(f"task{number}", number % 2), life(story))

    machine.start(machine.new_task("direct", 0), direct)
    run_stepper(world)
    return made
