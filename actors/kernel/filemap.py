"""The page cache: pages of files, charged to the memcg of whoever touched them first.

mm/filemap.c, mm/truncate.c, mm/swap.c @5.3.1. A page has a reference for being in its file's mapping, and one for each
reclaimer that has isolated it from its memcg's LRU list; who drops the last one uncharges and frees it. There is one
LRU list for each memcg and node (no active and inactive halves), and no swap.

What the kernel does to a page under its page lock and the mapping's xa_lock is one access here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.kernel.cgroup import css_put, css_tryget_online
from actors.kernel.context import WARN_ON, Context
from actors.kernel.gfp import GFP_KERNEL
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.list_head import ListEntry
from actors.kernel.memcontrol import Memcg, cancel_charge, try_charge
from actors.kernel.page_alloc import __free_pages, alloc_pages
from protocol.operations import UPDATE, operation

if TYPE_CHECKING:
    from actors.kernel.inode import Inode

MAPPING_AND_CALLER = 2
"""The references to a page that only its mapping and the present caller know."""


@attrs.define(eq=False)
class Page(ListEntry):
    """struct page of the page cache. `mapping` is None once it is truncated; `memcg` is what it is charged to."""

    index: int
    nid: int
    memcg: Memcg
    mapping: Inode | None
    is_dirty: bool
    refs: int = 1  # of whoever allocated it

    @property
    def label(self) -> str:
        return f"page {self.index} of {self.mapping.label if self.mapping else 'no file'}"

    @operation(UPDATE)
    def get(self) -> bool:
        """get_page_unless_zero()."""
        if not self.refs:
            return False
        self.refs += 1
        return True

    @operation(UPDATE)
    def put_testzero(self) -> bool:
        self.refs -= 1
        return not self.refs

    @operation(UPDATE)
    def remove_mapping(self) -> bool:
        """Take a clean page that nobody else uses out of its mapping; the caller keeps his reference."""
        if self.mapping is None or self.is_dirty or self.refs != MAPPING_AND_CALLER:
            return False
        self._leave_mapping()
        return True

    @operation(UPDATE)
    def truncate(self) -> bool:
        """Take the page out of its mapping whoever uses it; True if that was the last reference."""
        if self.mapping is None:
            return False
        self._leave_mapping()
        return not self.refs

    def _leave_mapping(self) -> None:
        if self.mapping is not None:
            del self.mapping.i_pages[self.index]
        self.mapping = None
        self.refs -= 1

    @operation(UPDATE)
    def clear_dirty(self) -> None:
        self.is_dirty = False


# -- a page comes -----------------------------------------------------------------------------------------------------


@kernel_fn("add_to_page_cache_lru", "mm/filemap.c")
async def add_to_page_cache_lru(ctx: Context, inode: Inode, index: int, *, is_dirty: bool) -> bool:
    """A new page of *inode*, charged to the task's memcg, unless somebody was faster; False is -ENOMEM."""
    memcg = await get_mem_cgroup_from_mm(ctx)
    if not await alloc_pages(ctx, GFP_KERNEL, 1):
        await css_put(ctx, memcg.css)
        return False
    is_charged = await try_charge(ctx, memcg, GFP_KERNEL, 1)
    if is_charged:
        page = Page(inode.actor, index, ctx.numa_node, memcg, inode, is_dirty)
        await ctx.ask(memcg.add_cache_pages, 1)
        if await ctx.ask(inode.add_page, page) and inode.i_sb.s_type.has_reclaimable_pages:
            await lru_cache_add(ctx, page)
        await put_page(ctx, page)
    else:
        await __free_pages(ctx, 1)
    await css_put(ctx, memcg.css)
    return is_charged


@kernel_fn("get_mem_cgroup_from_mm", "mm/memcontrol.c")
async def get_mem_cgroup_from_mm(ctx: Context) -> Memcg:
    """The memcg of the task, with a css reference held; the task is moved when it is removed, so try again."""
    with ctx.rcu_read_section:
        while True:
            memcg = await ctx.ask(ctx.machine.cgroup_tree.read_memcg, ctx) or ctx.machine.root_mem_cgroup
            if await css_tryget_online(ctx, memcg.css):
                return memcg


@kernel_fn("lru_cache_add", "mm/swap.c")
async def lru_cache_add(ctx: Context, page: Page) -> None:
    """From now on reclaim finds the page; the kernel's per-CPU pagevecs are left out."""
    await ctx.ask(page.memcg.add_to_lru, page)


# -- a page goes ------------------------------------------------------------------------------------------------------


@kernel_fn("put_page", "include/linux/mm.h")
async def put_page(ctx: Context, page: Page) -> None:
    if await ctx.ask(page.put_testzero):
        await __put_page(ctx, page)


@kernel_fn("__put_page", "mm/swap.c")
async def __put_page(ctx: Context, page: Page) -> None:
    """The last reference is gone: off the LRU list, uncharge, free."""
    await ctx.ask(page.memcg.delete_from_lru, page)
    await uncharge_page(ctx, page)


@kernel_fn("uncharge_page", "mm/memcontrol.c")
async def uncharge_page(ctx: Context, page: Page) -> None:
    WARN_ON(ctx, page.on_lists, "Bad page state: PAGE_FLAGS_CHECK_AT_FREE flag(s) set (lru)")
    await ctx.ask(page.memcg.add_cache_pages, -1)
    await cancel_charge(ctx, page.memcg, 1)
    await __free_pages(ctx, 1)


@kernel_fn("invalidate_mapping_pages", "mm/truncate.c")
async def invalidate_mapping_pages(ctx: Context, inode: Inode) -> int:
    """Take out the pages that are clean and that nobody uses; how many those were."""
    invalidated = 0
    for page in await ctx.ask(inode.list_pages):
        if not await ctx.ask(page.get):
            continue
        invalidated += await ctx.ask(page.remove_mapping)
        await put_page(ctx, page)
    return invalidated


@kernel_fn("truncate_inode_pages_final", "mm/truncate.c")
async def truncate_inode_pages_final(ctx: Context, inode: Inode) -> None:
    """The file is going away, and all its pages with it; one that reclaim has isolated is freed by reclaim."""
    for page in await ctx.ask(inode.list_pages):
        if await ctx.ask(page.truncate):
            await __put_page(ctx, page)


# -- reclaim of pages (mm/vmscan.c) -----------------------------------------------------------------------------------


@kernel_fn("shrink_inactive_list", "mm/vmscan.c")
async def shrink_inactive_list(ctx: Context, nid: int, memcg: Memcg, nr_to_scan: int) -> int:
    """Isolate the oldest pages of *memcg* and free them if they are clean; then pages of its tasks. How many went."""
    pages = await ctx.ask(memcg.isolate_lru_pages, nid, nr_to_scan)
    nr_reclaimed = await shrink_page_list(ctx, pages)
    if nid == 0 and len(pages) < nr_to_scan:
        nr_reclaimed += await reclaim_user_pages(ctx, memcg, nr_to_scan - len(pages))
    return nr_reclaimed


@kernel_fn("shrink_page_list", "mm/vmscan.c")
async def shrink_page_list(ctx: Context, pages: tuple[Page, ...]) -> int:
    """Free what may go, put the rest back (putback_inactive_pages)."""
    nr_reclaimed = 0
    for page in pages:
        if await ctx.ask(page.remove_mapping):
            nr_reclaimed += 1
        else:
            await ctx.ask(page.memcg.add_to_lru, page)
        await put_page(ctx, page)
    return nr_reclaimed


async def reclaim_user_pages(ctx: Context, memcg: Memcg, nr_pages: int) -> int:
    """Pages of tasks that belong to no file of the model."""
    taken = await ctx.ask(memcg.take_user_pages, nr_pages)
    if taken:
        await cancel_charge(ctx, memcg, taken)
        await __free_pages(ctx, taken)
    return taken
