"""The page cache: pages of files, each charged to the memcg of the task that first accessed it.

mm/filemap.c, mm/truncate.c, mm/swap.c @5.3.1, @6.12, @7.2. The mapping of its file holds a reference to a page, and so
does each reclaimer that has isolated it from its memcg's LRU list. The last put uncharges and frees the page. There are
no active and inactive halves of a list, and no swap.

All that the kernel does to a page under its page lock and the mapping's xa_lock is one access here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.include.fs import __mark_inode_dirty
from actors.linux.include.swap import folio_add_lru, put_page
from actors.linux.kernel.cgroup.cgroup import css_put
from actors.linux.lib.xarray import xas_create
from actors.linux.mm.memcg_folio import lruvec_stat_mod_folio, mem_cgroup_charge
from actors.linux.mm.memcontrol import Memcg, cancel_charge, get_mem_cgroup_from_mm, try_charge
from actors.linux.mm.mmzone import INACTIVE_ANON, INACTIVE_FILE
from actors.linux.mm.page_alloc import __free_pages, alloc_pages
from actors.linux.mm.swap import __put_page, lru_cache_add
from actors.linux.mm.workingset import workingset_refault
from actors.machine.context import Context, deref
from actors.machine.gfp import GFP_KERNEL
from actors.machine.list_head import ListEntry
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import READ, UPDATE, operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.linux.fs.inode import Inode
    from actors.linux.mm.memory import TaskMapping
    from actors.linux.mm.obj_cgroup import ObjCgroup

MAPPING_AND_CALLER = 2
"""The reference count of a page that only its mapping and the present caller refer to."""


@attrs.define(eq=False)
class Page(ListEntry):
    """struct page, or from 6.12 on struct folio, of the page cache. `mapping` is None after truncation.

    `memcg` is the memcg that it is charged to; from 7.2 on it has an obj_cgroup instead, `objcg`. From 6.12 on `lru` is
    the list that it belongs to, `is_lru` its flag PG_lru, and a page may be `nr_pages` pages long.

    Shadow accounting: `charged_by` is the memcg that was charged first; a page that is not `is_of_file` is a task's.
    """

    index: int
    nid: int
    memcg: Memcg | None
    mapping: Inode | TaskMapping | None
    is_dirty: bool
    refs: int = 1  # the allocation's
    nr_pages: int = 1
    objcg: ObjCgroup | None = attrs.field(default=None, init=False)
    lru: str = attrs.field(default=INACTIVE_FILE, init=False)
    is_lru: bool = attrs.field(default=False, init=False)
    charged_by: Memcg | None = attrs.field(default=None, init=False)
    is_of_file: bool = attrs.field(default=True, init=False)

    @property
    def label(self) -> str:
        return f"page {self.index} of {self.mapping.label if self.mapping else 'no file'}"

    @property
    def charged_to(self) -> Memcg:
        """folio_memcg(), for a page that is charged to a memcg itself."""
        return deref(self.memcg, "page->mem_cgroup")

    @property
    def counted_as(self) -> tuple[str, ...]:
        """The items of memory.stat that count it while it is in a file, or while a task has mapped it."""
        if not self.is_of_file:
            return ("anon",)
        return ("file", "shmem") if self.lru == INACTIVE_ANON else ("file",)

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
    def reclaim_mapping(self) -> bool:
        """[6.12] The same, for reclaim, which leaves a shadow in the place of the page."""
        mapping = self.mapping
        if mapping is None or self.is_dirty or self.refs != MAPPING_AND_CALLER:
            return False
        self._leave_mapping()
        mapping.shadows.add(self.index)
        return True

    @operation(UPDATE)
    def truncate(self) -> bool:
        """Take the page out of its mapping even if it is in use; True if that dropped the last reference."""
        if self.mapping is None:
            return False
        self._leave_mapping()
        return not self.refs

    @operation(UPDATE)
    def leave_mapping(self) -> bool:
        """[6.12] The same, for a caller with a reference; True if the page was in the mapping."""
        was_in = self.mapping is not None
        self._leave_mapping()
        return was_in

    @operation(UPDATE)
    def replace_in_mapping(self, new: Page, expected: int) -> bool:
        """Let *new* take the place of this page, if this one has as many references as *expected*."""
        mapping = self.mapping
        if mapping is None or self.refs != expected:
            return False
        mapping.i_pages[self.index] = new
        self.mapping, new.mapping = None, mapping
        self.refs -= 1
        new.refs += 1
        return True

    def _leave_mapping(self) -> None:
        if self.mapping is None:
            return
        del self.mapping.i_pages[self.index]
        if self.charged_by is not None:
            self.charged_by.book_in_mapping(self, -1)
        self.mapping = None
        self.refs -= 1

    @operation(UPDATE)
    def ref_freeze(self, expected: int) -> bool:
        """folio_ref_freeze(): no reference is left from now on, if there were just so many."""
        if self.refs != expected:
            return False
        self.refs = 0
        return True

    @operation(UPDATE)
    def set_lru(self) -> None:
        self.is_lru = True

    @operation(UPDATE)
    def clear_lru(self) -> None:
        self.is_lru = False

    @operation(READ)
    def test_lru(self) -> bool:
        return self.is_lru

    @operation(UPDATE)
    def test_clear_lru(self) -> bool:
        """folio_test_clear_lru(): whoever clears it may take the page off its list."""
        was, self.is_lru = self.is_lru, False
        return was

    @operation(UPDATE)
    def clear_dirty(self) -> None:
        self.is_dirty = False


# -- adding a page ----------------------------------------------------------------------------------------------------


@kernel_fn("add_to_page_cache_lru", "mm/filemap.c", profiles="..5.4-fixed")
async def add_to_page_cache_lru(ctx: Context, inode: Inode, index: int, *, is_dirty: bool) -> bool:
    """Add a new page to *inode*, charged to the task's memcg, unless there is one by now; False is -ENOMEM."""
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


@kernel_fn("add_to_page_cache_lru", "mm/filemap.c", profiles="6.12..", known_as="filemap_add_folio")
async def filemap_add_folio(ctx: Context, inode: Inode, index: int, *, is_dirty: bool) -> bool:
    """KERNEL-today 10.1: charge a new page, put it into the file unless there is one by now; False is -ENOMEM.

    If reclaim has taken a page from this place, what it left tells whose it was.
    """
    nid = ctx.numa_node
    if not await alloc_pages(ctx, GFP_KERNEL, 1):
        return False
    page = Page(inode.actor, index, nid, None, inode, is_dirty)
    page.lru = INACTIVE_FILE if inode.i_sb.s_type.has_reclaimable_pages else INACTIVE_ANON
    if not await mem_cgroup_charge(ctx, page, GFP_KERNEL):
        await __free_pages(ctx, 1)
        return False
    if not await xas_create(ctx, inode, index):
        await put_page(ctx, page)
        return False
    has_shadow = await ctx.ask(inode.has_shadow, index)
    if await ctx.ask(inode.add_page, page):
        if page.charged_by is not None:
            page.charged_by.book_in_mapping(page, 1)
        await count_folio(ctx, page, page.nid, 1)
        if has_shadow:
            await workingset_refault(ctx, page)
        await folio_add_lru(ctx, page)
    await put_page(ctx, page)
    return True


# -- statistics, and the way out of a file ----------------------------------------------------------------------------


async def count_folio(ctx: Context, page: Page, nid: int, nr: int) -> None:
    """Count a page that the caller has a reference to as one of a file or of a task (1), or no longer (-1).

    In C the lock of the mapping is held, or that of the page table.
    """
    with ctx.irq_section:
        for item in page.counted_as:
            await lruvec_stat_mod_folio(ctx, page, nid, item, nr * page.nr_pages)


async def take_out(ctx: Context, page: Page, way_out: Callable[[], bool]) -> bool:
    """Take a page that the caller has a reference to out of its file by *way_out*; count it if that succeeds."""
    is_out = await ctx.ask(way_out)
    if is_out:
        await unaccount_page_cache_page(ctx, page)
    return is_out


@kernel_fn("unaccount_page_cache_page", "mm/filemap.c", profiles="..5.4-fixed")
async def unaccount_page_cache_page(ctx: Context, page: Page) -> None:
    """Pages of files are in no statistics of the model here."""


@kernel_fn("unaccount_page_cache_page", "mm/filemap.c", profiles="6.12..", known_as="filemap_unaccount_folio")
async def filemap_unaccount_folio(ctx: Context, page: Page) -> None:
    await count_folio(ctx, page, page.nid, -1)


# -- freeing, writing and reading pages -------------------------------------------------------------------------------


@kernel_fn("put_page", "include/linux/mm.h")
async def folio_put(ctx: Context, page: Page) -> None:
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
