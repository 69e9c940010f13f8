"""Migration of pages to another node. mm/migrate.c @6.12, @7.2; KERNEL-today 11.10, KERNEL-7.2 N6.6.

The old page is isolated and has no users, the new one is nobody's yet. The charge goes with the contents.
"""

from __future__ import annotations

from actors.linux.include.swap import folio_add_lru, put_page
from actors.linux.mm.filemap import MAPPING_AND_CALLER, Page, count_folio
from actors.linux.mm.memcg_folio import mem_cgroup_migrate
from actors.linux.mm.page_alloc import __free_pages, alloc_pages
from actors.linux.mm.vmscan import folio_isolate_lru, folio_putback_lru
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL
from actors.versions.kernel_fn import kernel_fn


@kernel_fn("migrate_misplaced_folio", "mm/migrate.c", profiles="6.12..")
async def migrate_misplaced_folio(ctx: Context, page: Page, nid: int) -> bool:
    """Move a page to node *nid*; False if somebody has isolated it, or uses it. The caller's reference goes."""
    is_isolated = await folio_isolate_lru(ctx, page)
    await put_page(ctx, page)
    return is_isolated and await unmap_and_move(ctx, page, nid)


@kernel_fn("unmap_and_move", "mm/migrate.c", profiles="6.12..", known_as="migrate_folio_unmap")
async def unmap_and_move(ctx: Context, page: Page, nid: int) -> bool:
    """Replace an isolated page by a new one in its file; a page with other users is put back."""
    if page.mapping is None or not await alloc_pages(ctx, GFP_KERNEL, page.nr_pages):
        await folio_putback_lru(ctx, page)
        return False
    new = Page(page.actor, page.index, nid, None, None, page.is_dirty, nr_pages=page.nr_pages)
    new.lru, new.is_of_file = page.lru, page.is_of_file
    if not await folio_migrate_mapping(ctx, page, new):
        await __free_pages(ctx, page.nr_pages)
        await folio_putback_lru(ctx, page)
        return False
    await mem_cgroup_migrate(ctx, page, new)
    await folio_add_lru(ctx, new)
    await put_page(ctx, new)
    await put_page(ctx, page)
    return True


@kernel_fn("folio_migrate_mapping", "mm/migrate.c", profiles="6.12..")
async def folio_migrate_mapping(ctx: Context, page: Page, new: Page) -> bool:
    """Put *new* in the place of *page*, under the lock of the mapping, if only the mapping and the caller hold it.

    The memcg of the old page, which still has the charge, counts it on the other node from now on.
    """
    is_replaced = await ctx.ask(page.replace_in_mapping, new, MAPPING_AND_CALLER)
    if is_replaced and new.nid != page.nid:
        await count_folio(ctx, page, page.nid, -1)
        await count_folio(ctx, page, new.nid, 1)
    return is_replaced
