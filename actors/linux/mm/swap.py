"""LRU lists, the batches in front of them, and references to pages. mm/swap.c @5.3.1, @6.12, @7.2; KERNEL-today 10, 11.

From 6.12 on a new page waits in a batch of its CPU, with a reference, and goes to its list with 30 others. Until then
no reclaimer finds it. Whoever takes a page off its list clears PG_lru first, so that only one does. The lruvec of a
page is that of the memcg that it is charged to and of its node: on 7.2 that memcg may change until the lock is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.include.swap import lru_add_drain, put_page
from actors.linux.kernel.workqueue import Work, flush_work, queue_work_on
from actors.linux.mm.memcg_folio import (
    LruvecLocked,
    folio_lruvec_lock_irqsave,
    folio_lruvec_relock_irqsave,
    lruvec_unlock_irqrestore,
    mem_cgroup_uncharge_folio,
    mem_cgroup_update_lru_size,
)
from actors.linux.mm.memcontrol import MemcgPerNode, uncharge_page
from actors.linux.mm.mmzone import LISTS, Lruvec
from actors.linux.mm.page_alloc import __free_pages
from actors.machine.context import Context
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, READ, UPDATE, OperationInfo, operation

if TYPE_CHECKING:
    from actors.linux.mm.filemap import Page

PAGEVEC_SIZE = 31
"""The places of a batch; the 31st page empties it."""

THIS_CPU_FBATCHES = OperationInfo("this_cpu_fbatches", UPDATE, cost=ATOMIC_NS)


@attrs.define(eq=False)
class FolioBatches(Shared):
    """struct cpu_fbatches of one CPU, under a local lock: `lru_add` are the pages that wait, with a reference each."""

    cpu: int
    lru_add: list[Page] = attrs.field(factory=list, init=False)
    work: Work = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.work = Work(self.actor, self, name="lru_add_drain_work")
        self.work.init_work(lru_add_drain_per_cpu)

    @property
    def label(self) -> str:
        return f"cpu_fbatches of {self.actor.name}"

    @operation(READ)
    def needs_drain(self) -> bool:
        """cpu_needs_drain(), from another CPU."""
        return bool(self.lru_add)


# -- 2019: a page is on its list at once ------------------------------------------------------------------------------


@kernel_fn("lru_add_drain", "mm/swap.c", profiles="..5.4-fixed")
async def lru_add_drain_until_5_4(ctx: Context) -> None:
    """Nothing waits in a batch."""


@kernel_fn("lru_cache_add", "mm/swap.c", profiles="..5.4-fixed")
async def lru_cache_add(ctx: Context, page: Page) -> None:
    """Put the page on its LRU list, where reclaim finds it; the kernel's per-CPU pagevecs are left out."""
    await ctx.ask(page.charged_to.add_to_lru, page)


@kernel_fn("__put_page", "mm/swap.c", profiles="..5.4-fixed")
async def __put_page(ctx: Context, page: Page) -> None:
    """The last reference is dropped: take the page off the LRU list, uncharge and free it."""
    await ctx.ask(page.charged_to.delete_from_lru, page)
    await uncharge_page(ctx, page)


# -- 6.12 and later: batches ------------------------------------------------------------------------------------------


@kernel_fn("folio_add_lru", "mm/swap.c", profiles="6.12..")
async def folio_add_lru_6_12(ctx: Context, page: Page) -> None:
    """KERNEL-today 10.4: put the page, with a reference, into this CPU's batch; a full batch goes to the lists.

    So does one with a folio of several pages, which does not wait.
    """
    await ctx.ask(page.get)
    with ctx.preempt_section:
        await ctx.this_cpu(ctx.machine.fbatches[ctx.smp_processor_id], THIS_CPU_FBATCHES)
        batches = ctx.machine.fbatches[ctx.smp_processor_id]
        ctx.use(batches)
        batches.lru_add.append(page)
        if len(batches.lru_add) == PAGEVEC_SIZE or page.nr_pages > 1:
            await folio_batch_move_lru(ctx, batches)


@kernel_fn("folio_batch_move_lru", "mm/swap.c", profiles="6.12")
async def folio_batch_move_lru(ctx: Context, batches: FolioBatches) -> None:
    """KERNEL-today 10.4: put the pages of this CPU's batch on their lists, and drop its references."""
    locked: LruvecLocked | None = None
    for page in batches.lru_add:
        locked = await folio_lruvec_relock_irqsave(ctx, page, locked)
        await lru_add(ctx, locked.lruvec, page)
    if locked is not None:
        await lruvec_unlock_irqrestore(ctx, locked)
    pages, batches.lru_add = batches.lru_add, []
    for page in pages:
        await put_page(ctx, page)


@kernel_fn("folio_batch_move_lru", "mm/swap.c", profiles="7.2..")
async def folio_batch_move_lru_7_2(ctx: Context, batches: FolioBatches) -> None:
    """KERNEL-7.2, row 10.4: a page that only the batch still holds goes to no list; it is freed after the unlock."""
    locked: LruvecLocked | None = None
    dead = []
    for page in batches.lru_add:
        if await ctx.ask(page.ref_freeze, 1):
            dead.append(page)
            continue
        locked = await folio_lruvec_relock_irqsave(ctx, page, locked)
        await lru_add(ctx, locked.lruvec, page)
    if locked is not None:
        await lruvec_unlock_irqrestore(ctx, locked)
    pages, batches.lru_add = batches.lru_add, []
    for page in dead:
        await mem_cgroup_uncharge_folio(ctx, page)
        await __free_pages(ctx, page.nr_pages)
    for page in pages:
        if page not in dead:
            await put_page(ctx, page)


async def lru_add(ctx: Context, lruvec: Lruvec, page: Page) -> None:
    """Set PG_lru, and put the page on its list; the lock of *lruvec* is held."""
    await ctx.ask(page.set_lru)
    await lruvec_add_folio(ctx, lruvec, page)


@kernel_fn("lruvec_add_folio", "include/linux/mm_inline.h", profiles="6.12..")
async def lruvec_add_folio(ctx: Context, lruvec: Lruvec, page: Page) -> None:
    await mem_cgroup_update_lru_size(ctx, lruvec, page.lru, page.nr_pages)
    await ctx.ask(lruvec.add_folio, page)


@kernel_fn("lruvec_del_folio", "include/linux/mm_inline.h", profiles="6.12..")
async def lruvec_del_folio(ctx: Context, lruvec: Lruvec, page: Page) -> None:
    await ctx.ask(lruvec.del_folio, page)
    await mem_cgroup_update_lru_size(ctx, lruvec, page.lru, -page.nr_pages)


@kernel_fn("lru_add_drain", "mm/swap.c", profiles="6.12..")
async def lru_add_drain_6_12(ctx: Context) -> None:
    """Put what waits in this CPU's batch on the lists."""
    with ctx.preempt_section:
        await ctx.this_cpu(ctx.machine.fbatches[ctx.smp_processor_id], THIS_CPU_FBATCHES)
        batches = ctx.machine.fbatches[ctx.smp_processor_id]
        ctx.use(batches)
        if batches.lru_add:
            await folio_batch_move_lru(ctx, batches)


@kernel_fn("lru_add_drain_per_cpu", "mm/swap.c", profiles="6.12..")
async def lru_add_drain_per_cpu(ctx: Context, _work: Work) -> None:
    """The work of lru_add_drain_all() on one CPU."""
    await lru_add_drain(ctx)


@kernel_fn("lru_add_drain_all", "mm/swap.c", profiles="6.12..")
async def lru_add_drain_all_6_12(ctx: Context) -> None:
    """Drain the batches of all CPUs that have something in them, each by a work there, and wait."""
    queued = []
    for batches in ctx.machine.fbatches:
        if await ctx.ask(batches.needs_drain):
            await queue_work_on(ctx, batches.cpu, ctx.machine.system_wq, batches.work)
            queued.append(batches.work)
    for work in queued:
        await flush_work(ctx, work)


# -- off the lists, and the end of a page -----------------------------------------------------------------------------


@kernel_fn("__put_page", "mm/swap.c", profiles="6.12..", known_as="__folio_put")
async def __folio_put(ctx: Context, page: Page) -> None:
    """The last reference is dropped: take the page off its list, uncharge it, free it."""
    await __page_cache_release(ctx, page)
    await mem_cgroup_uncharge_folio(ctx, page)
    await __free_pages(ctx, page.nr_pages)


@kernel_fn("__page_cache_release", "mm/swap.c", profiles="6.12..")
async def __page_cache_release(ctx: Context, page: Page) -> None:
    if not await ctx.ask(page.test_lru):
        return
    locked = await folio_lruvec_lock_irqsave(ctx, page)
    await lruvec_del_folio(ctx, locked.lruvec, page)
    await ctx.ask(page.clear_lru)
    await lruvec_unlock_irqrestore(ctx, locked)


# -- removal of a memcg -----------------------------------------------------------------------------------------------


@kernel_fn("lru_reparent_memcg", "mm/swap.c", profiles="7.2..")
async def lru_reparent_memcg(ctx: Context, node: MemcgPerNode, above: MemcgPerNode) -> None:
    """KERNEL-today 11.5, KERNEL-7.2: move lists and sizes to the parent, whatever the number of pages.

    objcg_lock and both LRU locks are held.
    """
    lruvec, parent = node.lruvec, above.lruvec
    for lru in LISTS:
        await ctx.ask(parent.splice_oldest, lru, await ctx.ask(lruvec.take_list, lru))
        nr_pages = await ctx.ask(lruvec.read_size, lru)
        if nr_pages:
            await mem_cgroup_update_lru_size(ctx, parent, lru, nr_pages)
            await mem_cgroup_update_lru_size(ctx, lruvec, lru, -nr_pages)
