"""The page cache: pages of files, each charged to the memcg of the task that first accessed it.

mm/filemap.c, mm/truncate.c, mm/swap.c @5.3.1. The mapping of its file holds a reference to a page, and so does each
reclaimer that has isolated it from its memcg's LRU list. The last put uncharges and frees the page. There is one LRU
list for each memcg and node (no active and inactive halves), and no swap.

All that the kernel does to a page under its page lock and the mapping's xa_lock is one access here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.include.fs import __mark_inode_dirty
from actors.linux.kernel.cgroup.cgroup import css_put
from actors.linux.mm.memcontrol import Memcg, cancel_charge, charge_folios, get_mem_cgroup_from_mm
from actors.linux.mm.page_alloc import __free_pages, alloc_pages
from actors.linux.mm.swap import __put_page, lru_cache_add
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL
from actors.machine.list_head import ListEntry
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.fs.inode import Inode

MAPPING_AND_CALLER = 2
"""The reference count of a page that only its mapping and the present caller refer to."""


@attrs.define(eq=False)
class Page(ListEntry):
    """struct page of the page cache. `mapping` is None after truncation; `memcg` is the memcg that it is charged to."""

    index: int
    nid: int
    memcg: Memcg
    mapping: Inode | None
    is_dirty: bool
    refs: int = 1  # the allocation's

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
        """Take a clean page without other users out of its mapping; the caller keeps its own reference."""
        if self.mapping is None or self.is_dirty or self.refs != MAPPING_AND_CALLER:
            return False
        self._leave_mapping()
        return True

    @operation(UPDATE)
    def truncate(self) -> bool:
        """Take the page out of its mapping even if it is in use; True if that dropped the last reference."""
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


# -- adding a page ----------------------------------------------------------------------------------------------------


@kernel_fn("add_to_page_cache_lru", "mm/filemap.c")
async def add_to_page_cache_lru(ctx: Context, inode: Inode, index: int, *, is_dirty: bool) -> bool:
    """Add a new page to *inode*, charged to the task's memcg, unless there is one by now; False is -ENOMEM."""
    memcg = await get_mem_cgroup_from_mm(ctx)
    if not await alloc_pages(ctx, GFP_KERNEL, 1):
        await css_put(ctx, memcg.css)
        return False
    is_charged = await charge_folios(ctx, memcg, GFP_KERNEL, 1)
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


# -- freeing, writing and reading pages -------------------------------------------------------------------------------


@kernel_fn("put_page", "include/linux/mm.h")
async def put_page(ctx: Context, page: Page) -> None:
    if await ctx.ask(page.put_testzero):
        await __put_page(ctx, page)


async def reclaim_user_pages(ctx: Context, memcg: Memcg, nr_pages: int) -> int:
    """Uncharge and free pages of tasks that belong to no file of the model."""
    taken = await ctx.ask(memcg.take_user_pages, nr_pages)
    if taken:
        await cancel_charge(ctx, memcg, taken)
        await __free_pages(ctx, taken)
    return taken


@kernel_fn("generic_perform_write", "mm/filemap.c")
async def generic_perform_write(ctx: Context, inode: Inode, nr_pages: int) -> int:
    """Append new pages to the file; they are dirty until they are written back."""
    for written in range(nr_pages):
        size = await ctx.ask(inode.read_size)
        if not await add_to_page_cache_lru(ctx, inode, size, is_dirty=True):
            return written
        await ctx.ask(inode.set_size, size + 1)
        if inode.i_sb.s_type.has_reclaimable_pages:
            await __mark_inode_dirty(ctx, inode)
    return nr_pages


@kernel_fn("generic_file_buffered_read", "mm/filemap.c")
async def generic_file_buffered_read(ctx: Context, inode: Inode) -> int:
    """Read missing pages from the disk; they are clean."""
    size = await ctx.ask(inode.read_size)
    for index in range(size):
        if not await ctx.ask(inode.has_page, index) and not await add_to_page_cache_lru(
            ctx, inode, index, is_dirty=False
        ):
            return index
    return size
