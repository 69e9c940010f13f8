"""Prototypes of include/linux/list_lru.h: calls from mm/memcontrol.c into mm/list_lru.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.machine.context import Context
from actors.machine.gfp import Gfp
from actors.versions.kernel_fn import extern

if TYPE_CHECKING:
    from actors.linux.mm.list_lru import ListLru
    from actors.linux.mm.memcontrol import Memcg


@extern
async def memcg_drain_all_list_lrus(ctx: Context, src_idx: int, dst_memcg: Memcg) -> None: ...


@extern
async def memcg_update_all_list_lrus(ctx: Context, num_memcgs: int) -> None: ...


@extern
async def memcg_list_lru_alloc(ctx: Context, memcg: Memcg, lru: ListLru, gfp: Gfp) -> bool:
    """Make the lists of *memcg* and of its ancestors in *lru*, where they are missing; False is -ENOMEM. 6.12 on."""


@extern
async def memcg_reparent_list_lrus(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """Move the items on all LRU lists of *memcg* to its parent's, and free its lists. 6.12 on."""
