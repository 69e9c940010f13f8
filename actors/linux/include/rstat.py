"""Prototypes of include/linux/cgroup.h and memcontrol.h: statistics by cgroup and CPU, from 6.12 on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.machine.context import Context
from actors.versions.kernel_fn import extern

if TYPE_CHECKING:
    from actors.linux.kernel.cgroup.cgroup import Cgroup, Css
    from actors.linux.mm.memcontrol import Memcg


@extern
async def cgroup_rstat_updated(ctx: Context, cgroup: Cgroup, cpu: int) -> None:
    """Note that *cpu* has counted something for *cgroup*, in 6.12. KERNEL-today 15.2."""


@extern
async def cgroup_rstat_flush(ctx: Context, cgroup: Cgroup) -> None:
    """Add what the CPUs have counted for the subtree to its totals, in 6.12. KERNEL-today 15.4."""


@extern
async def css_rstat_updated(ctx: Context, css: Css, cpu: int) -> None:
    """Note that *cpu* has counted something for *css*, from 7.2 on. KERNEL-7.2 N4.1."""


@extern
async def css_rstat_flush(ctx: Context, css: Css) -> None:
    """Add what the CPUs have counted for the subtree of *css* to its totals, from 7.2 on. KERNEL-7.2 N4.3."""


@extern
async def mem_cgroup_css_rstat_flush(ctx: Context, css: Css, cpu: int) -> None:
    """Add what *cpu* has counted for the memcg of *css* to its totals. KERNEL-today 15.4."""


@extern
async def mem_cgroup_flush_stats(ctx: Context, memcg: Memcg) -> None:
    """Flush the subtree of *memcg* if enough has changed since the last flush. KERNEL-today 15.3."""


@extern
async def __mod_memcg_lruvec_state(ctx: Context, memcg: Memcg, nid: int, item: str, nr: int) -> None:
    """Count *nr* of *item* for *memcg*, and for it on node *nid*, on this CPU; IRQs or preemption are off.

    *item* is the name in memory.stat: "slab_reclaimable" and "slab_unreclaimable" are in bytes, "file" in pages.
    """


@extern
async def __mod_memcg_state(ctx: Context, memcg: Memcg, item: str, nr: int) -> None:
    """Count *nr* of *item* ("kernel", in pages) for *memcg* on this CPU; IRQs or preemption are off."""
