"""What is taken together round every change of the set of caches: cpu and memory hotplug, then slab_mutex."""

from __future__ import annotations

import attrs

from actors.kernel.context import Context
from actors.kernel.locks import down_read, mutex_lock, mutex_unlock, up_read

CPU_HOTPLUG_LOCK = "cpu_hotplug_lock"


def get_online_cpus(ctx: Context) -> None:
    """The model has no CPU hotplug, so nobody ever waits here; but lockdep learns the order."""
    ctx.machine.lockdep.acquire(ctx, CPU_HOTPLUG_LOCK, reads=True)


def put_online_cpus(ctx: Context) -> None:
    ctx.machine.lockdep.release(ctx, CPU_HOTPLUG_LOCK)


async def get_online_mems(ctx: Context) -> None:
    """mm/memory_hotplug.c: a memory hotplug writer, even one that still waits, keeps us out."""
    await down_read(ctx, ctx.machine.mem_hotplug_lock)


async def put_online_mems(ctx: Context) -> None:
    await up_read(ctx, ctx.machine.mem_hotplug_lock)


async def memcg_get_cache_ids(ctx: Context) -> None:
    """mm/memcontrol.c: no array of memcgs grows meanwhile."""
    await down_read(ctx, ctx.machine.memcg_cache_ids_sem)


async def memcg_put_cache_ids(ctx: Context) -> None:
    await up_read(ctx, ctx.machine.memcg_cache_ids_sem)


@attrs.define
class SlabMutexHeld:
    """`async with SlabMutexHeld(ctx):` -- get_online_cpus(), get_online_mems() and slab_mutex, released in reverse."""

    ctx: Context

    async def __aenter__(self) -> None:
        get_online_cpus(self.ctx)
        await get_online_mems(self.ctx)
        await mutex_lock(self.ctx, self.ctx.machine.slab_mutex)

    async def __aexit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            await mutex_unlock(self.ctx, self.ctx.machine.slab_mutex)
            await put_online_mems(self.ctx)
            put_online_cpus(self.ctx)
