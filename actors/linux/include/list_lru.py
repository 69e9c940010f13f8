"""Prototypes of include/linux/list_lru.h: calls from mm/memcontrol.c into mm/list_lru.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.machine.context import Context
from actors.versions.kernel_fn import extern

if TYPE_CHECKING:
    from actors.linux.mm.memcontrol import Memcg


@extern
async def memcg_drain_all_list_lrus(ctx: Context, src_idx: int, dst_memcg: Memcg) -> None: ...


@extern
async def memcg_update_all_list_lrus(ctx: Context, num_memcgs: int) -> None: ...
