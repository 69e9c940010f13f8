"""cache_reap() takes free objects and slabs from SLAB's caches, little by little. mm/slab.c @5.3.1; KERNEL.md 4.8.

Every two seconds a CPU walks all caches there are, children and zombies alike, with slab_mutex held, if it gets
that at the first try. Nothing else empties the arrays of a deactivated cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from actors.kernel.context import Context
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.kmem_cache import KmemCache, Slab
from actors.kernel.locks import SpinLockIrqHeld, mutex_trylock, mutex_unlock
from actors.kernel.slab import (
    __drain_alien_cache,
    cpu_cache_get,
    drain_array_locked,
    drain_freelist,
    slabs_destroy,
)
from actors.kernel.slab_def import THIS_CPU_ARRAY, ArrayCache, SlabNode
from actors.kernel.workqueue import Work, delayed_work_timer, queue_delayed_work_on
from protocol.operations import UPDATE

if TYPE_CHECKING:
    from actors.kernel.machine import Machine

SECOND = 1_000_000_000
SPREAD = 12_000_000
REAPTIMEOUT_AC = 2 * SECOND
REAPTIMEOUT_NODE = 4 * SECOND


def start_cpu_timer(machine: Machine, cpu: int) -> None:
    """Have cache_reap() run on *cpu*, for the first time a second from now (at boot); CPUs are spread a little."""
    work = Work(machine.cpus[cpu].actor, machine.timer_bases[cpu])
    work.init_work(cache_reap)
    work.pending = True
    timer = delayed_work_timer(cpu, machine.system_wq, work)
    base = machine.timer_bases[cpu]
    base.add_timer(machine.world.now + SECOND + SPREAD * cpu, timer)
    base.reconsider()


@kernel_fn("cache_reap", "mm/slab.c")
async def cache_reap(ctx: Context, work: Work) -> None:
    """Walk all caches, unless somebody else has slab_mutex; and come again, unless the CPU is idle (`is_reaping`)."""
    machine = ctx.machine
    if await mutex_trylock(ctx, machine.slab_mutex):
        started, walked = ctx.world.now, 0
        for cachep in await ctx.ask(machine.slab_caches.list):
            await reap_one(ctx, cachep)
            walked += 1
        machine.reaps.append((started, ctx.world.now, walked))
        await mutex_unlock(ctx, machine.slab_mutex)
    if machine.is_reaping:
        await queue_delayed_work_on(ctx, ctx.smp_processor_id, machine.system_wq, work, REAPTIMEOUT_AC)


async def reap_one(ctx: Context, cachep: KmemCache) -> None:
    """One cache, on this CPU's node: alien arrays, this CPU's array, now and then the shared one and free slabs."""
    n = cachep.slab_node[ctx.numa_node]
    await reap_alien(ctx, cachep, n)
    await drain_array(ctx, cachep, n, lambda: cpu_cache_get(ctx, cachep))
    if n.next_reap > ctx.world.now:
        return
    n.next_reap = ctx.world.now + REAPTIMEOUT_NODE
    await drain_array(ctx, cachep, n, lambda: n.shared)
    n.touch_part("free_touched", UPDATE)
    if n.free_touched:
        n.free_touched = False
    else:
        await drain_freelist(ctx, cachep, n, (n.free_limit + 5 * cachep.objects - 1) // (5 * cachep.objects))


@kernel_fn("reap_alien", "mm/slab.c")
async def reap_alien(ctx: Context, cachep: KmemCache, n: SlabNode) -> None:
    """Send home what has gathered for one other node, if nobody is at it."""
    for alien in n.alien.values():
        if await ctx.ask(alien.array.read_avail) and alien.lock.holder is None:
            async with SpinLockIrqHeld(ctx, alien.lock):
                surplus = await __drain_alien_cache(ctx, cachep, alien)
            await slabs_destroy(ctx, cachep, surplus)


@kernel_fn("drain_array", "mm/slab.c")
async def drain_array(ctx: Context, cachep: KmemCache, n: SlabNode, array: Callable[[], ArrayCache | None]) -> None:
    """An array that was used since the last visit is only marked; otherwise some of its objects go."""
    await ctx.this_cpu(cachep, THIS_CPU_ARRAY)
    ac = array()
    if ac is None or not ac.entries:
        return
    if ac.touched:
        ac.touched = False
        return
    surplus: list[Slab] = []
    async with SpinLockIrqHeld(ctx, n.list_lock):
        surplus = await drain_array_locked(ctx, n, ac, free_all=False)
    await slabs_destroy(ctx, cachep, surplus)
