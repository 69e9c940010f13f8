"""Prototypes of include/linux/rcupdate.h: memory that is freed after a grace period, from 6.12 on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.machine.context import Context
from actors.system.actor import Shared
from actors.versions.kernel_fn import extern

if TYPE_CHECKING:
    from actors.linux.mm.kmem_cache import KmemCache, SlabObject


@extern
async def kfree_rcu(ctx: Context, *parts: Shared | None) -> None:
    """Free a struct with the *parts* embedded in it after a grace period, in a batch. KERNEL-today 2.3."""


@extern
async def kfree_rcu_object(ctx: Context, s: KmemCache, obj: SlabObject) -> None:
    """kfree_rcu() of an object of the cache *s*."""


@extern
async def kvfree_rcu_barrier(ctx: Context) -> None:
    """Wait until all memory that was given to kfree_rcu() before this call is freed. KERNEL-today 2.3."""


@extern
async def kvfree_rcu_barrier_on_cache(ctx: Context, s: KmemCache) -> None:
    """Wait until all objects of *s* that were given to kfree_rcu() before this call are freed. KERNEL-7.2 N2.4."""


@extern
async def __kvfree_rcu_barrier(ctx: Context) -> None:
    """The part of the barriers of 7.2 that is about the blocks of kfree_rcu()."""
