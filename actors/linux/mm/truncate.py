"""Removal of pages from the page cache, with their file or on request. mm/truncate.c @5.3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.linux.include.swap import lru_add_drain, put_page
from actors.linux.mm.filemap import take_out, truncate_folio
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn

if TYPE_CHECKING:
    from actors.linux.fs.inode import Inode


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
        await truncate_folio(ctx, inode, page)
    await lru_add_drain(ctx)  # by __pagevec_release(), or __folio_batch_release()
