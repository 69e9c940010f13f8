"""Memory cgroups and what is charged to them. mm/memcontrol.c @5.3.1; kmem's part is in `memcontrol_kmem`."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

from actors.kernel.cgroup import Css, css_get_many, css_put, css_put_many, css_tryget
from actors.kernel.context import Context
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.page_counter import PageCounter, page_counter_try_charge, page_counter_uncharge
from actors.kernel.workqueue import Work, queue_work_on
from actors.system.actor import Shared
from protocol.operations import ATOMIC_NS, READ, UPDATE, OperationInfo, operation

if TYPE_CHECKING:
    from actors.kernel.slab import KmemCache
    from actors.system.actor import Actor

MEMCG_CHARGE_BATCH = 32

STOCK = OperationInfo("this_cpu_stock", cost=ATOMIC_NS)


class KmemState(enum.Enum):
    """enum memcg_kmem_state."""

    NONE = "KMEM_NONE"
    ONLINE = "KMEM_ONLINE"
    ALLOCATED = "KMEM_ALLOCATED"


@attrs.define(eq=False)
class Memcg(Shared):
    """struct mem_cgroup: an actor of its own, with its css. `kmem_caches` are its child caches, oldest first.

    invariants (KERNEL.md 13): offline, `kmemcg_id` is the parent's; the root's is -1; with reparenting, each cache on
    `kmem_caches` has this memcg as its memcg and holds one reference to its css.
    """

    name: str
    css: Css
    parent: Memcg | None
    memory: PageCounter = attrs.field(init=False)
    kmemcg_id: int = attrs.field(default=-1, init=False)
    kmem_state: KmemState = attrs.field(default=KmemState.NONE, init=False)
    kmem_caches: dict[KmemCache, None] = attrs.field(factory=dict, init=False)
    id_ref: int = attrs.field(default=0, init=False)

    @classmethod
    def alloc(cls, actor: Actor, name: str, css: Css, parent: Memcg | None) -> Memcg:
        memcg = cls(actor, name, css, parent)
        memcg.memory = PageCounter(actor, f"memory of {name}", parent.memory if parent else None)
        return memcg

    @property
    def label(self) -> str:
        return f"mem_cgroup {self.name}"

    @property
    def is_root(self) -> bool:
        return self.parent is None

    def is_descendant_of(self, root: Memcg) -> bool:
        """mem_cgroup_is_descendant(): itself included."""
        level: Memcg | None = self
        while level is not None and level is not root:
            level = level.parent
        return level is root

    def subtree(self) -> list[Memcg]:
        """css_for_each_descendant_pre(): this memcg and everything below it that is not released yet."""
        found = [self]
        for memcg in found:
            found.extend(css.memcg for css in memcg.css.children if css.memcg is not None)
        return found

    @operation(READ)
    def read_kmemcg_id(self) -> int:
        return self.kmemcg_id

    @operation(UPDATE)
    def set_kmemcg_id(self, kmemcg_id: int) -> None:
        self.kmemcg_id = kmemcg_id

    @operation(READ)
    def read_kmem_state(self) -> KmemState:
        return self.kmem_state

    @operation(UPDATE)
    def set_kmem_state(self, state: KmemState) -> None:
        self.kmem_state = state

    @operation(READ)
    def list_kmem_caches(self) -> tuple[KmemCache, ...]:
        """The list as it is; slab_mutex keeps it so."""
        return tuple(self.kmem_caches)

    @operation(UPDATE)
    def add_kmem_cache(self, cache: KmemCache) -> None:
        self.kmem_caches[cache] = None

    @operation(UPDATE)
    def del_kmem_cache(self, cache: KmemCache) -> None:
        del self.kmem_caches[cache]

    @operation(UPDATE)
    def take_kmem_caches(self) -> tuple[KmemCache, ...]:
        """Empty the list (the first half of list_splice)."""
        caches = tuple(self.kmem_caches)
        self.kmem_caches.clear()
        return caches

    @operation(UPDATE)
    def splice_kmem_caches(self, caches: tuple[KmemCache, ...]) -> None:
        self.kmem_caches.update(dict.fromkeys(caches))

    @operation(UPDATE)
    def add_id_ref(self, nr: int) -> int:
        self.id_ref += nr
        return self.id_ref


# -- charging (9) ---------------------------------------------------------------------------------------------------


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


@kernel_fn("try_charge", "mm/memcontrol.c")
async def try_charge(ctx: Context, memcg: Memcg, nr_pages: int) -> bool:
    """Charge *nr_pages* to *memcg* and take as many css references; False is -ENOMEM.

    The model has no reclaim: a full counter is tried again with the exact amount, then after draining all stocks.
    """
    if memcg.is_root:
        return True
    if await consume_stock(ctx, memcg, nr_pages):
        return True
    batch = max(MEMCG_CHARGE_BATCH, nr_pages)
    over = await page_counter_try_charge(ctx, memcg.memory, batch)
    if over is not None and batch > nr_pages:
        batch = nr_pages
        over = await page_counter_try_charge(ctx, memcg.memory, batch)
    if over is not None:
        await drain_all_stock(ctx, memcg)
        over = await page_counter_try_charge(ctx, memcg.memory, batch)
    if over is not None:
        return False
    await css_get_many(ctx, memcg.css, batch)
    if batch > nr_pages:
        await refill_stock(ctx, memcg, batch - nr_pages)
    return True


@kernel_fn("consume_stock", "mm/memcontrol.c")
async def consume_stock(ctx: Context, memcg: Memcg, nr_pages: int) -> bool:
    """Take *nr_pages* from this CPU's stock, if it is *memcg*'s and has so many."""
    if nr_pages > MEMCG_CHARGE_BATCH:
        return False
    await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
    stock = ctx.machine.stocks[ctx.smp_processor_id]
    if stock.cached is not memcg or stock.nr_pages < nr_pages:
        return False
    stock.nr_pages -= nr_pages
    return True


@kernel_fn("refill_stock", "mm/memcontrol.c")
async def refill_stock(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """Put *nr_pages* of *memcg* into this CPU's stock; what it holds of another memcg is given back first."""
    await ctx.this_cpu(ctx.machine.stocks[ctx.smp_processor_id], STOCK)
    with ctx.irq_section:
        stock = ctx.machine.stocks[ctx.smp_processor_id]
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
        await css_put_many(ctx, old.css, nr_pages)
        stock.nr_pages = 0
    stock.cached = None


@kernel_fn("drain_local_stock", "mm/memcontrol.c")
async def drain_local_stock(ctx: Context, _work: Work | None = None) -> None:
    """Give back what this CPU's stock holds."""
    with ctx.irq_section:
        stock = ctx.machine.stocks[ctx.smp_processor_id]
        await drain_stock(ctx, stock)
        stock.is_flushing = False


@kernel_fn("drain_all_stock", "mm/memcontrol.c")
async def drain_all_stock(ctx: Context, root_memcg: Memcg) -> None:
    """9.3: give back what the stocks of all CPUs hold for the subtree; if somebody is at it already, do nothing."""
    machine = ctx.machine
    if not await ctx.ask(machine.percpu_charge_mutex.trylock, ctx):
        return
    with ctx.preempt_section:
        curcpu = ctx.smp_processor_id
        for stock in machine.stocks:
            memcg = await ctx.ask(stock.read_cached)  # may be stale from here on
            if memcg is None or not await css_tryget(ctx, memcg.css):
                continue
            if memcg.is_descendant_of(root_memcg) and not await ctx.ask(stock.test_and_set_flushing):
                if stock.cpu == curcpu:
                    await drain_local_stock(ctx)
                else:
                    await queue_work_on(ctx, stock.cpu, machine.system_wq, stock.work)
            await css_put(ctx, memcg.css)
    await ctx.ask(machine.percpu_charge_mutex.unlock, ctx)
