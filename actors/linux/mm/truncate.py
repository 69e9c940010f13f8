"""Removal of pages from the page cache, with their file or on request. mm/truncate.c @5.3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.linux.include.swap import lru_add_drain, put_page
from actors.linux.lib.xarray import xas_delete_node
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
        invalidated += await ctx.ask(page.remove_mapping)
        await put_page(ctx, page)
    return invalidated


@kernel_fn("truncate_inode_pages_final", "mm/truncate.c")
async def truncate_inode_pages_final(ctx: Context, inode: Inode) -> None:
    """Remove all pages of a file that is being deleted. Reclaim frees the pages that it has isolated."""
    for page in await ctx.ask(inode.list_pages):
        await truncate_page(ctx, inode, page)
    await release_batch(ctx)


async def truncate_page(ctx: Context, inode: Inode, page: Page) -> None:
    """Take a page out of its file, in use or not. From 6.12 on an empty node of the file goes, too."""
    is_last = await ctx.ask(page.truncate)
    if inode.nodes:
        await xas_delete_node(ctx, inode, page.index)
    if is_last:
        await __put_page(ctx, page)


async def release_batch(ctx: Context) -> None:
    """[6.12] __folio_batch_release(), after pages were taken out of a file: none waits in a batch of this CPU."""
    if ctx.machine.is_without_child_caches:
        await lru_add_drain(ctx)
