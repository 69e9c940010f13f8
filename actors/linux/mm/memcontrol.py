"""Memory cgroups: charging, stocks, kernel memory, offline and free, iteration, statistics. mm/memcontrol.c @5.3.1.

Version by version for kernel memory; KERNEL.md 3, 4.1, 5 and 9, KERNEL-v1-v3.md 2.2, 3.2, 4.2. A charged page is
counted in the page counters of its memcg and of all ancestors, and holds a reference to the memcg's css. Charges are
made in batches: a CPU keeps the surplus of a batch in its stock. Folios, from 6.12 on, are in memcg_folio.py.
"""

from __future__ import annotations

import enum
import functools
from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING

import attrs

from actors.linux.include.list_lru import (
    memcg_drain_all_list_lrus,
    memcg_reparent_list_lrus,
    memcg_update_all_list_lrus,
)
from actors.linux.include.memcontrol import (
    charge_statistics,
    drain_local_obj_stock,
    drain_obj_stock,
    memcg_reparent_objcgs,
    obj_cgroup_alloc,
    obj_cgroup_put,
    obj_stock_flush_required,
    uncharge_statistics,
)
from actors.linux.include.shrinker import alloc_shrinker_info, free_shrinker_info, reparent_shrinker_deferred
from actors.linux.include.slab import (
    kmalloc,
    memcg_create_kmem_cache,
    memcg_deactivate_kmem_caches,
    memcg_destroy_kmem_caches,
    memcg_update_all_caches,
)
from actors.linux.include.swap import try_to_free_mem_cgroup_pages
from actors.linux.kernel.cgroup.cgroup import (
    CgroupSubsys,
    Css,
    CssFlags,
    css_get,
    css_get_many,
    css_put,
    css_put_many,
    css_tryget,
    css_tryget_online,
    memcg_of,
)
from actors.linux.kernel.locking.locks import (
    LocalLockHeld,
    LocalLockIrqHeld,
    LocalTryLock,
    down_read,
    down_write,
    local_trylock,
    local_unlock,
    mutex_trylock,
    mutex_unlock,
    up_read,
    up_write,
)
from actors.linux.kernel.workqueue import Work, queue_work, queue_work_on
from actors.linux.lib.percpu_refcount import percpu_ref_get, percpu_ref_kill, percpu_ref_put, percpu_ref_tryget
from actors.linux.mm.mmzone import Lruvec
from actors.linux.mm.page_alloc import __free_pages, alloc_pages
from actors.linux.mm.page_counter import PageCounter, page_counter_try_charge, page_counter_uncharge
from actors.linux.mm.vmstat import (
    MEMCG_CHARGE_BATCH,
    NODE_STAT_THRESHOLD,
    THIS_CPU_STAT,
    StatItem,
    VmStats,
    flush_items,
)
from actors.machine.context import BUG_ON, WARN_ON, Context, deref
from actors.machine.gfp import GFP_KERNEL, GFP_NOWAIT, Gfp, gfpflags_allow_blocking
from actors.machine.list_head import ListHead, use
from actors.system.actor import Actor, Shared
from actors.versions.kernel_fn import kernel_fn
from actors.versions.profiles import OBJCG_PER_NODE
from protocol.operations import ATOMIC_NS, READ, UPDATE, OperationInfo, operation

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from actors.linux.init.machine import Machine
    from actors.linux.mm.filemap import Page
    from actors.linux.mm.kmem_cache import KmemCache
    from actors.linux.mm.memcg_memory import AccountedMemory
    from actors.linux.mm.obj_cgroup import ObjCgroup

MEM_CGROUP_RECLAIM_RETRIES = 5
MAX_RECLAIM_RETRIES = 16
COSTLY_PAGES = 8
"""1 << PAGE_ALLOC_COSTLY_ORDER: a charge of that many goes on as long as reclaim finds anything."""
CHARGE_BATCH = 64
"""The MEMCG_CHARGE_BATCH of 6.12."""
MEMCG_CACHES_MIN_SIZE = 4

STOCK = OperationInfo("this_cpu_stock", cost=ATOMIC_NS)

STOCK_LOCK = "memcg_stock.stock_lock"
"""The local lock of a CPU's stock in 6.12; before, the stock is used with IRQs off."""

MEMCG_STOCK_LOCK, OBJ_STOCK_LOCK = "memcg_stock.lock", "obj_stock.lock"
"""The local locks of a CPU's two stocks from 7.2 on, which a handler may find taken."""

NR_MEMCG_STOCK, NR_OBJ_STOCK = 7, 5
"""The slots of each of them."""


@attrs.define(eq=False)
class StaticKey(Shared):
    """memcg_kmem_enabled_key: `usage` counts the memcgs with kmem state; `kept` of these counts are never dropped."""

    usage: int = attrs.field(default=0, init=False)
    kept: int = attrs.field(default=0, init=False)

    @property
    def label(self) -> str:
        return "memcg_kmem_enabled_key"

    @operation(READ, cost=ATOMIC_NS)
    def is_enabled(self) -> bool:
        """memcg_kmem_enabled()."""
        return self.usage > 0

    @operation(UPDATE)
    def add(self, nr: int) -> None:
        self.usage += nr

    @operation(UPDATE)
    def keep(self) -> None:
        self.kept += 1


class KmemState(enum.Enum):
    """enum memcg_kmem_state."""

    NONE = "KMEM_NONE"
    ONLINE = "KMEM_ONLINE"
    ALLOCATED = "KMEM_ALLOCATED"


@attrs.define(eq=False)
class ObjcgOwner(Shared):
    """What points to the obj_cgroups of a memcg: the memcg itself, from 7.2 on its part for each node.

    `objcg` is the obj_cgroup of new objects until removal, `orig_objcg` a reference to the same until the memcg is
    freed, and `objcg_list` has those it inherited.
    """

    objcg: ObjCgroup | None = attrs.field(default=None, init=False)
    orig_objcg: ObjCgroup | None = attrs.field(default=None, init=False)
    objcg_list: ListHead[ObjCgroup] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.objcg_list = ListHead(self, "objcg_list")

    @operation(READ, part="objcg", lifecycle=True)
    def read_objcg(self) -> ObjCgroup | None:
        """rcu_dereference(memcg->objcg): NULL from its removal on."""
        return self.objcg

    @operation(UPDATE, part="objcg", lifecycle=True)
    def set_objcg(self, objcg: ObjCgroup) -> None:
        self.objcg = objcg

    @operation(UPDATE, part="objcg", lifecycle=True)
    def take_objcg(self) -> ObjCgroup | None:
        """rcu_replace_pointer(memcg->objcg, NULL)."""
        taken, self.objcg = self.objcg, None
        return taken

    @operation(UPDATE, part="objcg_list")
    def add_objcg(self, objcg: ObjCgroup) -> None:
        """list_add(), under objcg_lock like all accesses to this list."""
        self.objcg_list.list_add(objcg)

    @operation(READ, part="objcg_list")
    def list_objcgs(self) -> tuple[ObjCgroup, ...]:
        return self.objcg_list.walk()

    @operation(UPDATE, part="objcg_list")
    def take_objcgs(self) -> tuple[ObjCgroup, ...]:
        """Empty the list (the first half of list_splice)."""
        return self.objcg_list.take_all()

    @operation(UPDATE, part="objcg_list")
    def splice_objcgs(self, objcgs: tuple[ObjCgroup, ...]) -> None:
        """Put *objcgs* to the head of the list, in their order."""
        for objcg in reversed(objcgs):
            self.objcg_list.list_add(objcg)

    @operation(UPDATE, part="objcg_list", lifecycle=True)
    def del_objcg(self, objcg: ObjCgroup) -> None:
        """list_del()."""
        self.objcg_list.list_del(objcg)


@attrs.define(eq=False)
class MemcgPerNode(ObjcgOwner):
    """struct mem_cgroup_per_node: the part of a memcg for one node, from 6.12 on."""

    memcg: Memcg
    nid: int
    lruvec: Lruvec = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.lruvec = Lruvec(Actor(self.actor.world, f"lruvec {self.memcg.name}:{self.nid}"), self.memcg, self.nid)

    @property
    def label(self) -> str:
        return f"{self.memcg.label}, node {self.nid}"


@attrs.define(eq=False)
class Memcg(ObjcgOwner):
    """struct mem_cgroup: an actor of its own, with its css. `kmem_caches` are its child caches, oldest first.

    `parent` is None for the root; without hierarchy (cgroup v1) it is None for every memcg. `memsw` and `kmem` are
    v1's counters. `user_pages` are pages of its tasks that reclaim may take; `cache_pages` of them belong to files
    (`filemap`). `lru` has the pages that no reclaimer has isolated, by node, oldest first. `shrinker_maps` has, by
    node, the shrinkers that may find objects of this memcg.

    From 6.12 on, `id` is its number, which is its kmemcg_id while it lives; `statistics` is memory of its own that is
    charged to its parent; `nodeinfo` has its part for each node. It owns its obj_cgroups unless it
    `has_objcg_per_node`. `user_pages` are shadow accounting there: the pages that its tasks have mapped, or put into
    files. `folios` have a css reference each; they are `folio_pages` pages.

    invariants (KERNEL.md 13): offline, `kmemcg_id` is the parent's; the root's is -1; with reparenting, each cache on
    `kmem_caches` has this memcg as its memcg and holds one reference to its css.
    """

    name: str
    css: Css
    parent: Memcg | None
    memory: PageCounter
    memsw: PageCounter | None
    kmem: PageCounter | None
    vmstats: VmStats
    lruvec_stats: list[VmStats]
    is_root: bool = False
    kmemcg_id: int = -1
    kmem_state: KmemState = KmemState.NONE
    kmem_caches: ListHead[KmemCache] = attrs.field(init=False)
    id: int = attrs.field(default=0, init=False)
    id_ref: int = attrs.field(default=0, init=False)
    user_pages: int = attrs.field(default=0, init=False)
    cache_pages: int = attrs.field(default=0, init=False)
    folios: int = attrs.field(default=0, init=False)
    folio_pages: int = attrs.field(default=0, init=False)
    lru: dict[int, ListHead[Page]] = attrs.field(init=False)
    shrinker_maps: dict[int, set[int]] = attrs.field(factory=lambda: defaultdict(set), init=False)
    has_objcg_per_node: bool = attrs.field(default=False, init=False)
    nodeinfo: list[MemcgPerNode] = attrs.field(factory=list, init=False)
    statistics: list[AccountedMemory] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.kmem_caches = ListHead(self, "kmem_caches")
        self.lru = defaultdict(functools.partial(ListHead, self))

    @classmethod
    def alloc(
        cls, actor: Actor, name: str, css: Css, parent: Memcg | None, *, has_v1_counters: bool, cpus: int, nodes: int
    ) -> Memcg:
        """mem_cgroup_alloc(): counters below the parent's, statistics per CPU and per node."""

        def counter(what: str, of: Callable[[Memcg], PageCounter | None]) -> PageCounter:
            return PageCounter(actor, f"{what} of {name}", of(parent) if parent else None)

        def stats(what: str) -> VmStats:
            return VmStats.alloc(actor, f"{name}{what}", cpus)

        return cls(
            actor,
            name,
            css,
            parent,
            memory=counter("memory", lambda memcg: memcg.memory),
            memsw=counter("memsw", lambda memcg: memcg.memsw) if has_v1_counters else None,
            kmem=counter("kmem", lambda memcg: memcg.kmem) if has_v1_counters else None,
            vmstats=stats(""),
            lruvec_stats=[stats(f", node {nid}") for nid in range(nodes)],
        )

    @property
    def label(self) -> str:
        return f"mem_cgroup {self.name}"

    def parts(self) -> tuple[Shared | None, ...]:
        """The struct with its counters and statistics."""
        per_node = (part for node in self.nodeinfo for part in (node, *node.lruvec.parts()))
        return (self, self.memory, self.memsw, self.kmem, self.vmstats, *self.lruvec_stats, *per_node)

    def objcg_owner(self, nid: int) -> ObjcgOwner:
        """What points to the obj_cgroups of this memcg for node *nid*."""
        return self.nodeinfo[nid] if self.has_objcg_per_node else self

    def objcg_owners(self) -> Sequence[ObjcgOwner]:
        return self.nodeinfo if self.has_objcg_per_node else (self,)

    @property
    def is_kmem_online(self) -> bool:
        """Whether it may have child caches, or from 6.12 on an obj_cgroup of its own: until it goes offline."""
        return self.kmem_state is KmemState.ONLINE or any(owner.objcg is not None for owner in self.objcg_owners())

    def ancestors(self) -> list[Memcg]:
        """All memcgs above this one, nearest first."""
        above = []
        level = self.parent
        while level is not None:
            above.append(level)
            level = level.parent
        return above

    def is_descendant_of(self, root: Memcg) -> bool:
        """mem_cgroup_is_descendant(): itself included."""
        return self is root or root in self.ancestors()

    def subtree(self) -> list[Memcg]:
        """css_for_each_descendant_pre(): this memcg and every memcg below it that is not released yet."""
        found = [self]
        for memcg in found:
            found.extend(css.memcg for css in memcg.css.children if css.memcg is not None)
        return found

    @operation(READ)
    def list_subtree(self) -> tuple[Memcg, ...]:
        """The subtree as it is now; cgroup_mutex or RCU keeps its members from going away."""
        subtree = tuple(self.subtree())
        for memcg in subtree:
            memcg.css.touch_part("children", READ)
            memcg.css.children.walk()
        return subtree

    @operation(READ, part="kmemcg_id")
    def read_kmemcg_id(self) -> int:
        return self.kmemcg_id

    @operation(UPDATE, part="kmemcg_id")
    def set_kmemcg_id(self, kmemcg_id: int) -> None:
        self.kmemcg_id = kmemcg_id

    @operation(READ, part="kmem_state", lifecycle=True)
    def read_kmem_state(self) -> KmemState:
        return self.kmem_state

    @operation(UPDATE, part="kmem_state", lifecycle=True)
    def set_kmem_state(self, state: KmemState) -> None:
        self.kmem_state = state

    @operation(READ, part="kmem_caches")
    def list_kmem_caches(self) -> tuple[KmemCache, ...]:
        """The list as it is; slab_mutex keeps it so."""
        return self.kmem_caches.walk()

    @operation(UPDATE, part="kmem_caches")
    def add_kmem_cache(self, cache: KmemCache) -> None:
        self.kmem_caches.list_add_tail(cache)
        cache.recheck()

    @operation(UPDATE, part="kmem_caches")
    def del_kmem_cache(self, cache: KmemCache) -> None:
        self.kmem_caches.list_del(cache)
        cache.recheck()

    @operation(UPDATE, part="kmem_caches")
    def take_kmem_caches(self) -> tuple[KmemCache, ...]:
        """Empty the list (the first half of list_splice)."""
        caches = self.kmem_caches.take_all()
        for cache in caches:
            cache.recheck()
        return caches

    @operation(UPDATE, part="kmem_caches")
    def splice_kmem_caches(self, caches: tuple[KmemCache, ...]) -> None:
        for cache in caches:
            self.kmem_caches.list_add_tail(cache)

    @operation(UPDATE, part="id")
    def add_id_ref(self, nr: int) -> int:
        self.id_ref += nr
        return self.id_ref

    @operation(UPDATE)
    def add_user_pages(self, nr: int) -> None:
        self.user_pages += nr

    @operation(UPDATE)
    def take_user_pages(self, nr: int) -> int:
        """Take up to *nr* of the pages that reclaim may take and that belong to no file; return their number."""
        taken = min(nr, self.user_pages - self.cache_pages)
        self.user_pages -= taken
        return taken

    @operation(UPDATE)
    def add_cache_pages(self, nr: int) -> None:
        self.user_pages += nr
        self.cache_pages += nr

    def book_in_mapping(self, page: Page, nr: int) -> None:
        """Shadow accounting, from 6.12 on: a page that was charged to it first is mapped from now on, or no longer."""
        self.user_pages += nr * page.nr_pages
        self.cache_pages += nr * page.is_of_file

    def book_folio(self, nr: int, nr_pages: int) -> None:
        """Shadow accounting, from 6.12 on: a folio holds a reference to it from now on, or no longer."""
        self.folios += nr
        self.folio_pages += nr * nr_pages

    @operation(READ)
    def lru_size(self, nid: int) -> int:
        """lruvec_lru_size(); pages that belong to no file count as memory of node 0."""
        return len(self.lru[nid]) + (self.user_pages - self.cache_pages if nid == 0 else 0)

    @operation(UPDATE)
    def add_to_lru(self, page: Page) -> None:
        self.lru[page.nid].list_add_tail(page)

    @operation(UPDATE)
    def delete_from_lru(self, page: Page) -> None:
        if page in self.lru[page.nid]:
            self.lru[page.nid].list_del(page)

    @operation(UPDATE)
    def isolate_lru_pages(self, nid: int, nr: int) -> tuple[Page, ...]:
        """Isolate up to *nr* of the oldest pages with a reference each, except pages being freed. One lock section."""
        pages = tuple(page for page in self.lru[nid] if page.refs)[:nr]
        for page in pages:
            page.refs += 1
            self.lru[nid].list_del(page)
        return pages

    @operation(UPDATE)
    def set_shrinker_bit(self, nid: int, shrinker_id: int) -> None:
        self.shrinker_maps[nid].add(shrinker_id)

    @operation(UPDATE)
    def clear_shrinker_bit(self, nid: int, shrinker_id: int) -> None:
        self.shrinker_maps[nid].discard(shrinker_id)

    @operation(READ)
    def find_next_shrinker_bit(self, nid: int, after: int) -> int | None:
        """find_next_bit(): reads the map as it is at this moment."""
        return min((bit for bit in self.shrinker_maps[nid] if bit > after), default=None)

    @operation(READ)
    def next_descendant_pre(self, pos: Memcg | None) -> Memcg | None:
        """css_next_descendant_pre() below this memcg: the memcg after *pos*, which may be released; under RCU."""
        if pos is None:
            return self
        after = 0
        while True:
            use(pos.css)
            pos.css.touch_part("children", READ)
            found = pos.css.children.first_memcg_after(after)
            if found is not None or pos is self:
                return found
            after = pos.css.cgroup.serial_nr
            pos = memcg_of(deref(pos.css.parent, "css_next_descendant_pre(): pos->parent"))


# -- charging (9.2) ---------------------------------------------------------------------------------------------------


@kernel_fn("try_charge", "mm/memcontrol.c", profiles="..5.4-fixed")
async def try_charge(ctx: Context, memcg: Memcg, gfp: Gfp, nr_pages: int) -> bool:
    """Charge *nr_pages* to *memcg* and take as many css references; False is -ENOMEM.

    A charge that does not fit is retried with the exact amount, then after reclaim, then after the stocks are drained.
    The model has no OOM killer: after the last retry the charge fails, or goes over the limit with __GFP_NOFAIL.
    """
    if memcg.is_root:
        return True
    if await consume_stock(ctx, memcg, nr_pages):
        return True
    batch = max(MEMCG_CHARGE_BATCH, nr_pages)
    retries, drained = MEM_CGROUP_RECLAIM_RETRIES, False
    while (over := await charge_counters(ctx, memcg, batch)) is not None:
        if batch > nr_pages:
            batch = nr_pages
        elif not gfpflags_allow_blocking(gfp):
            return await force_charge(ctx, memcg, gfp, nr_pages)
        elif await try_to_free_mem_cgroup_pages(ctx, over, nr_pages, gfp):
            continue
        elif not drained:
            await drain_all_stock(ctx, over)
            drained = True
        elif Gfp.NORETRY in gfp or not retries:
            return await force_charge(ctx, memcg, gfp, nr_pages)
        else:
            retries -= 1
    await css_get_many(ctx, memcg.css, batch)
    if batch > nr_pages:
        await refill_stock(ctx, memcg, batch - nr_pages)
    return True


@kernel_fn("try_charge", "mm/memcontrol.c", profiles="6.12..")
async def try_charge_6_12(ctx: Context, memcg: Memcg, gfp: Gfp, nr_pages: int) -> bool:
    """The root is not charged for folios."""
    return memcg.is_root or await try_charge_memcg(ctx, memcg, gfp, nr_pages)


@kernel_fn("try_charge_memcg", "mm/memcontrol.c", profiles="6.12..")
async def try_charge_memcg(ctx: Context, memcg: Memcg, gfp: Gfp, nr_pages: int) -> bool:
    """KERNEL-today 8.3: charge *nr_pages* to *memcg* or to the root, without css references; False is -ENOMEM.

    A charge alone pins nothing; what is charged does. There is no OOM killer, and no memory.high.
    """
    batch = max(CHARGE_BATCH, nr_pages)
    attempts = ChargeAttempts()
    while True:
        if await consume_stock(ctx, memcg, nr_pages):
            return True
        over = await charge_counters(ctx, memcg, batch)
        if over is None:
            break
        if batch > nr_pages:
            batch = nr_pages
        elif not gfpflags_allow_blocking(gfp) or not await reclaim_for_charge(ctx, over, gfp, nr_pages, attempts):
            return await exceed_limit(ctx, memcg, gfp, nr_pages)
    if batch > nr_pages:
        await refill_stock(ctx, memcg, batch - nr_pages)
    return True


@attrs.define
class ChargeAttempts:
    """What a charge that does not fit has left to try."""

    has_drained: bool = False
    retries: int = MAX_RECLAIM_RETRIES


async def reclaim_for_charge(ctx: Context, over: Memcg, gfp: Gfp, nr_pages: int, attempts: ChargeAttempts) -> bool:
    """KERNEL-today 8.3, step 5: reclaim below the limit of *over*; whether the charge is worth another try.

    If reclaim has not made room enough, the stocks are drained once, for they may have the rest.
    """
    nr_reclaimed = await try_to_free_mem_cgroup_pages(ctx, over, nr_pages, gfp)
    if await mem_cgroup_margin(ctx, over) >= nr_pages:
        return True
    if not attempts.has_drained:
        await drain_all_stock(ctx, over)
        attempts.has_drained = True
        return True
    if Gfp.NORETRY in gfp:
        return False
    if not nr_reclaimed or nr_pages > COSTLY_PAGES:
        attempts.retries -= 1
    return attempts.retries >= 0


@kernel_fn("mem_cgroup_margin", "mm/memcontrol.c", profiles="6.12..")
async def mem_cgroup_margin(ctx: Context, memcg: Memcg) -> float:
    """How many pages its own limits leave; infinite without a limit."""
    margins = [
        max(counter.max - await ctx.ask(counter.read), 0)
        for counter in (memcg.memory, memcg.memsw)
        if counter is not None and counter.max is not None
    ]
    return min(margins, default=inf)


async def charge_counters(ctx: Context, memcg: Memcg, nr_pages: int) -> Memcg | None:
    """Charge memsw (cgroup v1), then memory; return the memcg that is over its limit, if there is one."""
    if memcg.memsw is not None and (full := await page_counter_try_charge(ctx, memcg.memsw, nr_pages)) is not None:
        return next(level for level in (memcg, *memcg.ancestors()) if level.memsw is full)
    full = await page_counter_try_charge(ctx, memcg.memory, nr_pages)
    if full is None:
        return None
    if memcg.memsw is not None:
        await page_counter_uncharge(ctx, memcg.memsw, nr_pages)
    return next(level for level in (memcg, *memcg.ancestors()) if level.memory is full)


async def force_charge(ctx: Context, memcg: Memcg, gfp: Gfp, nr_pages: int) -> bool:
    """With __GFP_NOFAIL charge over the limit, and take the css references; otherwise fail."""
    if not await exceed_limit(ctx, memcg, gfp, nr_pages):
        return False
    await css_get_many(ctx, memcg.css, nr_pages)
    return True


async def exceed_limit(ctx: Context, memcg: Memcg, gfp: Gfp, nr_pages: int) -> bool:
    """With __GFP_NOFAIL charge over the limit; otherwise fail."""
    if Gfp.NOFAIL not in gfp:
        return False
    for counter in (memcg.memory, memcg.memsw):
        level = counter
        while level is not None:
            await ctx.ask(level.add, nr_pages)
            level = level.parent
    return True


async def memcg_uncharge(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """Subtract pages from the counters of *memcg* and above, past the stocks."""
    await page_counter_uncharge(ctx, memcg.memory, nr_pages)
    if memcg.memsw is not None:
        await page_counter_uncharge(ctx, memcg.memsw, nr_pages)


@kernel_fn("cancel_charge", "mm/memcontrol.c", profiles="..5.4-fixed")
async def cancel_charge(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """Subtract pages from the counters, which bypasses the stock, and drop a css reference for each."""
    if memcg.is_root:
        return
    await memcg_uncharge(ctx, memcg, nr_pages)
    await css_put_many(ctx, memcg.css, nr_pages)


@kernel_fn("mem_cgroup_try_charge", "mm/memcontrol.c", profiles="..5.4-fixed")
async def mem_cgroup_try_charge(ctx: Context, memcg: Memcg) -> bool:
    """Allocate and charge a page of a task: page cache or anonymous. Reclaim or the task's end uncharges it."""
    if not await alloc_pages(ctx, GFP_KERNEL, 1):
        return False
    if not await try_charge(ctx, memcg, GFP_KERNEL, 1):
        await __free_pages(ctx, 1)
        return False
    await ctx.ask(memcg.add_user_pages, 1)
    return True


@kernel_fn("mem_cgroup_uncharge", "mm/memcontrol.c", profiles="..5.4-fixed")
async def mem_cgroup_uncharge(ctx: Context, memcg: Memcg) -> None:
    """Uncharge and free a page of a task."""
    if await ctx.ask(memcg.take_user_pages, 1):
        await cancel_charge(ctx, memcg, 1)
        await __free_pages(ctx, 1)


@kernel_fn("uncharge_page", "mm/memcontrol.c", profiles="..5.4-fixed")
async def uncharge_page(ctx: Context, page: Page) -> None:
    WARN_ON(ctx, page.on_lists, "Bad page state: PAGE_FLAGS_CHECK_AT_FREE flag(s) set (lru)")
    memcg = page.charged_to
    await ctx.ask(memcg.add_cache_pages, -1)
    await cancel_charge(ctx, memcg, 1)
    await __free_pages(ctx, 1)


@kernel_fn("memcg_set_shrinker_bit", "mm/memcontrol.c", profiles="..5.4-fixed")
async def memcg_set_shrinker_bit(ctx: Context, memcg: Memcg | None, nid: int, shrinker_id: int) -> None:
    """Mark that the shrinker may find objects of *memcg*. The root needs no mark: every shrinker is called for it."""
    if shrinker_id >= 0 and memcg is not None and not memcg.is_root:
        await ctx.ask(memcg.set_shrinker_bit, nid, shrinker_id)


# -- kernel memory (9.2, 1.3) -----------------------------------------------------------------------------------------


@kernel_fn("memcg_kmem_charge_memcg", "mm/memcontrol.c", profiles="..5.4-fixed")
async def memcg_kmem_charge_memcg(ctx: Context, memcg: Memcg, gfp: Gfp, nr_pages: int) -> bool:
    """Charge kernel pages, if accounting is on: memory, then v1's kmem counter, whose limit is hard (no reclaim)."""
    if not await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        return True
    if not await try_charge(ctx, memcg, gfp, nr_pages):
        return False
    if memcg.kmem is not None and await page_counter_try_charge(ctx, memcg.kmem, nr_pages) is not None:
        await cancel_charge(ctx, memcg, nr_pages)
        return False
    return True


@kernel_fn("memcg_kmem_uncharge_memcg", "mm/memcontrol.c", profiles="..5.4-fixed")
async def memcg_kmem_uncharge_memcg(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """Uncharge kernel pages from any memcg, the root included; the caller drops the css references."""
    if not await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        return
    if memcg.kmem is not None:
        await page_counter_uncharge(ctx, memcg.kmem, nr_pages)
    await memcg_uncharge(ctx, memcg, nr_pages)


# -- stocks (9.3) -----------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Stock(Shared):
    """struct memcg_stock_pcp of one CPU: pages charged in advance to `cached`, each with a css reference.

    From 6.12 on there is one css reference for all these pages. There are also `nr_bytes` of a page that is charged to
    `cached_objcg`, and bytes of its slab objects on node `cached_nid` that the statistics do not count yet.
    """

    cpu: int
    work: Work = attrs.field(init=False)
    cached: Memcg | None = attrs.field(default=None, init=False)
    nr_pages: int = attrs.field(default=0, init=False)
    cached_objcg: ObjCgroup | None = attrs.field(default=None, init=False)
    nr_bytes: int = attrs.field(default=0, init=False)
    slab_bytes: dict[str, int] = attrs.field(factory=dict, init=False)
    cached_nid: int = attrs.field(default=0, init=False)
    is_flushing: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.work = Work(self.actor, self)
        self.work.init_work(drain_local_stock)

    @property
    def label(self) -> str:
        return f"memcg_stock of {self.actor.name}"

    @operation(READ)
    def read_cached(self) -> Memcg | None:
        """stock->cached, if stock->nr_pages is not zero, as another CPU reads them."""
        return self.cached if self.nr_pages else None

    @operation(READ)
    def read_cached_objcg(self) -> ObjCgroup | None:
        """READ_ONCE(stock->cached_objcg), from another CPU."""
        return self.cached_objcg

    @operation(UPDATE)
    def test_and_set_flushing(self) -> bool:
        was, self.is_flushing = self.is_flushing, True
        return was


@attrs.define(eq=False)
class SlotStock(Shared):
    """What memcg_stock and obj_stock of one CPU have in common from 7.2 on: a lock, slots, and a work that drains them.

    `cached` has the owner of each slot, None for an empty one. With no empty slot left, the one at `drain_idx` is
    drained for the next owner. The slots are used with the lock held; other CPUs read them without.
    """

    cpu: int
    lock: LocalTryLock = attrs.field(init=False)
    work: Work = attrs.field(init=False)
    drain_idx: int = attrs.field(default=0, init=False)
    is_flushing: bool = attrs.field(default=False, init=False)

    def next_victim(self) -> int:
        """drain_idx, which goes round the slots."""
        at = self.drain_idx
        self.drain_idx = (at + 1) % self.nr_slots
        return at

    @property
    def nr_slots(self) -> int:
        raise NotImplementedError

    @operation(READ, cost=ATOMIC_NS)
    def test_flushing(self) -> bool:
        """test_bit(FLUSHING_CACHED_CHARGE, &stock->flags)."""
        return self.is_flushing

    @operation(UPDATE)
    def test_and_set_flushing(self) -> bool:
        was, self.is_flushing = self.is_flushing, True
        return was


@attrs.define(eq=False)
class MemcgStock(SlotStock):
    """struct memcg_stock_pcp of one CPU, from 7.2 on. KERNEL-7.2 N5.0.

    A slot has up to 64 pages that are charged in advance to a memcg, and one css reference to it, even with no page.
    """

    cached: list[Memcg | None] = attrs.field(factory=lambda: [None] * NR_MEMCG_STOCK, init=False)
    nr_pages: list[int] = attrs.field(factory=lambda: [0] * NR_MEMCG_STOCK, init=False)

    def __attrs_post_init__(self) -> None:
        self.lock = LocalTryLock(self.actor, MEMCG_STOCK_LOCK)
        self.work = Work(self.actor, self)
        self.work.init_work(drain_local_memcg_stock)

    @property
    def label(self) -> str:
        return f"memcg_stock of {self.actor.name}"

    @property
    def nr_slots(self) -> int:
        return len(self.cached)

    def slot_of(self, memcg: Memcg | None) -> int | None:
        """The slot of *memcg*; of None, the first empty one."""
        return self.cached.index(memcg) if memcg in self.cached else None

    @operation(READ, cost=ATOMIC_NS)
    def read_cached(self, at: int) -> Memcg | None:
        """READ_ONCE(stock->cached[i]), from another CPU."""
        return self.cached[at]

    @operation(READ, cost=ATOMIC_NS)
    def read_pages(self, at: int) -> int:
        """READ_ONCE(stock->nr_pages[i]), from another CPU."""
        return self.nr_pages[at]


async def this_memcg_stock(ctx: Context) -> MemcgStock:
    """this_cpu_ptr(&memcg_stock), whose lock is held: a handler may run before the first access."""
    stock = ctx.machine.memcg_stocks[ctx.smp_processor_id]
    await ctx.this_cpu(stock, STOCK)
    ctx.use(stock)
    return stock


def this_cpu_stock(ctx: Context) -> Stock:
    """this_cpu_ptr(&memcg_stock)."""
    stock = ctx.machine.stocks[ctx.smp_processor_id]
    ctx.use(stock)
    return stock


@kernel_fn("consume_stock", "mm/memcontrol.c", profiles="..5.4-fixed")
async def consume_stock(ctx: Context, memcg: Memcg, nr_pages: int) -> bool:
    """Take *nr_pages* from this CPU's stock, if the stock is *memcg*'s and holds enough."""
    if nr_pages > MEMCG_CHARGE_BATCH:
        return False
    with ctx.irq_section:
        return await take_from_stock(ctx, memcg, nr_pages)


@kernel_fn("consume_stock", "mm/memcontrol.c", profiles="7.2..")
async def consume_stock_7_2(ctx: Context, memcg: Memcg, nr_pages: int) -> bool:
    """KERNEL-7.2 N5.1: take pages from the slot of *memcg*, which stays even if it is empty then."""
    locks = ctx.machine.memcg_stock_locks
    if nr_pages > CHARGE_BATCH or not await local_trylock(ctx, locks):
        return False
    stock = await this_memcg_stock(ctx)
    at = stock.slot_of(memcg)
    is_enough = at is not None and stock.nr_pages[at] >= nr_pages
    if at is not None and is_enough:
        stock.nr_pages[at] -= nr_pages
    local_unlock(ctx, locks)
    return is_enough


@kernel_fn("consume_stock", "mm/memcontrol.c", profiles="6.12")
async def consume_stock_6_12(ctx: Context, memcg: Memcg, nr_pages: int) -> bool:
    """A stock holds up to 64 pages."""
    if nr_pages > CHARGE_BATCH:
        return False
    with LocalLockIrqHeld(ctx, STOCK_LOCK):
        return await take_from_stock(ctx, memcg, nr_pages)


async def take_from_stock(ctx: Context, memcg: Memcg, nr_pages: int) -> bool:
    """Take *nr_pages* from this CPU's stock with IRQs off."""
    await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
    stock = this_cpu_stock(ctx)
    if stock.cached is not memcg or stock.nr_pages < nr_pages:
        return False
    stock.nr_pages -= nr_pages
    return True


@kernel_fn("refill_stock", "mm/memcontrol.c", profiles="..5.4-fixed")
async def refill_stock(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """Put *nr_pages* of *memcg* into this CPU's stock; pages of another memcg in it are uncharged first."""
    with ctx.irq_section:
        await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
        stock = this_cpu_stock(ctx)
        if stock.cached is not memcg:
            await drain_stock(ctx, stock)
            stock.cached = memcg
        stock.nr_pages += nr_pages
        if stock.nr_pages > MEMCG_CHARGE_BATCH:
            await drain_stock(ctx, stock)


@kernel_fn("refill_stock", "mm/memcontrol.c", profiles="7.2..")
async def refill_stock_7_2(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """KERNEL-7.2 N5.2: into the slot of *memcg*, an empty one, or the next in turn; else straight to the counters."""
    WARN_ON(ctx, memcg.is_root, "refill_stock: mem_cgroup_is_root(memcg)")
    locks = ctx.machine.memcg_stock_locks
    if nr_pages > CHARGE_BATCH or not await local_trylock(ctx, locks):
        await memcg_uncharge(ctx, memcg, nr_pages)
        return
    stock = await this_memcg_stock(ctx)
    at = stock.slot_of(memcg)
    if at is None:
        await take_memcg_slot(ctx, stock, memcg, nr_pages)
    else:
        stock.nr_pages[at] += nr_pages
        if stock.nr_pages[at] > CHARGE_BATCH:
            await drain_stock_7_2(ctx, stock, at)
    local_unlock(ctx, locks)


async def take_memcg_slot(ctx: Context, stock: MemcgStock, memcg: Memcg, nr_pages: int) -> None:
    """Give a slot to *memcg*, with its first pages."""
    at = stock.slot_of(None)
    if at is None:
        at = stock.next_victim()
        await drain_stock_7_2(ctx, stock, at)
    await css_get(ctx, memcg.css)
    stock.cached[at] = memcg
    stock.nr_pages[at] = nr_pages


@kernel_fn("drain_stock", "mm/memcontrol.c", profiles="7.2..")
async def drain_stock_7_2(ctx: Context, stock: MemcgStock, at: int) -> None:
    """KERNEL-7.2 N5.2: uncharge the pages of a slot, and drop its css reference; the stock's lock is held."""
    old = stock.cached[at]
    if old is None:
        return
    if stock.nr_pages[at]:
        await memcg_uncharge(ctx, old, stock.nr_pages[at])
        stock.nr_pages[at] = 0
    await css_put(ctx, old.css)
    stock.cached[at] = None


@kernel_fn("drain_local_memcg_stock", "mm/memcontrol.c", profiles="7.2..")
async def drain_local_memcg_stock(ctx: Context, _work: Work | None = None) -> None:
    """KERNEL-7.2 N5.7: empty all slots of this CPU's stock of pages, whoever they belong to."""
    if WARN_ON(ctx, ctx.in_handler, "drain in non-task context"):
        return
    async with LocalLockHeld(ctx, ctx.machine.memcg_stock_locks):
        stock = await this_memcg_stock(ctx)
        for at in range(NR_MEMCG_STOCK):
            await drain_stock_7_2(ctx, stock, at)
        stock.is_flushing = False


@kernel_fn("drain_all_stock", "mm/memcontrol.c", profiles="7.2..")
async def drain_all_stock_7_2(ctx: Context, root_memcg: Memcg) -> None:
    """KERNEL-7.2 N5.7: on all CPUs, drain the stocks that the subtree has a part in: pages and bytes, each by itself.

    RCU alone keeps the memcgs and the obj_cgroups of another CPU's slots readable. The task may be preempted here, but
    it does not migrate.
    """
    machine = ctx.machine
    if not await mutex_trylock(ctx, machine.percpu_charge_mutex):
        return
    with ctx.migrate_section:
        for pages, objects in zip(machine.memcg_stocks, machine.obj_stocks, strict=True):
            if not await ctx.ask(pages.test_flushing) and await is_memcg_drain_needed(ctx, pages, root_memcg):
                await flush_stock(ctx, pages, drain_local_memcg_stock)
            if not await ctx.ask(objects.test_flushing) and await obj_stock_flush_required(ctx, objects, root_memcg):
                await flush_stock(ctx, objects, drain_local_obj_stock)
    await mutex_unlock(ctx, machine.percpu_charge_mutex)


@kernel_fn("is_memcg_drain_needed", "mm/memcontrol.c", profiles="7.2..")
async def is_memcg_drain_needed(ctx: Context, stock: MemcgStock, root_memcg: Memcg) -> bool:
    """KERNEL-7.2 N5.7: whether a slot of a CPU has pages of the subtree; a slot without pages does not count."""
    with ctx.rcu_read_section:
        for at in range(NR_MEMCG_STOCK):
            memcg = await ctx.ask(stock.read_cached, at)
            if memcg is None:
                continue
            nr_pages = await ctx.ask(stock.read_pages, at)
            if nr_pages and memcg.is_descendant_of(root_memcg):
                return True
    return False


async def flush_stock(
    ctx: Context, stock: SlotStock, drain_local: Callable[[Context], Coroutine[object, object, None]]
) -> None:
    """Drain a stock: this CPU's here, another one's by a work; not if it is to be drained already."""
    if await ctx.ask(stock.test_and_set_flushing):
        return
    if stock.cpu == ctx.smp_processor_id:
        await drain_local(ctx)
    else:
        await schedule_drain_work(ctx, stock)


@kernel_fn("schedule_drain_work", "mm/memcontrol.c", profiles="7.2..")
async def schedule_drain_work(ctx: Context, stock: SlotStock) -> None:
    """The model has no isolated CPUs."""
    with ctx.rcu_read_section:
        await queue_work_on(ctx, stock.cpu, ctx.machine.memcg_wq, stock.work)


@kernel_fn("refill_stock", "mm/memcontrol.c", profiles="6.12")
async def refill_stock_6_12(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """Put *nr_pages* of *memcg* into this CPU's stock."""
    with LocalLockIrqHeld(ctx, STOCK_LOCK):
        await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
        await __refill_stock(ctx, this_cpu_stock(ctx), memcg, nr_pages)


@kernel_fn("__refill_stock", "mm/memcontrol.c", profiles="6.12")
async def __refill_stock(ctx: Context, stock: Stock, memcg: Memcg, nr_pages: int) -> None:
    """KERNEL-today 8.6: with IRQs off: the stock takes a css reference for its memcg, not for each page."""
    if stock.cached is not memcg:
        await drain_stock(ctx, stock)
        await css_get(ctx, memcg.css)
        stock.cached = memcg
    stock.nr_pages += nr_pages
    if stock.nr_pages > CHARGE_BATCH:
        await drain_stock(ctx, stock)


@kernel_fn("drain_stock", "mm/memcontrol.c", profiles="6.12")
async def drain_stock_6_12(ctx: Context, stock: Stock) -> None:
    """KERNEL-today 8.6: uncharge the pages and drop the stock's css reference, which may be the last; IRQs are off."""
    old, nr_pages = stock.cached, stock.nr_pages
    if old is None:
        return
    if nr_pages:
        await memcg_uncharge(ctx, old, nr_pages)
        stock.nr_pages = 0
    await css_put(ctx, old.css)
    stock.cached = None


@kernel_fn("drain_local_stock", "mm/memcontrol.c", profiles="6.12")
async def drain_local_stock_6_12(ctx: Context, _work: Work | None = None) -> None:
    """KERNEL-today 8.6: empty both stocks of this CPU; the obj_cgroup is put after the lock is dropped."""
    with LocalLockIrqHeld(ctx, STOCK_LOCK):
        await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
        stock = this_cpu_stock(ctx)
        old = await drain_obj_stock(ctx, stock)
        await drain_stock(ctx, stock)
        stock.is_flushing = False
    await obj_cgroup_put(ctx, old)


@kernel_fn("drain_all_stock", "mm/memcontrol.c", profiles="6.12")
async def drain_all_stock_6_12(ctx: Context, root_memcg: Memcg) -> None:
    """KERNEL-today 8.6: on all CPUs, drain the stocks of the subtree; do nothing if another drain is running.

    RCU alone keeps the memcg and the obj_cgroup of another CPU's stock readable: the task may be preempted here, but it
    does not migrate, for it does not sleep.
    """
    machine = ctx.machine
    if not await mutex_trylock(ctx, machine.percpu_charge_mutex):
        return
    for stock in machine.stocks:
        if not await is_flush_needed(ctx, stock, root_memcg) or await ctx.ask(stock.test_and_set_flushing):
            continue
        if stock.cpu == ctx.smp_processor_id:
            await drain_local_stock(ctx)
        else:
            await queue_work_on(ctx, stock.cpu, machine.system_wq, stock.work)
    await mutex_unlock(ctx, machine.percpu_charge_mutex)


async def is_flush_needed(ctx: Context, stock: Stock, root_memcg: Memcg) -> bool:
    """Whether pages or bytes in a CPU's stock belong to the subtree."""
    with ctx.rcu_read_section:
        memcg = await ctx.ask(stock.read_cached)
        if memcg is not None and memcg.is_descendant_of(root_memcg):
            return True
        return await obj_stock_flush_required(ctx, stock, root_memcg)


@kernel_fn("drain_stock", "mm/memcontrol.c", profiles="..5.4-fixed")
async def drain_stock(ctx: Context, stock: Stock) -> None:
    """Uncharge the pages in *stock*, which is this CPU's own; IRQs are off."""
    old, nr_pages = stock.cached, stock.nr_pages
    if old is not None and nr_pages:
        await memcg_uncharge(ctx, old, nr_pages)
        await css_put_many(ctx, old.css, nr_pages)
        stock.nr_pages = 0
    stock.cached = None


@kernel_fn("drain_local_stock", "mm/memcontrol.c", profiles="..5.4-fixed")
async def drain_local_stock(ctx: Context, _work: Work | None = None) -> None:
    """Uncharge the pages in this CPU's stock."""
    with ctx.irq_section:
        await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
        stock = this_cpu_stock(ctx)
        await drain_stock(ctx, stock)
        stock.is_flushing = False


@kernel_fn("drain_all_stock", "mm/memcontrol.c", profiles="..5.4-fixed")
async def drain_all_stock(ctx: Context, root_memcg: Memcg) -> None:
    """On all CPUs, drain the stocks that belong to the subtree; do nothing if another drain is running.

    KERNEL.md 9.3.
    """
    machine = ctx.machine
    if not await mutex_trylock(ctx, machine.percpu_charge_mutex):
        return
    with ctx.preempt_section:
        for stock in machine.stocks:
            memcg = await ctx.ask(stock.read_cached)  # may be stale from here on
            if memcg is None or not await css_tryget(ctx, memcg.css):
                continue
            if memcg.is_descendant_of(root_memcg) and not await ctx.ask(stock.test_and_set_flushing):
                if stock.cpu == ctx.smp_processor_id:
                    await drain_local_stock(ctx)
                else:
                    await queue_work_on(ctx, stock.cpu, machine.system_wq, stock.work)
            await css_put(ctx, memcg.css)
    await mutex_unlock(ctx, machine.percpu_charge_mutex)


# -- css callbacks: alloc, online, offline (3.1, 3.2) -----------------------------------------------------------------


def mem_cgroup_alloc(machine: Machine, css: Css, parent: Memcg | None) -> Memcg:
    """Make a memcg with its counters, below *parent* if there is a hierarchy."""
    is_v1 = machine.config.cgroup == 1
    memcg = Memcg.alloc(
        css.actor,
        css.cgroup.name,
        css,
        parent if machine.config.use_hierarchy or not is_v1 else None,
        has_v1_counters=is_v1,
        cpus=len(machine.cpus),
        nodes=machine.config.nodes,
    )
    if machine.is_without_child_caches:
        memcg.nodeinfo = [MemcgPerNode(css.actor, memcg, nid) for nid in range(machine.config.nodes)]
        memcg.has_objcg_per_node = machine.config.kernel in OBJCG_PER_NODE
        if machine.check_lruvec is not None:
            for node in memcg.nodeinfo:
                node.lruvec.actor.check = functools.partial(machine.check_lruvec, node.lruvec)
    return memcg


@kernel_fn("mem_cgroup_css_alloc", "mm/memcontrol.c", profiles="..5.4-fixed")
async def mem_cgroup_css_alloc(ctx: Context, css: Css, parent_css: Css) -> Memcg:
    """KERNEL.md 3.1.3: make the memcg with its counters, and put its kmem online."""
    memcg = mem_cgroup_alloc(ctx.machine, css, parent_css.memcg)
    await memcg_online_kmem(ctx, memcg)
    return memcg


@kernel_fn("mem_cgroup_css_alloc", "mm/memcontrol.c", profiles="6.12..")
async def mem_cgroup_css_alloc_6_12(ctx: Context, css: Css, parent_css: Css) -> Memcg | None:
    """KERNEL-today 4.1: make the memcg with its counters; the lowest free number is its id. None is -ENOMEM.

    Its statistics are charged to the parent.
    """
    memcg = mem_cgroup_alloc(ctx.machine, css, parent_css.memcg)
    memcg.id = await ctx.ask(ctx.machine.mem_cgroup_ids.ida_simple_get)
    old, ctx.active_memcg = ctx.active_memcg, parent_css.memcg
    charged = await charge_statistics(ctx, memcg)
    ctx.active_memcg = old
    if charged:
        return memcg
    await ctx.ask(ctx.machine.mem_cgroup_ids.ida_simple_remove, memcg.id)
    await __mem_cgroup_free(ctx, memcg)
    return None


@kernel_fn("mem_cgroup_css_online", "mm/memcontrol.c", profiles="7.2..")
async def mem_cgroup_css_online_7_2(ctx: Context, memcg: Memcg) -> bool:
    """KERNEL-7.2 N6.1: an obj_cgroup for each node, after the shrinker maps; False is -ENOMEM, and the id is free.

    The pages of files need the obj_cgroups, whether kernel memory is accounted or not.
    """
    if not await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        await ctx.ask(ctx.machine.kmem_enabled.add, 1)
    await ctx.ask(memcg.set_kmemcg_id, memcg.id)
    has_info = await alloc_shrinker_info(ctx, memcg)
    if not has_info or not await online_objcgs(ctx, memcg):
        if has_info:
            await free_shrinker_info(ctx, memcg)
        await memcg_offline_kmem(ctx, memcg)
        await ctx.ask(ctx.machine.mem_cgroup_ids.ida_simple_remove, memcg.id)
        return False
    await ctx.ask(memcg.add_id_ref, 1)
    await css_get(ctx, memcg.css)
    return True


@kernel_fn("online_objcgs", "mm/memcontrol.c", profiles="7.2..", known_as="mem_cgroup_css_online")
async def online_objcgs(ctx: Context, memcg: Memcg) -> bool:
    """KERNEL-7.2 N6.1, step 3, and the row for 4.6: if a node's obj_cgroup cannot be had, those of all nodes go."""
    for node in memcg.nodeinfo:
        objcg = await obj_cgroup_alloc(ctx, memcg, node.nid)
        if objcg is None:
            for made in memcg.nodeinfo:
                await put_objcgs(ctx, made)
            return False
        await publish_objcg(ctx, node, objcg)
    return True


async def publish_objcg(ctx: Context, owner: ObjcgOwner, objcg: ObjCgroup) -> None:
    """Let new objects find *objcg*, and keep a second reference to it until the memcg is freed."""
    await ctx.ask(owner.set_objcg, objcg)
    await percpu_ref_get(ctx, objcg.refcnt)
    objcg.book(1)
    owner.orig_objcg = objcg


async def put_objcgs(ctx: Context, node: MemcgPerNode) -> None:
    """Give up the obj_cgroup of a node whose memcg cannot go online."""
    objcg = await ctx.ask(node.take_objcg)
    if objcg is not None:
        await percpu_ref_kill(ctx, objcg.refcnt)
    await put_orig_objcg(ctx, node)


async def put_orig_objcg(ctx: Context, owner: ObjcgOwner) -> None:
    """Drop the reference that an obj_cgroup's own memcg has kept."""
    orig, owner.orig_objcg = owner.orig_objcg, None
    if orig is not None:
        orig.book(-1)
    await obj_cgroup_put(ctx, orig)


@kernel_fn("mem_cgroup_css_online", "mm/memcontrol.c", profiles="6.12")
async def mem_cgroup_css_online_6_12(ctx: Context, memcg: Memcg) -> bool:
    """KERNEL-today 4.2: make the obj_cgroup and the shrinker maps; False is -ENOMEM, and the id is free again."""
    if not await memcg_online_kmem(ctx, memcg):
        await ctx.ask(ctx.machine.mem_cgroup_ids.ida_simple_remove, memcg.id)
        return False
    if not await alloc_shrinker_info(ctx, memcg):
        await memcg_offline_kmem(ctx, memcg)
        await ctx.ask(ctx.machine.mem_cgroup_ids.ida_simple_remove, memcg.id)
        return False
    await ctx.ask(memcg.add_id_ref, 1)
    await css_get(ctx, memcg.css)
    return True


@kernel_fn("memcg_online_kmem", "mm/memcontrol.c", profiles="6.12")
async def memcg_online_kmem_6_12(ctx: Context, memcg: Memcg) -> bool:
    """KERNEL-today 4.2, step 1: publish a new obj_cgroup; keep a second reference to it until the memcg is freed."""
    objcg = await obj_cgroup_alloc(ctx, memcg, 0)
    if objcg is None:
        return False
    await publish_objcg(ctx, memcg, objcg)
    if not await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        await ctx.ask(ctx.machine.kmem_enabled.add, 1)
    await ctx.ask(memcg.set_kmemcg_id, memcg.id)
    return True


@kernel_fn("mem_cgroup_css_offline", "mm/memcontrol.c", profiles="6.12")
async def mem_cgroup_css_offline_6_12(ctx: Context, memcg: Memcg) -> None:
    """KERNEL-today 4.3: give objects and LRU lists to the parent, drain the stocks, drop the id's reference."""
    await memcg_offline_kmem(ctx, memcg)
    await reparent_shrinker_deferred(ctx, memcg)
    await drain_all_stock(ctx, memcg)
    await mem_cgroup_id_put(ctx, memcg)


@kernel_fn("mem_cgroup_css_offline", "mm/memcontrol.c", profiles="7.2..")
async def mem_cgroup_css_offline_7_2(ctx: Context, memcg: Memcg) -> None:
    """KERNEL-7.2, row 4.3: first the lists of objects, then the obj_cgroups with the pages of each node."""
    await memcg_offline_kmem(ctx, memcg)
    await memcg_reparent_objcgs(ctx, memcg, memcg.parent or ctx.machine.root_mem_cgroup)
    await reparent_shrinker_deferred(ctx, memcg)
    await drain_all_stock(ctx, memcg)
    await mem_cgroup_id_put(ctx, memcg)


@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c", profiles="7.2..")
async def memcg_offline_kmem_7_2(ctx: Context, memcg: Memcg) -> None:
    """KERNEL-7.2, row 4.3: only the lists; the obj_cgroups follow by themselves."""
    await memcg_reparent_list_lrus(ctx, memcg, memcg.parent or ctx.machine.root_mem_cgroup)


@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c", profiles="6.12")
async def memcg_offline_kmem_6_12(ctx: Context, memcg: Memcg) -> None:
    """KERNEL-today 4.3, step 4: first the obj_cgroups, then the lists."""
    parent = memcg.parent or ctx.machine.root_mem_cgroup
    await memcg_reparent_objcgs(ctx, memcg, parent)
    await memcg_reparent_list_lrus(ctx, memcg, parent)


@kernel_fn("mem_cgroup_id_put", "mm/memcontrol.c", profiles="6.12..", known_as="mem_cgroup_id_put_many")
async def mem_cgroup_id_put_many(ctx: Context, memcg: Memcg) -> None:
    """KERNEL-today 14.1: with the last reference the id is free at once, and the css reference of the id goes."""
    if await ctx.ask(memcg.add_id_ref, -1) == 0:
        await ctx.ask(ctx.machine.mem_cgroup_ids.ida_simple_remove, memcg.id)
        await css_put(ctx, memcg.css)


@kernel_fn("mem_cgroup_css_free", "mm/memcontrol.c", profiles="6.12..")
async def mem_cgroup_css_free_6_12(ctx: Context, memcg: Memcg) -> None:
    """KERNEL-today 4.5: free the shrinker maps, drop the second reference of the obj_cgroup, free the struct."""
    await free_shrinker_info(ctx, memcg)
    await __mem_cgroup_free(ctx, memcg)


@kernel_fn("__mem_cgroup_free", "mm/memcontrol.c", profiles="6.12..")
async def __mem_cgroup_free(ctx: Context, memcg: Memcg) -> None:
    """A put may be an obj_cgroup's last. Then the memcg's own memory is uncharged from its parent."""
    for owner in memcg.objcg_owners():
        await put_orig_objcg(ctx, owner)
    await uncharge_statistics(ctx, memcg)
    ctx.kfree(*memcg.parts())


@kernel_fn("memcg_online_kmem", "mm/memcontrol.c", profiles="..5.4-fixed")
async def memcg_online_kmem(ctx: Context, memcg: Memcg) -> bool:
    """Give *memcg* its kmemcg_id; from now on it may have child caches."""
    BUG_ON(ctx, await ctx.ask(memcg.read_kmemcg_id) >= 0, "memcg_online_kmem: memcg->kmemcg_id >= 0")
    kmem_state = await ctx.ask(memcg.read_kmem_state)
    BUG_ON(ctx, kmem_state is not KmemState.NONE, "memcg_online_kmem: memcg->kmem_state")
    kmemcg_id = await memcg_alloc_cache_id(ctx)
    await ctx.ask(ctx.machine.kmem_enabled.add, 1)
    await ctx.ask(memcg.set_kmemcg_id, kmemcg_id)
    await ctx.ask(memcg.set_kmem_state, KmemState.ONLINE)
    return True


@kernel_fn("memcg_alloc_cache_id", "mm/memcontrol.c", profiles="..5.4-fixed")
async def memcg_alloc_cache_id(ctx: Context) -> int:
    """Allocate the lowest free id; if it does not fit the arrays, all arrays grow first."""
    machine = ctx.machine
    kmemcg_id = await ctx.ask(machine.memcg_cache_ida.ida_simple_get)
    if kmemcg_id < machine.memcg_nr_cache_ids:
        return kmemcg_id
    await down_write(ctx, machine.memcg_cache_ids_sem)
    size = max(2 * (kmemcg_id + 1), MEMCG_CACHES_MIN_SIZE)
    await memcg_update_all_caches(ctx, size)
    await memcg_update_all_list_lrus(ctx, size)
    machine.memcg_nr_cache_ids = size
    await up_write(ctx, machine.memcg_cache_ids_sem)
    return kmemcg_id


@kernel_fn("mem_cgroup_css_online", "mm/memcontrol.c", profiles="..5.4-fixed")
async def mem_cgroup_css_online(ctx: Context, memcg: Memcg) -> bool:
    """KERNEL.md 3.1.5: the id takes a css reference, which is dropped at offline."""
    await ctx.ask(memcg.add_id_ref, 1)
    await css_get(ctx, memcg.css)
    return True


@kernel_fn("mem_cgroup_css_offline", "mm/memcontrol.c", profiles="..5.4-fixed")
async def mem_cgroup_css_offline(ctx: Context, memcg: Memcg) -> None:
    """KERNEL.md 3.2.5a to d: put kmem offline, drain the stocks, drop the id's reference."""
    await memcg_offline_kmem(ctx, memcg)
    await drain_all_stock(ctx, memcg)
    await mem_cgroup_id_put(ctx, memcg)


@kernel_fn("mem_cgroup_id_put", "mm/memcontrol.c", profiles="..5.4-fixed")
async def mem_cgroup_id_put(ctx: Context, memcg: Memcg) -> None:
    if await ctx.ask(memcg.add_id_ref, -1) == 0:
        await css_put(ctx, memcg.css)


@kernel_fn("mem_cgroup_css_released", "mm/memcontrol.c")
async def mem_cgroup_css_released(ctx: Context, memcg: Memcg) -> None:
    """Invalidate reclaim's iterators; the model's reclaim has none."""


# -- offline of kernel memory (3.3) -----------------------------------------------------------------------------------


@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c", profiles="v2..v7,5.4-fixed,v4#6..")
async def memcg_offline_kmem(ctx: Context, memcg: Memcg) -> None:
    """Allow no new child caches; deactivate the present ones, move them to the parent, give up the ids."""
    if await ctx.ask(memcg.read_kmem_state) is not KmemState.ONLINE:
        return
    await ctx.ask(memcg.set_kmem_state, KmemState.ALLOCATED)
    parent = memcg.parent or ctx.machine.root_mem_cgroup
    await memcg_deactivate_kmem_caches(ctx, memcg, parent)
    await reparent_ids(ctx, memcg, parent)


@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c", profiles="5.3")
async def memcg_offline_kmem_5_3(ctx: Context, memcg: Memcg) -> None:
    """[M]: also flushes the slab statistics, because later frees are counted in the parent."""
    if await ctx.ask(memcg.read_kmem_state) is not KmemState.ONLINE:
        return
    await ctx.ask(memcg.set_kmem_state, KmemState.ALLOCATED)
    parent = memcg.parent or ctx.machine.root_mem_cgroup
    await memcg_deactivate_kmem_caches(ctx, memcg, parent)
    await memcg_flush_percpu_vmstats(ctx, memcg, slab_only=True)
    await reparent_ids(ctx, memcg, parent)


@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c", profiles="original..v4#5,v1")
async def memcg_offline_kmem_v1(ctx: Context, memcg: Memcg) -> None:
    """[O] to [v4#5], [v1]: deactivation does not move the caches to the parent."""
    if await ctx.ask(memcg.read_kmem_state) is not KmemState.ONLINE:
        return
    await ctx.ask(memcg.set_kmem_state, KmemState.ALLOCATED)
    await memcg_deactivate_kmem_caches(ctx, memcg, None)
    await reparent_ids(ctx, memcg, memcg.parent or ctx.machine.root_mem_cgroup)


async def reparent_ids(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """KERNEL.md 3.3.5 to 7: set the subtree's ids to the parent's, move the LRU lists to it, free the id."""
    kmemcg_id = await ctx.ask(memcg.read_kmemcg_id)
    BUG_ON(ctx, kmemcg_id < 0, "memcg_offline_kmem: kmemcg_id < 0")
    with ctx.rcu_read_section:
        for child in await ctx.ask(memcg.list_subtree):
            child_id = await ctx.ask(child.read_kmemcg_id)
            BUG_ON(ctx, child_id != kmemcg_id, "memcg_offline_kmem: child->kmemcg_id != kmemcg_id")
            await ctx.ask(child.set_kmemcg_id, await ctx.ask(parent.read_kmemcg_id))
    await memcg_drain_all_list_lrus(ctx, kmemcg_id, parent)
    await memcg_free_cache_id(ctx, kmemcg_id)


async def memcg_get_cache_ids(ctx: Context) -> None:
    """Keep the arrays indexed by kmemcg_id from growing."""
    await down_read(ctx, ctx.machine.memcg_cache_ids_sem)


async def memcg_put_cache_ids(ctx: Context) -> None:
    await up_read(ctx, ctx.machine.memcg_cache_ids_sem)


@kernel_fn("memcg_free_cache_id", "mm/memcontrol.c", profiles="..5.4-fixed")
async def memcg_free_cache_id(ctx: Context, kmemcg_id: int) -> None:
    """KERNEL.md 3.3.7: free the id; a new memcg may get it at once."""
    await ctx.ask(ctx.machine.memcg_cache_ida.ida_simple_remove, kmemcg_id)


@kernel_fn("memcg_cache_id", "include/linux/memcontrol.h")
async def memcg_cache_id(ctx: Context, memcg: Memcg | None) -> int:
    """The kmemcg_id: the parent's once the memcg is offline; -1 for the root and for NULL."""
    return -1 if memcg is None else await ctx.ask(memcg.read_kmemcg_id)


# -- free (3.4.3, 3.5) ------------------------------------------------------------------------------------------------


@kernel_fn("mem_cgroup_css_free", "mm/memcontrol.c", profiles="..5.4-fixed")
async def mem_cgroup_css_free(ctx: Context, memcg: Memcg) -> None:
    await memcg_free_kmem(ctx, memcg)
    await mem_cgroup_free(ctx, memcg)


@kernel_fn("mem_cgroup_free", "mm/memcontrol.c", profiles="5.3..5.4-fixed")
async def mem_cgroup_free(ctx: Context, memcg: Memcg) -> None:
    """Flush the per-CPU statistics to the ancestors, then free the struct."""
    await memcg_flush_percpu_vmstats(ctx, memcg, slab_only=False)
    ctx.kfree(*memcg.parts())


@kernel_fn("mem_cgroup_free", "mm/memcontrol.c", profiles="..v7")
async def mem_cgroup_free_until_v7(ctx: Context, memcg: Memcg) -> None:
    """Free the struct; per-CPU statistics that are not flushed are lost."""
    ctx.kfree(*memcg.parts())


@kernel_fn("memcg_free_kmem", "mm/memcontrol.c", profiles="v1..5.4-fixed,v4#6..")
async def memcg_free_kmem(ctx: Context, memcg: Memcg) -> None:
    """Warn if the memcg has any cache left. Its own counters may be above zero (7.5)."""
    if await end_kmem(ctx, memcg):
        await ctx.ask(ctx.machine.kmem_enabled.add, -1)


@kernel_fn("memcg_free_kmem", "mm/memcontrol.c", profiles="v4#5")
async def memcg_free_kmem_v4_5(ctx: Context, memcg: Memcg) -> None:
    """[v4#5]: the memcg has outlived its caches; then nothing may be charged any more."""
    if await end_kmem(ctx, memcg):
        await ctx.ask(ctx.machine.kmem_enabled.add, -1)
        warn_of_charges(ctx, memcg)


async def end_kmem(ctx: Context, memcg: Memcg) -> bool:
    """Warn if a memcg that is about to be freed has caches; False if it has no kmem state to give up."""
    if await ctx.ask(memcg.read_kmem_state) is KmemState.ONLINE:  # mkdir failed before css_online
        await memcg_offline_kmem(ctx, memcg)
    if await ctx.ask(memcg.read_kmem_state) is not KmemState.ALLOCATED:
        return False
    caches = await ctx.ask(memcg.list_kmem_caches)
    WARN_ON(ctx, caches, "memcg_free_kmem: !list_empty(&memcg->kmem_caches)")
    return True


def warn_of_charges(ctx: Context, memcg: Memcg) -> None:
    """Warn if kernel memory is still charged to a memcg that is about to be freed."""
    WARN_ON(ctx, memcg.kmem and memcg.kmem.usage, "memcg_free_kmem: page_counter_read(&memcg->kmem)")


@kernel_fn("memcg_free_kmem", "mm/memcontrol.c", profiles="original..v4#4")
async def memcg_free_kmem_original(ctx: Context, memcg: Memcg) -> None:
    """[O]: destroys the memcg's child caches; then nothing may be charged any more."""
    if await ctx.ask(memcg.read_kmem_state) is KmemState.ONLINE:
        await memcg_offline_kmem(ctx, memcg)
    if await ctx.ask(memcg.read_kmem_state) is KmemState.ALLOCATED:
        await memcg_destroy_kmem_caches(ctx, memcg)
        await ctx.ask(ctx.machine.kmem_enabled.add, -1)
        warn_of_charges(ctx, memcg)


# -- choice of the cache (4.1) ----------------------------------------------------------------------------------------


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c", profiles="v5..5.4-fixed")
async def memcg_kmem_get_cache(ctx: Context, cachep: KmemCache) -> KmemCache:
    """Find the current memcg's child cache under RCU and take a reference to it; otherwise return *cachep*."""
    BUG_ON(ctx, not cachep.is_root_cache, "memcg_kmem_get_cache: VM_BUG_ON(!is_root_cache(cachep))")
    if memcg_kmem_bypass(ctx):
        return cachep
    with ctx.rcu_read_section:
        return await find_child_cache(ctx, cachep)


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c", profiles="v3..v4,v4#5..")
async def memcg_kmem_get_cache_v3(ctx: Context, cachep: KmemCache) -> KmemCache:
    """[v3], [v4]: the exit label calls rcu_read_lock() where it should unlock."""
    BUG_ON(ctx, not cachep.is_root_cache, "memcg_kmem_get_cache: VM_BUG_ON(!is_root_cache(cachep))")
    if memcg_kmem_bypass(ctx):
        return cachep
    ctx.rcu_read_lock()
    child = await find_child_cache(ctx, cachep)
    ctx.rcu_read_lock()
    return child


async def find_child_cache(ctx: Context, cachep: KmemCache) -> KmemCache:
    """4.1.M steps 1 to 3, under RCU: look up the child cache and take a reference to it, or return *cachep*."""
    memcg = await get_memcg(ctx)  # may be stale from here on
    if memcg is None or memcg.is_root:
        return cachep
    kmemcg_id = await ctx.ask(memcg.read_kmemcg_id)
    if kmemcg_id < 0:
        return cachep
    child = await read_entry(ctx, cachep, kmemcg_id)
    if child is None:
        await memcg_schedule_kmem_cache_create(ctx, memcg, cachep)
        return cachep
    if not await percpu_ref_tryget(ctx, child.percpu_refcnt):
        return cachep
    child.begin_allocation(ctx)
    return child


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c", profiles="v2")
async def memcg_kmem_get_cache_v2(ctx: Context, cachep: KmemCache) -> KmemCache:
    """[v2]: a css reference pins the memcg during the lookup; then a reference pins the cache."""
    BUG_ON(ctx, not cachep.is_root_cache, "memcg_kmem_get_cache: VM_BUG_ON(!is_root_cache(cachep))")
    if memcg_kmem_bypass(ctx):
        return cachep
    memcg = await get_mem_cgroup_from_current(ctx)
    kmemcg_id = await ctx.ask(memcg.read_kmemcg_id)
    child = None
    if kmemcg_id >= 0:
        with ctx.rcu_read_section:
            child = await read_entry(ctx, cachep, kmemcg_id)
        if child is None:
            await memcg_schedule_kmem_cache_create(ctx, memcg, cachep)
        else:
            await percpu_ref_get(ctx, child.percpu_refcnt)
            child.begin_allocation(ctx)
    await css_put(ctx, memcg.css)
    return child or cachep


@kernel_fn("memcg_kmem_get_cache", "mm/memcontrol.c", profiles="original..v4#4,v1")
async def memcg_kmem_get_cache_original(ctx: Context, cachep: KmemCache) -> KmemCache:
    """[O], [v1]: the reference is to the memcg's css. In [O] that pins the cache, too."""
    BUG_ON(ctx, not cachep.is_root_cache, "memcg_kmem_get_cache: VM_BUG_ON(!is_root_cache(cachep))")
    if memcg_kmem_bypass(ctx):
        return cachep
    memcg = await get_mem_cgroup_from_current(ctx)
    kmemcg_id = await ctx.ask(memcg.read_kmemcg_id)
    if kmemcg_id >= 0:
        with ctx.rcu_read_section:
            child = await read_entry(ctx, cachep, kmemcg_id)
        if child is not None:
            child.begin_allocation(ctx)
            return child
        await memcg_schedule_kmem_cache_create(ctx, memcg, cachep)
    await css_put(ctx, memcg.css)
    return cachep


@kernel_fn("memcg_kmem_bypass", "mm/memcontrol.c", profiles="..5.4-fixed")
def memcg_kmem_bypass(ctx: Context) -> bool:
    """Allocations of interrupt handlers and kernel threads are not accounted."""
    return ctx.in_handler or not ctx.has_mm


async def get_memcg(ctx: Context) -> Memcg | None:
    """active_memcg, or the task's; None for the root. No reference: RCU alone keeps it from being freed."""
    return ctx.active_memcg or await ctx.ask(ctx.machine.cgroup_tree.read_memcg, ctx)


@kernel_fn("get_mem_cgroup_from_current", "mm/memcontrol.c", profiles="..5.4-fixed")
async def get_mem_cgroup_from_current(ctx: Context) -> Memcg:
    """The current memcg with a css reference held. An active_memcg that is offline is replaced by the root."""
    root = ctx.machine.root_mem_cgroup
    with ctx.rcu_read_section:
        if ctx.active_memcg is not None:
            return ctx.active_memcg if await css_tryget_online(ctx, ctx.active_memcg.css) else root
        while True:
            memcg = await ctx.ask(ctx.machine.cgroup_tree.read_memcg, ctx) or root
            if await css_tryget_online(ctx, memcg.css):
                return memcg


@kernel_fn("get_mem_cgroup_from_mm", "mm/memcontrol.c", profiles="..5.4-fixed")
async def get_mem_cgroup_from_mm(ctx: Context) -> Memcg:
    """The task's memcg with a css reference held. Retries: a removal of the memcg moves the task to another one."""
    with ctx.rcu_read_section:
        while True:
            memcg = await ctx.ask(ctx.machine.cgroup_tree.read_memcg, ctx) or ctx.machine.root_mem_cgroup
            if await css_tryget_online(ctx, memcg.css):
                return memcg


@kernel_fn("get_mem_cgroup_from_mm", "mm/memcontrol.c", profiles="6.12..")
async def get_mem_cgroup_from_mm_6_12(ctx: Context) -> Memcg:
    """The task's memcg with a css reference held; a killed one may be taken."""
    with ctx.rcu_read_section:
        while True:
            memcg = await ctx.ask(ctx.machine.cgroup_tree.read_memcg, ctx) or ctx.machine.root_mem_cgroup
            if await css_tryget(ctx, memcg.css):
                return memcg


async def read_entry(ctx: Context, cachep: KmemCache, kmemcg_id: int) -> KmemCache | None:
    """cache_from_memcg_idx(): the child cache for that id at this moment."""
    array = await ctx.ask(cachep.read_memcg_caches)
    return await ctx.ask(array.read_entry, kmemcg_id)


@kernel_fn("memcg_kmem_put_cache", "mm/memcontrol.c", profiles="v2..5.4-fixed,v4#5..")
async def memcg_kmem_put_cache(ctx: Context, cachep: KmemCache) -> None:
    """Drop the reference that memcg_kmem_get_cache() took."""
    if not cachep.is_root_cache:
        cachep.end_allocation(ctx)
        await percpu_ref_put(ctx, cachep.percpu_refcnt)


@kernel_fn("memcg_kmem_put_cache", "mm/memcontrol.c", profiles="original..v4#4,v1")
async def memcg_kmem_put_cache_original(ctx: Context, cachep: KmemCache) -> None:
    """[O], [v1]: reads the memcg from the cache only now; in [v1] the cache may have been moved to another one."""
    if not cachep.is_root_cache:
        cachep.end_allocation(ctx)
        memcg = deref(await ctx.ask(cachep.read_memcg), "memcg_kmem_put_cache(): cachep->memcg_params.memcg")
        await css_put(ctx, memcg.css)


# -- asynchronous creation (5.1, 5.2) ---------------------------------------------------------------------------------


@attrs.define(eq=False)
class MemcgKmemCacheCreateWork(Shared):
    """struct memcg_kmem_cache_create_work. It holds a css reference to its memcg."""

    memcg: Memcg
    cachep: KmemCache

    @property
    def label(self) -> str:
        return f"creation of {self.cachep.name} for {self.memcg.name}"


@kernel_fn("memcg_schedule_kmem_cache_create", "mm/memcontrol.c", profiles="v3..5.3,v4#5..")
async def memcg_schedule_kmem_cache_create(ctx: Context, memcg: Memcg, cachep: KmemCache) -> None:
    """Queue the creation of the child cache. If the work cannot be allocated, the css reference leaks.

    KERNEL.md 5.1.
    """
    if await css_tryget_online(ctx, memcg.css) and kmalloc(ctx, GFP_NOWAIT, "work"):
        await queue_kmem_cache_create(ctx, memcg, cachep)


@kernel_fn("memcg_schedule_kmem_cache_create", "mm/memcontrol.c", profiles="5.4-fixed")
async def memcg_schedule_kmem_cache_create_fixed(ctx: Context, memcg: Memcg, cachep: KmemCache) -> None:
    """[54]: if the work cannot be allocated, the css reference is dropped."""
    if not await css_tryget_online(ctx, memcg.css):
        return
    if kmalloc(ctx, GFP_NOWAIT, "work"):
        await queue_kmem_cache_create(ctx, memcg, cachep)
    else:
        await css_put(ctx, memcg.css)


@kernel_fn("memcg_schedule_kmem_cache_create", "mm/memcontrol.c", profiles="original..v4#4,v1..v2")
async def memcg_schedule_kmem_cache_create_original(ctx: Context, memcg: Memcg, cachep: KmemCache) -> None:
    """[O] to [v2]: the caller holds a css reference, so css_get() suffices."""
    if kmalloc(ctx, GFP_NOWAIT, "work"):
        await css_get(ctx, memcg.css)
        await queue_kmem_cache_create(ctx, memcg, cachep)


async def queue_kmem_cache_create(ctx: Context, memcg: Memcg, cachep: KmemCache) -> None:
    """Queue the creation; the work takes over the caller's css reference."""
    cw = MemcgKmemCacheCreateWork(cachep.actor, memcg, cachep)
    ctx.machine.pending_creations[cw] = None
    work = Work(cw.actor, cw)
    work.init_work(memcg_kmem_cache_create_func)
    await queue_work(ctx, ctx.machine.memcg_kmem_cache_wq, work)


@kernel_fn("memcg_kmem_cache_create_func", "mm/memcontrol.c", profiles="..5.4-fixed")
async def memcg_kmem_cache_create_func(ctx: Context, work: Work) -> None:
    """KERNEL.md 5.2: create the child cache in a worker, then drop the work's css reference."""
    cw = work.container
    assert isinstance(cw, MemcgKmemCacheCreateWork)
    await memcg_create_kmem_cache(ctx, cw.memcg, cw.cachep)
    ctx.machine.pending_creations.pop(cw, None)
    await css_put(ctx, cw.memcg.css)
    ctx.kfree(cw, work)


# -- the subsystem, and the online flag -------------------------------------------------------------------------------

memory_cgrp_subsys = CgroupSubsys(
    css_alloc=mem_cgroup_css_alloc,
    css_online=mem_cgroup_css_online,
    css_offline=mem_cgroup_css_offline,
    css_released=mem_cgroup_css_released,
    css_free=mem_cgroup_css_free,
)


@kernel_fn("mem_cgroup_online", "include/linux/memcontrol.h")
async def mem_cgroup_online(ctx: Context, memcg: Memcg) -> bool:
    """CSS_ONLINE, which is cleared only at the end of offline (3.2.5e)."""
    return CssFlags.ONLINE in await ctx.ask(memcg.css.read_flags)


# -- iteration over memcgs --------------------------------------------------------------------------------------------


@kernel_fn("mem_cgroup_iter", "mm/memcontrol.c")
async def mem_cgroup_iter(ctx: Context, root: Memcg, prev: Memcg | None) -> Memcg | None:
    """The memcg after *prev* below *root*, dying ones included, with a css reference; drops the reference to *prev*.

    Each reclaimer walks independently: the kernel's shared iterator positions are left out.
    """
    is_hierarchical = root.is_root or ctx.machine.config.cgroup == 2 or ctx.machine.config.use_hierarchy
    if not is_hierarchical:
        return root if prev is None else None
    with ctx.rcu_read_section:
        memcg = await ctx.ask(root.next_descendant_pre, prev)
        while memcg is not None and memcg is not root and not await css_tryget(ctx, memcg.css):
            memcg = await ctx.ask(root.next_descendant_pre, memcg)
    await mem_cgroup_iter_break(ctx, root, prev)
    return memcg


@kernel_fn("mem_cgroup_iter_break", "mm/memcontrol.c")
async def mem_cgroup_iter_break(ctx: Context, root: Memcg, prev: Memcg | None) -> None:
    """Drop the css reference of an iteration that ends early."""
    if prev is not None and prev is not root:
        await css_put(ctx, prev.css)


# -- statistics (9.4) -------------------------------------------------------------------------------------------------


@kernel_fn("mod_lruvec_state", "mm/memcontrol.c", profiles="..5.4-fixed")
async def mod_lruvec_state(ctx: Context, memcg: Memcg, nid: int, item: StatItem, nr_pages: int) -> None:
    """Count slab pages of the node, of *memcg* and of *memcg* on that node, in one section with IRQs off."""
    stats = ctx.machine.node_stats[nid]
    with ctx.irq_section:
        await ctx.this_cpu(memcg.vmstats, THIS_CPU_STAT)
        of_node = stats.batch(ctx, item, nr_pages, NODE_STAT_THRESHOLD)
        of_memcg = memcg.vmstats.batch(ctx, item, nr_pages, MEMCG_CHARGE_BATCH)
        of_lruvec = memcg.lruvec_stats[nid].batch(ctx, item, nr_pages, MEMCG_CHARGE_BATCH)
        if of_node:
            await ctx.ask(stats.add, item, of_node)
        if of_memcg:
            for level in (memcg, *memcg.ancestors()):
                await ctx.ask(level.vmstats.add, item, of_memcg)
        if of_lruvec:
            for level in (memcg, *memcg.ancestors()):
                await ctx.ask(level.lruvec_stats[nid].add, item, of_lruvec)


@kernel_fn("memcg_flush_percpu_vmstats", "mm/memcontrol.c", profiles="5.3..5.4-fixed")
async def memcg_flush_percpu_vmstats(ctx: Context, memcg: Memcg, *, slab_only: bool) -> None:
    """Add the per-CPU deltas to the memcg and all its ancestors, without clearing the deltas.

    So a delta may be added again later. *slab_only* misses the last slab item: the upper bound of the kernel's loop is
    exclusive.
    """
    items = [StatItem.NR_SLAB_RECLAIMABLE] if slab_only else list(StatItem)
    await flush_items(ctx, [level.vmstats for level in (memcg, *memcg.ancestors())], items)
    for nid in range(len(memcg.lruvec_stats)):
        await flush_items(ctx, [level.lruvec_stats[nid] for level in (memcg, *memcg.ancestors())], items)
