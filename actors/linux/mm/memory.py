"""Memory of tasks that belongs to no file of the model. mm/memory.c @6.12; before 6.12, mm/memcontrol.c counts it only.

Reclaim takes it as it takes clean pages of files.
"""

from __future__ import annotations

import itertools

import attrs

from actors.linux.include.swap import folio_add_lru, lru_add_drain, put_page
from actors.linux.mm.filemap import Page, count_folio
from actors.linux.mm.memcg_folio import charge_memcg
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.page_alloc import __free_pages, alloc_pages
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import UPDATE, operation


@attrs.define(eq=False)
class TaskMapping(Shared):
    """What maps this memory, with a reference to each page."""

    i_pages: dict[int, Page] = attrs.field(factory=dict, init=False)
    shadows: set[int] = attrs.field(factory=set, init=False)
    numbers: itertools.count[int] = attrs.field(factory=itertools.count, init=False)

    @property
    def label(self) -> str:
        return "memory of tasks"

    @operation(UPDATE)
    def add_page(self, page: Page) -> None:
        """A task maps *page*, which takes a reference."""
        self.i_pages[page.index] = page
        page.refs += 1

    @operation(UPDATE)
    def take_newest(self, memcg: Memcg) -> Page | None:
        """Unmap the newest page that was charged for a task of *memcg*; its reference is now the caller's."""
        of_memcg = [page for page in self.i_pages.values() if page.charged_by is memcg]
        if not of_memcg:
            return None
        page = of_memcg[-1]
        page.refs += 1
        page.leave_mapping()
        return page


async def fault_in_page(ctx: Context, memcg: Memcg, nr_pages: int) -> bool:
    """Give a task of *memcg* memory of *nr_pages* pages, charged as one folio; False is -ENOMEM."""
    mapping, nid = ctx.machine.task_pages, ctx.numa_node
    if not await alloc_pages(ctx, GFP_KERNEL, nr_pages):
        return False
    page = Page(mapping.actor, next(mapping.numbers), nid, None, mapping, is_dirty=False, nr_pages=nr_pages)
    page.is_of_file = False
    if not await charge_memcg(ctx, memcg, GFP_KERNEL, page):
        await __free_pages(ctx, nr_pages)
        return False
    await ctx.ask(mapping.add_page, page)
    memcg.book_in_mapping(page, 1)
    await count_folio(ctx, page, page.nid, 1)
    await folio_add_lru(ctx, page)
    await put_page(ctx, page)
    return True


@kernel_fn("mem_cgroup_try_charge", "mm/memory.c", profiles="6.12..", known_as="do_anonymous_page")
async def do_anonymous_page(ctx: Context, memcg: Memcg) -> bool:
    """A task of *memcg* faults a page in; False is -ENOMEM."""
    return await fault_in_page(ctx, memcg, 1)


@kernel_fn("mem_cgroup_uncharge", "mm/memory.c", profiles="6.12..", known_as="zap_page_range_single")
async def zap_page_range_single(ctx: Context, memcg: Memcg) -> None:
    """Take the newest memory from a task of *memcg*: the batch of this CPU is emptied first, so that it can go."""
    await lru_add_drain(ctx)
    page = await ctx.ask(ctx.machine.task_pages.take_newest, memcg)
    if page is not None:
        await count_folio(ctx, page, page.nid, -1)
        await put_page(ctx, page)
