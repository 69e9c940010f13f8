"""Refaults: a page comes back soon after reclaim has taken it. mm/workingset.c @6.12, @7.2; KERNEL-today 10.6.

Reclaim leaves a shadow entry in the place of a page. The page that comes there next may be another memcg's; the refault
is counted for that one. The distance, by which the kernel decides whether the page is activated, is left out; with it
the memcg of the shadow, which is found by its id, and the LRU list of nodes that have only shadows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.linux.include.rstat import __mod_memcg_lruvec_state
from actors.linux.mm.memcg_folio import folio_memcg
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn

if TYPE_CHECKING:
    from actors.linux.mm.filemap import Page

ITEM = "workingset_refault_file"


@kernel_fn("workingset_refault", "mm/workingset.c", profiles="6.12")
async def workingset_refault(ctx: Context, page: Page) -> None:
    """mod_lruvec_state(): count a refault for the memcg of the page, which the page pins."""
    memcg = await folio_memcg(ctx, page)
    with ctx.irq_section:
        await __mod_memcg_lruvec_state(ctx, memcg, page.nid, ITEM, page.nr_pages)


@kernel_fn("workingset_refault", "mm/workingset.c", profiles="7.2..")
async def workingset_refault_7_2(ctx: Context, page: Page) -> None:
    """fe132152c885: the memcg of the page may be removed meanwhile, so it is used under RCU."""
    with ctx.rcu_read_section:
        memcg = await folio_memcg(ctx, page)
        with ctx.irq_section:
            await __mod_memcg_lruvec_state(ctx, memcg, page.nid, ITEM, page.nr_pages)
