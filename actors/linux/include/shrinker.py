"""Prototypes of include/linux/memcontrol.h: mm/shrinker.c for mm/memcontrol.c and mm/list_lru.c, from 6.12 on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.machine.context import Context
from actors.versions.kernel_fn import extern

if TYPE_CHECKING:
    from actors.linux.mm.memcontrol import Memcg


@extern
async def alloc_shrinker_info(ctx: Context, memcg: Memcg) -> bool:
    """Make the map of shrinkers of *memcg* on each node; False is -ENOMEM. KERNEL-today 13.1."""


@extern
async def free_shrinker_info(ctx: Context, memcg: Memcg) -> None:
    """Free these maps with the memcg."""


@extern
async def reparent_shrinker_deferred(ctx: Context, memcg: Memcg) -> None:
    """Give the deferred work of all shrinkers on *memcg* to its parent. KERNEL-today 13.4."""


@extern
async def set_shrinker_bit(ctx: Context, memcg: Memcg | None, nid: int, shrinker_id: int) -> None:
    """Mark that the shrinker may find objects of *memcg* on a node. KERNEL-today 13.2."""
