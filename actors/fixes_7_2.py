"""Fixes between the first merged form of 7.1 and 7.2, and weaker forms of 7.2's code, for `--without` and `--patch`.

As in `fixes_today`; 7.2 has all these fixes. docs/kernel/known-flaws-today.md has the list.
"""

from __future__ import annotations

from actors.fixes_today import variation
from actors.linux.include.rcupdate import __kvfree_rcu_barrier
from actors.linux.kernel.locking.locks import MutexHeld
from actors.linux.kernel.workqueue import flush_work
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.sheaves import (
    flush_all_cpus_locked_7_2,
    flush_rcu_sheaf,
    flush_rcu_sheaves_on_cache,
    free_nodes,
    queue_flush,
)
from actors.linux.mm.slab_h import get_online_cpus, put_online_cpus
from actors.machine.context import Context
from actors.versions.patching import NamedFix
from actors.versions.profiles import declared_range


def fix(slug: str, commit: str, summary: str) -> NamedFix:
    """Declare a fix that 7.2 has, and that the first merged form of its code has not."""
    return NamedFix(slug, commit, summary, declared_range("7.2.."))


# -- rcu sheaves and the end of caches --------------------------------------------------------------------------------

destroy_without_rcu_barrier = variation(
    "destroy-without-rcu-barrier",
    "kmem_cache_destroy() does not wait for the callbacks of the rcu sheaves that it has given to RCU",
)


@destroy_without_rcu_barrier.puts_in("kvfree_rcu_barrier_on_cache", "mm/slab_common.c", profiles="7.2")
async def flush_sheaves_only(ctx: Context, s: KmemCache) -> None:
    """No rcu_barrier() after the flush."""
    get_online_cpus(ctx)
    await flush_rcu_sheaves_on_cache(ctx, s)
    put_online_cpus(ctx)
    await __kvfree_rcu_barrier(ctx)


@destroy_without_rcu_barrier.puts_in("__kmem_cache_shutdown", "mm/slub.c", profiles="7.2")
async def shutdown_at_once(ctx: Context, s: KmemCache) -> bool:
    """Nor here: this one alone would make up for the other."""
    await flush_all_cpus_locked_7_2(ctx, s)
    return await free_nodes(ctx, s)


barrier_skips_cpus = variation(
    "barrier-skips-cpus", "the flush of the rcu sheaves leaves out a CPU that seems to have none (KERNEL-7.2 N2.4)"
)


@barrier_skips_cpus.puts_in("flush_rcu_sheaves_on_cache", "mm/slub.c", profiles="7.2")
async def flush_where_needed(ctx: Context, s: KmemCache) -> None:
    """A kfree_rcu() that has just taken a full sheaf away has not called call_rcu() yet."""
    async with MutexHeld(ctx, ctx.machine.flush_lock):
        works = [
            await queue_flush(ctx, s, pcs.cpu, flush_rcu_sheaf)
            for pcs in s.cpu_sheaves
            if await ctx.ask(pcs.has_rcu_free)
        ]
        for work in works:
            await flush_work(ctx, work)


FIXES_7_2 = tuple(value for value in list(globals().values()) if isinstance(value, NamedFix))
