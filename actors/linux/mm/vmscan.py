"""Reclaim: shrinkers, and the walk over memcgs that frees their pages and slabs. mm/vmscan.c @5.3.1; KERNEL.md 11.

Pressure is a priority: at 12 reclaim scans a 4096th of the pages and objects, at 0 all of them. Slab objects are
scanned in batches. A remainder smaller than a batch is added to `nr_deferred`, so a memcg with few objects is not
scanned until the priority is low (11.4). The root's objects are on global lists. Any other memcg is scanned only while
it is online, and only by shrinkers whose bit is set in its map. Pages of a removed memcg always get a minimum scan
(11.6), slabs do not. From 6.12 on, the functions of shrinkers are in mm/shrinker.c.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from actors.linux.include.swap import folio_add_lru, lru_add_drain, put_page
from actors.linux.kernel.locking.locks import (
    Completion,
    Mutex,
    RwSem,
    down_read_trylock,
    down_write,
    up_read,
    up_write,
)
from actors.linux.kernel.rcu.tree import RcuHead
from actors.linux.mm.filemap import reclaim_user_pages, take_out
from actors.linux.mm.memcg_folio import (
    LruvecLocked,
    folio_lruvec_lock_irqsave,
    folio_lruvec_relock_irqsave,
    lruvec_lock_irq,
    lruvec_unlock_irqrestore,
    mem_cgroup_uncharge_folio,
    mem_cgroup_update_lru_size,
)
from actors.linux.mm.memcontrol import (
    Memcg,
    mem_cgroup_iter,
    mem_cgroup_iter_break,
    mem_cgroup_online,
    memcg_set_shrinker_bit,
)
from actors.linux.mm.mmzone import INACTIVE_FILE, Lruvec
from actors.linux.mm.page_alloc import __free_pages
from actors.linux.mm.swap import lruvec_add_folio, lruvec_del_folio
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL, Gfp
from actors.machine.list_head import ListEntry, ListHead
from actors.system.actor import Actor, Shared
from actors.system.flow import Kind
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.linux.mm.filemap import Page
    from actors.linux.mm.shrinker import ShrinkerInfos
    from actors.system.world import World

DEF_PRIORITY = 12
DEFAULT_SEEKS = 2
SHRINK_BATCH = 128
SWAP_CLUSTER_MAX = 32

SHRINK_STOP = -1
"""~0UL, the shrinker could not do anything; stored in a signed long."""

SHRINK_EMPTY = -2
"""~0UL - 1: the shrinker has no objects at all."""

LONG = 1 << 63


@attrs.define
class ShrinkControl:
    """struct shrink_control: the parameters of one call of a shrinker. scan_objects() may lower `nr_scanned`."""

    gfp_mask: Gfp
    nid: int
    memcg: Memcg
    nr_to_scan: int = 0
    nr_scanned: int = 0


ShrinkFn = Callable[[Context, "Shrinker", ShrinkControl], Awaitable[int]]


@attrs.define(eq=False)
class Shrinker(ListEntry):
    """struct shrinker inside of `container`: counts and scans objects of one kind, by memcg and node.

    `nr_deferred` is, for each node, the number of objects whose scan was put off, summed over all memcgs.

    From 6.12 on, each memcg has its own nr_deferred. `refcount` counts the reclaimers that use the shrinker, and its
    registration; `done` is completed with the last of them.
    """

    container: Shared
    count_objects: ShrinkFn
    scan_objects: ShrinkFn
    nr_deferred: list[int]
    seeks: int = DEFAULT_SEEKS
    batch: int = 0
    id: int = -1
    refcount: int = attrs.field(default=0, init=False)
    done: Completion = attrs.field(init=False)
    rcu: RcuHead = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.done, self.rcu = Completion(self.actor, 1), RcuHead(self)

    @property
    def label(self) -> str:
        return f"shrinker of {self.container.label}"

    @operation(UPDATE)
    def take_deferred(self, nid: int) -> int:
        """atomic_long_xchg(&shrinker->nr_deferred[nid], 0)."""
        nr, self.nr_deferred[nid] = self.nr_deferred[nid], 0
        return nr

    @operation(UPDATE)
    def add_deferred(self, nid: int, nr: int) -> None:
        self.nr_deferred[nid] += nr

    @operation(UPDATE, part="refcount", cost=ATOMIC_NS, lifecycle=True)
    def set_registered(self) -> None:
        """refcount_set(&shrinker->refcount, 1): from now on reclaim may use the shrinker."""
        self.refcount = 1

    @operation(UPDATE, part="refcount", cost=ATOMIC_NS, lifecycle=True)
    def try_get(self) -> bool:
        """refcount_inc_not_zero()."""
        self.refcount += bool(self.refcount)
        return self.refcount > 0

    @operation(UPDATE, part="refcount", cost=ATOMIC_NS, lifecycle=True)
    def put(self) -> bool:
        """refcount_dec_and_test()."""
        self.refcount -= 1
        return not self.refcount


@attrs.define(eq=False)
class Shrinkers(Shared):
    """shrinker_list and shrinker_idr, under `rwsem`. A None in the idr is a shrinker that is being registered.

    From 6.12 on, `mutex` (shrinker_mutex) is for writers only, readers have RCU. `nr_max` is shrinker_nr_max, the
    number of ids for which each memcg has a place; `infos` has these places.
    """

    rwsem: RwSem
    mutex: Mutex = attrs.field(init=False)
    nr_max: int = attrs.field(default=0, init=False)
    infos: dict[Memcg, ShrinkerInfos] = attrs.field(factory=dict, init=False)
    by_order: ListHead[Shrinker] = attrs.field(init=False)
    by_id: dict[int, Shrinker | None] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.by_order = ListHead(self)
        self.mutex = Mutex(self.actor, "shrinker_mutex")

    @classmethod
    def boot(cls, world: World) -> Shrinkers:
        return cls(Actor(world, "shrinkers"), RwSem.boot(world, "shrinker_rwsem"))

    @property
    def label(self) -> str:
        return "shrinker_list"

    @operation(UPDATE)
    def alloc_id(self) -> int:
        """idr_alloc(), for a shrinker that is not registered yet. The model never unregisters shrinkers."""
        self.rwsem.assert_held_write()
        shrinker_id = len(self.by_id)
        self.by_id[shrinker_id] = None
        return shrinker_id

    @operation(UPDATE)
    def add(self, shrinker: Shrinker) -> None:
        self.rwsem.assert_held_write()
        self.by_order.list_add_tail(shrinker)
        self.by_id[shrinker.id] = shrinker

    @operation(READ)
    def list(self) -> tuple[Shrinker, ...]:
        """The list as it is; `rwsem` keeps it so."""
        return self.by_order.walk()

    @operation(READ)
    def find(self, shrinker_id: int) -> Shrinker | None:
        """idr_find(); None while the shrinker is being registered."""
        return self.by_id.get(shrinker_id)

    @operation(UPDATE)
    def idr_alloc(self, shrinker: Shrinker) -> int:
        """[6.12] The lowest free id. A look-up finds the shrinker, but gets no reference before it is registered."""
        self.mutex.assert_held()
        shrinker_id = next(number for number in itertools.count() if number not in self.by_id)
        self.by_id[shrinker_id] = shrinker
        return shrinker_id

    @operation(UPDATE)
    def idr_remove(self, shrinker_id: int) -> None:
        self.mutex.assert_held()
        del self.by_id[shrinker_id]

    @operation(UPDATE)
    def list_add_tail_rcu(self, shrinker: Shrinker) -> None:
        self.mutex.assert_held()
        self.by_order.list_add_tail(shrinker)

    @operation(UPDATE)
    def list_del_rcu(self, shrinker: Shrinker) -> None:
        self.mutex.assert_held()
        self.by_order.list_del(shrinker)

    @operation(READ)
    def next_shrinker(self, after: Shrinker | None) -> Shrinker | None:
        """list_for_each_entry_rcu(): the shrinker behind *after*; for None the first."""
        return self.by_order.list_first_entry() if after is None else self.by_order.list_next_entry(after)

    @operation(UPDATE)
    def set_nr_max(self, nr_max: int) -> None:
        self.mutex.assert_held()
        self.nr_max = nr_max


# -- registering a shrinker -------------------------------------------------------------------------------------------


@kernel_fn("prealloc_shrinker", "mm/vmscan.c", profiles="..5.4-fixed")
async def prealloc_shrinker(ctx: Context, shrinker: Shrinker) -> None:
    """Give a memcg-aware shrinker its id, so that lists can set its bits; reclaim does not call it yet."""
    shrinkers = ctx.machine.shrinkers
    await down_write(ctx, shrinkers.rwsem)
    shrinker.id = await ctx.ask(shrinkers.alloc_id)
    await up_write(ctx, shrinkers.rwsem)


@kernel_fn("register_shrinker_prepared", "mm/vmscan.c", profiles="..5.4-fixed")
async def register_shrinker_prepared(ctx: Context, shrinker: Shrinker) -> None:
    shrinkers = ctx.machine.shrinkers
    await down_write(ctx, shrinkers.rwsem)
    await ctx.ask(shrinkers.add, shrinker)
    await up_write(ctx, shrinkers.rwsem)


# -- shrink_slab (11.4) -----------------------------------------------------------------------------------------------


def as_long(number: int) -> int:
    """Convert the value of an unsigned long to a long."""
    return (number + LONG) % (2 * LONG) - LONG


def as_unsigned(number: int) -> int:
    """Convert the value of a long to an unsigned long."""
    return number % (2 * LONG)


def quotient(number: int, by: int) -> int:
    """Division as in C: rounds towards zero."""
    return number // by if number >= 0 else -(-number // by)


@attrs.frozen
class ScanTarget:
    """The number of objects to scan now, and the number including deferred ones; the difference stays deferred."""

    total_scan: int
    with_deferred: int


def scan_target(freeable: int, nr_deferred: int, seeks: int, priority: int) -> ScanTarget:
    """The arithmetic of do_shrink_slab(), with C's types: a negative count makes a huge delta."""
    delta = as_unsigned((freeable >> priority) * 4) // seeks if seeks else as_unsigned(quotient(freeable, 2))
    total_scan = as_long(nr_deferred + delta)
    with_deferred = total_scan
    if total_scan < 0:
        total_scan, with_deferred = freeable, nr_deferred
    if delta < as_unsigned(quotient(freeable, 4)):
        total_scan = min(total_scan, quotient(freeable, 2))
    return ScanTarget(min(total_scan, 2 * freeable), with_deferred)


@kernel_fn("do_shrink_slab", "mm/vmscan.c", profiles="..5.4-fixed")
async def do_shrink_slab(ctx: Context, shrinkctl: ShrinkControl, shrinker: Shrinker, priority: int) -> int:
    """Let *shrinker* scan in batches, as many objects as *priority* asks for; return those freed, or SHRINK_EMPTY."""
    nid = shrinkctl.nid
    freeable = await shrinker.count_objects(ctx, shrinker, shrinkctl)
    if freeable in (0, SHRINK_EMPTY):
        return freeable
    target = scan_target(freeable, await ctx.ask(shrinker.take_deferred, nid), shrinker.seeks, priority)
    batch_size = shrinker.batch or SHRINK_BATCH
    freed, scanned, total_scan = 0, 0, target.total_scan
    while total_scan >= batch_size or total_scan >= freeable:
        shrinkctl.nr_to_scan = shrinkctl.nr_scanned = min(batch_size, total_scan)
        ret = await shrinker.scan_objects(ctx, shrinker, shrinkctl)
        if ret == SHRINK_STOP:
            break
        freed += ret
        total_scan -= shrinkctl.nr_scanned
        scanned += shrinkctl.nr_scanned
    next_deferred = max(target.with_deferred - scanned, 0)
    if next_deferred > 0:
        await ctx.ask(shrinker.add_deferred, nid, next_deferred)
    return freed


@kernel_fn("shrink_slab", "mm/vmscan.c", profiles="..5.4-fixed")
async def shrink_slab(ctx: Context, gfp_mask: Gfp, nid: int, memcg: Memcg, priority: int) -> int:
    """Shrink *memcg*'s slabs on a node: for the root, with all shrinkers. Returns the number of objects freed."""
    if not memcg.is_root:
        return await shrink_slab_memcg(ctx, gfp_mask, nid, memcg, priority)
    shrinkers = ctx.machine.shrinkers
    if not await down_read_trylock(ctx, shrinkers.rwsem):
        return 0
    freed = 0
    for shrinker in await ctx.ask(shrinkers.list):
        ret = await do_shrink_slab(ctx, ShrinkControl(gfp_mask, nid, memcg), shrinker, priority)
        freed += 0 if ret == SHRINK_EMPTY else ret
        if await ctx.ask(shrinkers.rwsem.is_contended):
            freed = freed or 1
            break
    await up_read(ctx, shrinkers.rwsem)
    return freed


@kernel_fn("shrink_slab_memcg", "mm/vmscan.c", profiles="..5.4-fixed")
async def shrink_slab_memcg(ctx: Context, gfp_mask: Gfp, nid: int, memcg: Memcg, priority: int) -> int:
    """Shrink a memcg other than the root: only if it is online, and only with shrinkers whose bit is in its map."""
    is_enabled = await ctx.ask(ctx.machine.kmem_enabled.is_enabled)
    if not is_enabled or not await mem_cgroup_online(ctx, memcg):
        return 0
    shrinkers = ctx.machine.shrinkers
    if not await down_read_trylock(ctx, shrinkers.rwsem):
        return 0
    freed, bit = 0, await ctx.ask(memcg.find_next_shrinker_bit, nid, -1)
    while bit is not None:
        shrinker = await ctx.ask(shrinkers.find, bit)
        if shrinker is not None:
            freed += await shrink_by_bit(ctx, ShrinkControl(gfp_mask, nid, memcg), shrinker, priority)
            if await ctx.ask(shrinkers.rwsem.is_contended):
                freed = freed or 1
                break
        bit = await ctx.ask(memcg.find_next_shrinker_bit, nid, bit)
    await up_read(ctx, shrinkers.rwsem)
    return freed


async def shrink_by_bit(ctx: Context, sc: ShrinkControl, shrinker: Shrinker, priority: int) -> int:
    """The body of shrink_slab_memcg(): clear the bit of a shrinker that finds nothing.

    An object may have been added between the count and the clearing, so the shrinker is called once more.
    """
    ret = await do_shrink_slab(ctx, sc, shrinker, priority)
    if ret != SHRINK_EMPTY:
        return ret
    await ctx.ask(sc.memcg.clear_shrinker_bit, sc.nid, shrinker.id)
    ret = await do_shrink_slab(ctx, sc, shrinker, priority)
    if ret == SHRINK_EMPTY:
        return 0
    await memcg_set_shrinker_bit(ctx, sc.memcg, sc.nid, shrinker.id)
    return ret


@kernel_fn("drop_slab_node", "mm/vmscan.c", profiles="..5.4-fixed")
async def drop_slab_node(ctx: Context, nid: int) -> int:
    """KERNEL.md 11.5: shrink all memcgs at priority 0, until a round frees at most 10 objects: the number of these."""
    freed = await shrink_all_memcgs(ctx, nid)
    while freed > 10:
        freed = await shrink_all_memcgs(ctx, nid)
    return freed


@kernel_fn("drop_slab_node", "mm/vmscan.c", profiles="6.12..")
async def drop_slab_node_6_12(ctx: Context, nid: int) -> int:
    """[6.12] One round; the number of objects freed."""
    return await shrink_all_memcgs(ctx, nid)


async def shrink_all_memcgs(ctx: Context, nid: int) -> int:
    """Shrink the slabs of all memcgs on a node at priority 0; return the number of objects freed."""
    freed, memcg = 0, await mem_cgroup_iter(ctx, ctx.machine.root_mem_cgroup, None)
    while memcg is not None:
        freed += await shrink_slab(ctx, GFP_KERNEL, nid, memcg, 0)
        memcg = await mem_cgroup_iter(ctx, ctx.machine.root_mem_cgroup, memcg)
    return freed


@kernel_fn("drop_slab", "mm/vmscan.c", profiles="..5.4-fixed")
async def drop_slab(ctx: Context) -> None:
    for nid in range(ctx.machine.config.nodes):
        await drop_slab_node(ctx, nid)


@kernel_fn("drop_slab", "mm/vmscan.c", profiles="6.12..")
async def drop_slab_6_12(ctx: Context) -> None:
    """[6.12] Rounds over all nodes, as long as one frees enough: 2 objects at first, twice as many each time."""
    enough = 2
    while sum([await drop_slab_node(ctx, nid) for nid in range(ctx.machine.config.nodes)]) >= enough:
        enough *= 2


# -- reclaim ----------------------------------------------------------------------------------------------------------


@attrs.define
class ScanControl:
    """struct scan_control: one reclaim, for a memcg at its limit or (None) for the whole machine."""

    nr_to_reclaim: int
    gfp_mask: Gfp
    target_mem_cgroup: Memcg | None
    is_kswapd: bool = False
    priority: int = DEF_PRIORITY
    nr_reclaimed: int = 0


@kernel_fn("shrink_node", "mm/vmscan.c")
async def shrink_node(ctx: Context, nid: int, sc: ScanControl) -> None:
    """Reclaim pages, then slabs, of one memcg after the other; direct reclaim stops early, kswapd visits all memcgs."""
    root = sc.target_mem_cgroup or ctx.machine.root_mem_cgroup
    memcg = await mem_cgroup_iter(ctx, root, None)
    while memcg is not None:
        await shrink_node_memcg(ctx, nid, memcg, sc)
        await shrink_slab(ctx, sc.gfp_mask, nid, memcg, sc.priority)
        if not sc.is_kswapd and sc.nr_reclaimed >= sc.nr_to_reclaim:
            await mem_cgroup_iter_break(ctx, root, memcg)
            return
        memcg = await mem_cgroup_iter(ctx, root, memcg)


@kernel_fn("shrink_node_memcg", "mm/vmscan.c")
async def shrink_node_memcg(ctx: Context, nid: int, memcg: Memcg, sc: ScanControl) -> None:
    """Reclaim pages of *memcg* in batches, until enough are reclaimed."""
    nr, nr_reclaimed = await get_scan_count(ctx, nid, memcg, sc.priority), 0
    is_first_try = sc.target_mem_cgroup is None and not sc.is_kswapd and sc.priority == DEF_PRIORITY
    while nr > 0 and (is_first_try or nr_reclaimed < sc.nr_to_reclaim):
        nr_to_scan = min(nr, SWAP_CLUSTER_MAX)
        nr -= nr_to_scan
        nr_reclaimed += await shrink_inactive_list(ctx, nid, memcg, nr_to_scan)
    sc.nr_reclaimed += nr_reclaimed


@kernel_fn("get_scan_count", "mm/vmscan.c", profiles="6.12..")
async def get_scan_count_6_12(ctx: Context, nid: int, memcg: Memcg, priority: int) -> int:
    """KERNEL-today 10.6: without swap, only pages of files; the list of a removed memcg is scraped."""
    size = await ctx.ask(memcg.nodeinfo[nid].lruvec.read_size, INACTIVE_FILE)
    scan = size >> priority
    if not scan and not await mem_cgroup_online(ctx, memcg):
        scan = min(size, SWAP_CLUSTER_MAX)
    return scan


@kernel_fn("get_scan_count", "mm/vmscan.c", profiles="..5.4-fixed")
async def get_scan_count(ctx: Context, nid: int, memcg: Memcg, priority: int) -> int:
    """The number of pages to scan, by priority; a removed memcg gets a minimum scan (11.6)."""
    size = await ctx.ask(memcg.lru_size, nid)
    scan = size >> priority
    if not scan and not await mem_cgroup_online(ctx, memcg):
        scan = min(size, SWAP_CLUSTER_MAX)
    return scan


@kernel_fn("do_try_to_free_pages", "mm/vmscan.c")
async def do_try_to_free_pages(ctx: Context, sc: ScanControl) -> int:
    """Sleep, then reclaim on every node at rising pressure, until enough pages are reclaimed; return their number."""
    await ctx.ask(ctx.machine.buddy.try_to_free_pages, ctx)
    while sc.priority >= 0 and sc.nr_reclaimed < sc.nr_to_reclaim:
        for nid in range(ctx.machine.config.nodes):
            await shrink_node(ctx, nid, sc)
        sc.priority -= 1
    return sc.nr_reclaimed


@kernel_fn("try_to_free_mem_cgroup_pages", "mm/vmscan.c")
async def try_to_free_mem_cgroup_pages(ctx: Context, memcg: Memcg, nr_pages: int, gfp_mask: Gfp) -> int:
    """Reclaim in the subtree of a memcg that is at its limit."""
    ctx.might_sleep("try_to_free_mem_cgroup_pages")
    sc = ScanControl(max(nr_pages, SWAP_CLUSTER_MAX), gfp_mask, memcg)
    return await do_try_to_free_pages(ctx, sc)


@kernel_fn("try_to_free_pages", "mm/vmscan.c")
async def try_to_free_pages(ctx: Context, gfp_mask: Gfp) -> int:
    """Direct reclaim: the allocating task reclaims in the whole machine."""
    return await do_try_to_free_pages(ctx, ScanControl(SWAP_CLUSTER_MAX, gfp_mask, None))


# -- kswapd -----------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Kswapd(Shared):
    """The kswapd thread of one node; it is asked to free `wanted` pages."""

    nid: int
    wanted: int = attrs.field(default=0, init=False)

    @property
    def label(self) -> str:
        return f"kswapd{self.nid}"

    def is_wanted(self) -> bool:
        return self.wanted > 0

    @operation(UPDATE)
    def wake_up(self, nr_pages: int) -> None:
        """wakeup_kswapd(): raise `wanted` to *nr_pages*, if it is lower."""
        self.wanted = max(self.wanted, nr_pages)

    @operation(UPDATE, when=is_wanted, sleeps=True, idle=True)
    def sleep(self) -> int:
        """kswapd_try_to_sleep(): sleep until pages are wanted; return their number and reset `wanted`."""
        wanted, self.wanted = self.wanted, 0
        return wanted

    @classmethod
    def run(cls, machine: Machine, nid: int) -> Kswapd:
        """kswapd_run(): start the thread on the node's first CPU; on CPU 0 for a node without CPUs."""
        kswapd = cls(Actor(machine.world, f"kswapd{nid}"), nid)
        cpu = next((cpu for cpu in machine.cpus if machine.node_of_cpu(cpu.id) == nid), machine.cpus[0])
        thread = Context(machine.world, f"kswapd{nid}", Kind.TASK, cpu, machine=machine, cpus_allowed=(cpu,))
        machine.world.spawn(thread, kswapd_thread(thread, kswapd))
        return kswapd


async def kswapd_thread(ctx: Context, kswapd: Kswapd) -> None:
    """kswapd(): loops for ever."""
    while True:
        await balance_pgdat(ctx, kswapd.nid, await ctx.ask(kswapd.sleep))


@kernel_fn("balance_pgdat", "mm/vmscan.c")
async def balance_pgdat(ctx: Context, nid: int, nr_to_reclaim: int) -> int:
    """Reclaim on one node from all memcgs, at rising pressure, until *nr_to_reclaim* pages are reclaimed."""
    sc = ScanControl(nr_to_reclaim, GFP_KERNEL, None, is_kswapd=True)
    while sc.priority >= 1 and sc.nr_reclaimed < nr_to_reclaim:
        await shrink_node(ctx, nid, sc)
        sc.priority -= 1
    return sc.nr_reclaimed


# -- reclaim of pages -------------------------------------------------------------------------------------------------


@kernel_fn("shrink_inactive_list", "mm/vmscan.c", profiles="6.12")
async def shrink_inactive_list_6_12(ctx: Context, nid: int, memcg: Memcg, nr_to_scan: int) -> int:
    """KERNEL-today 10.6: isolate the oldest pages, free the clean ones, put the others back where they were."""
    lruvec = memcg.nodeinfo[nid].lruvec
    pages = await isolate_folios(ctx, lruvec, nr_to_scan)
    if not pages:
        return 0
    nr_reclaimed, kept = await shrink_folio_list(ctx, pages)
    locked = await lruvec_lock_irq(ctx, lruvec)
    gone: list[Page] = []
    for page in kept:
        await move_folio_to_lru(ctx, lruvec, page, gone)
    await lruvec_unlock_irqrestore(ctx, locked)
    await free_folios(ctx, gone)
    return nr_reclaimed


@kernel_fn("shrink_inactive_list", "mm/vmscan.c", profiles="7.2..")
async def shrink_inactive_list_7_2(ctx: Context, nid: int, memcg: Memcg, nr_to_scan: int) -> int:
    """KERNEL-today 11.7: the memcg may be removed meanwhile; each page goes to the lruvec that it belongs to now."""
    pages = await isolate_folios(ctx, memcg.nodeinfo[nid].lruvec, nr_to_scan)
    if not pages:
        return 0
    nr_reclaimed, kept = await shrink_folio_list(ctx, pages)
    await move_folios_to_lru(ctx, memcg.nodeinfo[nid].lruvec, kept)
    return nr_reclaimed


@kernel_fn("move_folios_to_lru", "mm/vmscan.c", profiles="7.2..")
async def move_folios_to_lru(ctx: Context, _scanned: Lruvec, pages: list[Page]) -> None:
    """a760b64ee088: put isolated pages back, each under the lock of its own lruvec; what nobody else holds is freed.

    *_scanned* is where they were taken from. It is not needed; only code before that commit used it.
    """
    locked: LruvecLocked | None = None
    gone: list[Page] = []
    for page in pages:
        locked = await folio_lruvec_relock_irqsave(ctx, page, locked)
        await move_folio_to_lru(ctx, locked.lruvec, page, gone)
    if locked is not None:
        await lruvec_unlock_irqrestore(ctx, locked)
    await free_folios(ctx, gone)


async def isolate_folios(ctx: Context, lruvec: Lruvec, nr_to_scan: int) -> tuple[Page, ...]:
    """The first part of shrink_inactive_list(): empty this CPU's batch, and isolate the oldest pages."""
    await lru_add_drain(ctx)
    locked = await lruvec_lock_irq(ctx, lruvec)
    pages = await ctx.ask(lruvec.isolate_folios, nr_to_scan)
    nr_pages = sum(page.nr_pages for page in pages)
    if nr_pages:
        await mem_cgroup_update_lru_size(ctx, lruvec, INACTIVE_FILE, -nr_pages)
    await lruvec_unlock_irqrestore(ctx, locked)
    return pages


async def move_folio_to_lru(ctx: Context, lruvec: Lruvec, page: Page, gone: list[Page]) -> None:
    """The body of move_folios_to_lru(): drop the reference of the isolation; a page that nobody holds is *gone*."""
    await ctx.ask(page.set_lru)
    if await ctx.ask(page.put_testzero):
        await ctx.ask(page.clear_lru)
        gone.append(page)
    else:
        await lruvec_add_folio(ctx, lruvec, page)


async def free_folios(ctx: Context, pages: list[Page]) -> None:
    """Uncharge and free pages that are on no list, without a lock."""
    for page in pages:
        await mem_cgroup_uncharge_folio(ctx, page)
        await __free_pages(ctx, page.nr_pages)


@kernel_fn("shrink_folio_list", "mm/vmscan.c", profiles="6.12..")
async def shrink_folio_list(ctx: Context, pages: tuple[Page, ...]) -> tuple[int, list[Page]]:
    """Free the pages that can be freed; return their number, and the others, which are still isolated."""
    nr_reclaimed = 0
    kept: list[Page] = []
    gone: list[Page] = []
    for page in pages:
        if not await take_out(ctx, page, page.reclaim_mapping):
            kept.append(page)
            continue
        nr_reclaimed += page.nr_pages
        if await ctx.ask(page.put_testzero):
            gone.append(page)
    await free_folios(ctx, gone)
    return nr_reclaimed, kept


@kernel_fn("shrink_inactive_list", "mm/vmscan.c", profiles="..5.4-fixed")
async def shrink_inactive_list(ctx: Context, nid: int, memcg: Memcg, nr_to_scan: int) -> int:
    """Isolate the oldest pages and free the clean ones; then free pages of tasks. Returns the number freed."""
    pages = await ctx.ask(memcg.isolate_lru_pages, nid, nr_to_scan)
    nr_reclaimed = await shrink_page_list(ctx, pages)
    if nid == 0 and len(pages) < nr_to_scan:
        nr_reclaimed += await reclaim_user_pages(ctx, memcg, nr_to_scan - len(pages))
    return nr_reclaimed


@kernel_fn("shrink_page_list", "mm/vmscan.c", profiles="..5.4-fixed")
async def shrink_page_list(ctx: Context, pages: tuple[Page, ...]) -> int:
    """Free the pages that can be freed, and put the others back (putback_inactive_pages)."""
    nr_reclaimed = 0
    for page in pages:
        if await ctx.ask(page.remove_mapping):
            nr_reclaimed += 1
        else:
            await ctx.ask(page.charged_to.add_to_lru, page)
        await put_page(ctx, page)
    return nr_reclaimed


# -- isolation (KERNEL-today 10.5) ------------------------------------------------------------------------------------


@kernel_fn("folio_isolate_lru", "mm/vmscan.c", profiles="6.12..")
async def folio_isolate_lru(ctx: Context, page: Page) -> bool:
    """KERNEL-today 10.5: take the page off its list, with a reference; False if another has, or if it is on none."""
    if not await ctx.ask(page.test_clear_lru):
        return False
    await ctx.ask(page.get)
    locked = await folio_lruvec_lock_irqsave(ctx, page)
    await lruvec_del_folio(ctx, locked.lruvec, page)
    await lruvec_unlock_irqrestore(ctx, locked)
    return True


@kernel_fn("folio_putback_lru", "mm/vmscan.c", profiles="6.12..")
async def folio_putback_lru(ctx: Context, page: Page) -> None:
    """Put an isolated page back, by way of this CPU's batch."""
    await folio_add_lru(ctx, page)
    await put_page(ctx, page)
