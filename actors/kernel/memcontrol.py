"""Memory cgroups and what is charged to them. mm/memcontrol.c @5.3.1; kmem's part is in `memcontrol_kmem`.

A page that is charged is counted in the memcg's page counter and in those of all its ancestors, and holds a reference
to the memcg's css. Charging is by batches: a CPU keeps what it charged too much in its stock (KERNEL.md 9).
"""

from __future__ import annotations

import enum
import functools
from collections import defaultdict
from typing import TYPE_CHECKING

import attrs

from actors.kernel.cgroup import Css, css_get_many, css_put, css_put_many, css_tryget, memcg_of
from actors.kernel.context import Context, deref
from actors.kernel.gfp import GFP_KERNEL, Gfp, gfpflags_allow_blocking
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.list_head import ListHead, use
from actors.kernel.locks import mutex_trylock, mutex_unlock
from actors.kernel.page_alloc import __free_pages, alloc_pages
from actors.kernel.page_counter import PageCounter, page_counter_try_charge, page_counter_uncharge
from actors.kernel.vmstat import MEMCG_CHARGE_BATCH, VmStats
from actors.kernel.workqueue import Work, queue_work_on
from actors.system.actor import Shared
from protocol.operations import ATOMIC_NS, READ, UPDATE, OperationInfo, operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.kernel.filemap import Page
    from actors.kernel.kmem_cache import KmemCache
    from actors.system.actor import Actor

MEM_CGROUP_RECLAIM_RETRIES = 5

STOCK = OperationInfo("this_cpu_stock", cost=ATOMIC_NS)


class KmemState(enum.Enum):
    """enum memcg_kmem_state."""

    NONE = "KMEM_NONE"
    ONLINE = "KMEM_ONLINE"
    ALLOCATED = "KMEM_ALLOCATED"


@attrs.define(eq=False)
class Memcg(Shared):
    """struct mem_cgroup: an actor of its own, with its css. `kmem_caches` are its child caches, oldest first.

    `parent` is None for the root, and without hierarchy (cgroup v1) for all. `memsw` and `kmem` are v1's counters.
    `user_pages` are pages of its tasks that reclaim may take. `cache_pages` of them belong to files (`filemap`); those
    that no reclaimer has isolated are on `lru`, by node, oldest first. `shrinker_maps` say, by node, which shrinkers
    may find something here.

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
    id_ref: int = attrs.field(default=0, init=False)
    user_pages: int = attrs.field(default=0, init=False)
    cache_pages: int = attrs.field(default=0, init=False)
    lru: dict[int, ListHead[Page]] = attrs.field(init=False)
    shrinker_maps: dict[int, set[int]] = attrs.field(factory=lambda: defaultdict(set), init=False)

    def __attrs_post_init__(self) -> None:
        self.kmem_caches = ListHead(self, "kmem_caches")
        self.lru = defaultdict(functools.partial(ListHead, self))

    @classmethod
    def alloc(
        cls, actor: Actor, name: str, css: Css, parent: Memcg | None, *, has_v1_counters: bool, cpus: int, nodes: int
    ) -> Memcg:
        """mem_cgroup_alloc(): counters below those of *parent*, statistics per CPU and per node."""

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
        return (self, self.memory, self.memsw, self.kmem, self.vmstats, *self.lruvec_stats)

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
        """css_for_each_descendant_pre(): this memcg and everything below it that is not released yet."""
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

    @operation(READ, part="kmem_state")
    def read_kmem_state(self) -> KmemState:
        return self.kmem_state

    @operation(UPDATE, part="kmem_state")
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
        """Up to *nr* of the pages that reclaim may take and that belong to no file."""
        taken = min(nr, self.user_pages - self.cache_pages)
        self.user_pages -= taken
        return taken

    @operation(UPDATE)
    def add_cache_pages(self, nr: int) -> None:
        self.user_pages += nr
        self.cache_pages += nr

    @operation(READ)
    def lru_size(self, nid: int) -> int:
        """lruvec_lru_size(): pages that belong to no file are all taken for node 0's."""
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
        """Up to *nr* of the oldest pages, each with a reference; one that is being freed stays. One lock section."""
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
        """find_next_bit(): the map as it is at this moment."""
        return min((bit for bit in self.shrinker_maps[nid] if bit > after), default=None)

    @operation(READ)
    def next_descendant_pre(self, pos: Memcg | None) -> Memcg | None:
        """css_next_descendant_pre() with this one as the root: the one after *pos*, which may be gone; under RCU."""
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


@kernel_fn("try_charge", "mm/memcontrol.c")
async def try_charge(ctx: Context, memcg: Memcg, gfp: Gfp, nr_pages: int) -> bool:
    """Charge *nr_pages* to *memcg* and take as many css references; False is -ENOMEM.

    A charge that does not fit first tries the exact amount, then reclaims, then takes back what the stocks hold. The
    model has no OOM killer: after the last retry the charge fails, unless it must not.
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
        elif await ctx.machine.try_to_free_mem_cgroup_pages(ctx, over, nr_pages, gfp):
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


async def charge_counters(ctx: Context, memcg: Memcg, nr_pages: int) -> Memcg | None:
    """Charge memsw (cgroup v1), then memory; return the memcg that is over its limit, if one is."""
    if memcg.memsw is not None and (full := await page_counter_try_charge(ctx, memcg.memsw, nr_pages)) is not None:
        return next(level for level in (memcg, *memcg.ancestors()) if level.memsw is full)
    full = await page_counter_try_charge(ctx, memcg.memory, nr_pages)
    if full is None:
        return None
    if memcg.memsw is not None:
        await page_counter_uncharge(ctx, memcg.memsw, nr_pages)
    return next(level for level in (memcg, *memcg.ancestors()) if level.memory is full)


async def force_charge(ctx: Context, memcg: Memcg, gfp: Gfp, nr_pages: int) -> bool:
    """What must not fail is charged over the limit; the rest fails."""
    if Gfp.NOFAIL not in gfp:
        return False
    for counter in (memcg.memory, memcg.memsw):
        level = counter
        while level is not None:
            await ctx.ask(level.add, nr_pages)
            level = level.parent
    await css_get_many(ctx, memcg.css, nr_pages)
    return True


@kernel_fn("cancel_charge", "mm/memcontrol.c")
async def cancel_charge(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """Take a charge back, with its css references."""
    if memcg.is_root:
        return
    await page_counter_uncharge(ctx, memcg.memory, nr_pages)
    if memcg.memsw is not None:
        await page_counter_uncharge(ctx, memcg.memsw, nr_pages)
    await css_put_many(ctx, memcg.css, nr_pages)


@kernel_fn("mem_cgroup_try_charge", "mm/memcontrol.c")
async def mem_cgroup_try_charge(ctx: Context, memcg: Memcg) -> bool:
    """A task's page: of the page cache, or anonymous. It stays charged until reclaim or its end takes it."""
    if not await alloc_pages(ctx, GFP_KERNEL, 1):
        return False
    if not await try_charge(ctx, memcg, GFP_KERNEL, 1):
        await __free_pages(ctx, 1)
        return False
    await ctx.ask(memcg.add_user_pages, 1)
    return True


@kernel_fn("mem_cgroup_uncharge", "mm/memcontrol.c")
async def mem_cgroup_uncharge(ctx: Context, memcg: Memcg) -> None:
    """A task's page goes."""
    if await ctx.ask(memcg.take_user_pages, 1):
        await cancel_charge(ctx, memcg, 1)
        await __free_pages(ctx, 1)


@kernel_fn("memcg_set_shrinker_bit", "mm/memcontrol.c")
async def memcg_set_shrinker_bit(ctx: Context, memcg: Memcg | None, nid: int, shrinker_id: int) -> None:
    """From now on that shrinker may find something in *memcg*; the root's are always asked."""
    if shrinker_id >= 0 and memcg is not None and not memcg.is_root:
        await ctx.ask(memcg.set_shrinker_bit, nid, shrinker_id)


# -- kernel memory (9.2, 1.3) -----------------------------------------------------------------------------------------


@kernel_fn("memcg_kmem_charge_memcg", "mm/memcontrol.c")
async def memcg_kmem_charge_memcg(ctx: Context, memcg: Memcg, gfp: Gfp, nr_pages: int) -> bool:
    """Charge kernel pages, if kmem accounting is on: memory, then v1's kmem counter, whose limit knows no mercy."""
    if not await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        return True
    if not await try_charge(ctx, memcg, gfp, nr_pages):
        return False
    if memcg.kmem is not None and await page_counter_try_charge(ctx, memcg.kmem, nr_pages) is not None:
        await cancel_charge(ctx, memcg, nr_pages)
        return False
    return True


@kernel_fn("memcg_kmem_uncharge_memcg", "mm/memcontrol.c")
async def memcg_kmem_uncharge_memcg(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """Uncharge kernel pages, whatever memcg this is; the css references are the caller's."""
    if not await ctx.ask(ctx.machine.kmem_enabled.is_enabled):
        return
    if memcg.kmem is not None:
        await page_counter_uncharge(ctx, memcg.kmem, nr_pages)
    await page_counter_uncharge(ctx, memcg.memory, nr_pages)
    if memcg.memsw is not None:
        await page_counter_uncharge(ctx, memcg.memsw, nr_pages)


# -- stocks (9.3) -----------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Stock(Shared):
    """struct memcg_stock_pcp of one CPU: pages charged in advance to `cached`, each with a css reference."""

    cpu: int
    work: Work = attrs.field(init=False)
    cached: Memcg | None = attrs.field(default=None, init=False)
    nr_pages: int = attrs.field(default=0, init=False)
    is_flushing: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.work = Work(self.actor, self)
        self.work.init_work(drain_local_stock)

    @property
    def label(self) -> str:
        return f"memcg_stock of {self.actor.name}"

    @operation(READ)
    def read_cached(self) -> Memcg | None:
        """stock->cached and ->nr_pages, as another CPU sees them."""
        return self.cached if self.nr_pages else None

    @operation(UPDATE)
    def test_and_set_flushing(self) -> bool:
        was, self.is_flushing = self.is_flushing, True
        return was


def this_cpu_stock(ctx: Context) -> Stock:
    """this_cpu_ptr(&memcg_stock)."""
    stock = ctx.machine.stocks[ctx.smp_processor_id]
    ctx.use(stock)
    return stock


@kernel_fn("consume_stock", "mm/memcontrol.c")
async def consume_stock(ctx: Context, memcg: Memcg, nr_pages: int) -> bool:
    """Take *nr_pages* from this CPU's stock, if it is *memcg*'s and has so many."""
    if nr_pages > MEMCG_CHARGE_BATCH:
        return False
    with ctx.irq_section:
        await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
        stock = this_cpu_stock(ctx)
        if stock.cached is not memcg or stock.nr_pages < nr_pages:
            return False
        stock.nr_pages -= nr_pages
        return True


@kernel_fn("refill_stock", "mm/memcontrol.c")
async def refill_stock(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """Put *nr_pages* of *memcg* into this CPU's stock; what it holds of another memcg is given back first."""
    with ctx.irq_section:
        await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
        stock = this_cpu_stock(ctx)
        if stock.cached is not memcg:
            await drain_stock(ctx, stock)
            stock.cached = memcg
        stock.nr_pages += nr_pages
        if stock.nr_pages > MEMCG_CHARGE_BATCH:
            await drain_stock(ctx, stock)


@kernel_fn("drain_stock", "mm/memcontrol.c")
async def drain_stock(ctx: Context, stock: Stock) -> None:
    """Give back what *stock* holds, this CPU's own; IRQs are off."""
    old, nr_pages = stock.cached, stock.nr_pages
    if old is not None and nr_pages:
        await page_counter_uncharge(ctx, old.memory, nr_pages)
        if old.memsw is not None:
            await page_counter_uncharge(ctx, old.memsw, nr_pages)
        await css_put_many(ctx, old.css, nr_pages)
        stock.nr_pages = 0
    stock.cached = None


@kernel_fn("drain_local_stock", "mm/memcontrol.c")
async def drain_local_stock(ctx: Context, _work: Work | None = None) -> None:
    """Give back what this CPU's stock holds."""
    with ctx.irq_section:
        await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
        stock = this_cpu_stock(ctx)
        await drain_stock(ctx, stock)
        stock.is_flushing = False


@kernel_fn("drain_all_stock", "mm/memcontrol.c")
async def drain_all_stock(ctx: Context, root_memcg: Memcg) -> None:
    """9.3: give back what the stocks of all CPUs hold for the subtree; if somebody is at it already, do nothing."""
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
