"""Prototypes of include/linux/cgroup.h and memcontrol.h: statistics by cgroup and CPU, from 6.12 on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.machine.context import Context
from actors.versions.kernel_fn import extern

if TYPE_CHECKING:
    from actors.linux.kernel.cgroup.cgroup import Cgroup
    from actors.linux.mm.memcontrol import Memcg


@extern
async def cgroup_rstat_flush(ctx: Context, cgroup: Cgroup) -> None:
    """Add what the CPUs have counted for the subtree to its totals. KERNEL-today 15.4."""


@extern
async def __mod_memcg_lruvec_state(ctx: Context, memcg: Memcg, nid: int, item: str, nr: int) -> None:
    """Count *nr* of *item* for *memcg*, and for it on node *nid*, on this CPU; IRQs or preemption are off.

    *item* is the name in memory.stat: "slab_reclaimable" and "slab_unreclaimable" are in bytes, "file" in pages.
    """


@extern
async def __mod_memcg_state(ctx: Context, memcg: Memcg, item: str, nr: int) -> None:
    """Count *nr* of *item* ("kernel", in pages) for *memcg* on this CPU; IRQs or preemption are off."""
