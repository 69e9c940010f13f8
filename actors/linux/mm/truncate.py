"""Removal of pages from the page cache, with their file or on request. mm/truncate.c @5.3.1, @6.12."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.linux.include.swap import lru_add_drain, put_page
from actors.linux.lib.xarray import xas_delete_node
from actors.linux.mm.filemap import take_out
from actors.linux.mm.swap import __put_page
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn

if TYPE_CHECKING:
    from actors.linux.fs.inode import Inode
    from actors.linux.mm.filemap import Page


@kernel_fn("invalidate_mapping_pages", "mm/truncate.c")
async def invalidate_mapping_pages(ctx: Context, inode: Inode) -> int:
    """Remove the pages that are clean and unused; return their number."""
    invalidated = 0
    for page in await ctx.ask(inode.list_pages):
        if not await ctx.ask(page.get):
            continue
        invalidated += await take_out(ctx, page, page.remove_mapping)
        await put_page(ctx, page)
    return invalidated


@kernel_fn("truncate_inode_pages_final", "mm/truncate.c")
async def truncate_inode_pages_final(ctx: Context, inode: Inode) -> None:
    """Remove all pages of a file that is being deleted. Reclaim frees the pages that it has isolated."""
    for page in await ctx.ask(inode.list_pages):
        await truncate_inode_page(ctx, inode, page)
    await lru_add_drain(ctx)  # by __pagevec_release(), or __folio_batch_release()


@kernel_fn("truncate_inode_page", "mm/truncate.c", profiles="..5.4-fixed")
async def truncate_inode_page(ctx: Context, inode: Inode, page: Page) -> None:
    """Take a page out of its file even if it is in use, and free it if it is not."""
    if await ctx.ask(page.truncate):
        await __put_page(ctx, page)


@kernel_fn("truncate_inode_page", "mm/truncate.c", profiles="6.12..", known_as="truncate_inode_folio")
async def truncate_inode_folio(ctx: Context, inode: Inode, page: Page) -> None:
    """The same with a reference, for the page is counted after it is taken out. An empty node of the file goes, too."""
    if await ctx.ask(page.get):
        await take_out(ctx, page, page.leave_mapping)
        if inode.nodes:
            await xas_delete_node(ctx, inode, page.index)
        await put_page(ctx, page)
