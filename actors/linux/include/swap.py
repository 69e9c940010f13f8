"""Prototypes of include/linux/swap.h: reclaim and LRU lists, for mm/memcontrol.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.machine.context import Context
from actors.machine.gfp import Gfp
from actors.versions.kernel_fn import extern

if TYPE_CHECKING:
    from actors.linux.mm.filemap import Page
    from actors.linux.mm.memcontrol import Memcg, MemcgPerNode


@extern
async def try_to_free_mem_cgroup_pages(ctx: Context, memcg: Memcg, nr_pages: int, gfp_mask: Gfp) -> int: ...


@extern
async def lru_reparent_memcg(ctx: Context, node: MemcgPerNode, above: MemcgPerNode) -> None:
    """Give the pages of a memcg's node to its parent; both LRU locks are held. KERNEL-today 11.5, KERNEL-7.2."""


@extern
async def folio_add_lru(ctx: Context, page: Page) -> None:
    """Put a charged page into this CPU's batch, from where it goes to its LRU list. KERNEL-today 10.4."""


@extern
async def lru_add_drain(ctx: Context) -> None:
    """Empty this CPU's batch of pages."""


@extern
async def lru_add_drain_all(ctx: Context) -> None:
    """Empty the batches of all CPUs, and wait until they are empty."""


@extern
async def put_page(ctx: Context, page: Page) -> None:
    """Drop a reference to a page; the last one frees it."""
