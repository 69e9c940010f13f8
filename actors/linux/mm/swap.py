"""References to pages of the page cache, and LRU lists. mm/swap.c @5.3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.linux.mm.memcontrol import MemcgPerNode, uncharge_page
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn

if TYPE_CHECKING:
    from actors.linux.mm.filemap import Page


@kernel_fn("lru_cache_add", "mm/swap.c")
async def lru_cache_add(ctx: Context, page: Page) -> None:
    """Put the page on its LRU list, where reclaim finds it; the kernel's per-CPU pagevecs are left out."""
    await ctx.ask(page.memcg.add_to_lru, page)


@kernel_fn("__put_page", "mm/swap.c")
async def __put_page(ctx: Context, page: Page) -> None:
    """The last reference is dropped: take the page off the LRU list, uncharge and free it."""
    await ctx.ask(page.memcg.delete_from_lru, page)
    await uncharge_page(ctx, page)


@kernel_fn("lru_reparent_memcg", "mm/swap.c", profiles="7.2..")
async def lru_reparent_memcg(ctx: Context, node: MemcgPerNode, above: MemcgPerNode) -> None:
    """KERNEL-today 11.5, KERNEL-7.2: move list and size to the parent, whatever the number of pages."""
    lruvec, parent = node.lruvec, above.lruvec
    await ctx.ask(parent.splice_tail, await ctx.ask(lruvec.take_all))
    nr_pages = await ctx.ask(lruvec.read_size)
    if nr_pages:
        await ctx.ask(parent.add_size, nr_pages)
        await ctx.ask(lruvec.add_size, -nr_pages)
