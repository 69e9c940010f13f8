"""Prototypes of include/linux/swap.h: reclaim and LRU lists, for mm/memcontrol.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.machine.context import Context
from actors.machine.gfp import Gfp
from actors.versions.kernel_fn import extern

if TYPE_CHECKING:
    from actors.linux.mm.memcontrol import Memcg, MemcgPerNode


@extern
async def try_to_free_mem_cgroup_pages(ctx: Context, memcg: Memcg, nr_pages: int, gfp_mask: Gfp) -> int: ...


@extern
async def lru_reparent_memcg(ctx: Context, node: MemcgPerNode, above: MemcgPerNode) -> None:
    """Give the pages of a memcg's node to its parent; both LRU locks are held. KERNEL-today 11.5, KERNEL-7.2."""
