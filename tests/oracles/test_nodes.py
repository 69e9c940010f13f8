"""A kmem_cache_node has only memory of its own node: the slabs on its lists and the objects in its shared array."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.linux.include.slab import kmem_cache_free
from actors.linux.mm.kmem_cache import SlabObject
from actors.machine.context import Context
from actors.versions.profiles import ALLOCATORS
from scenarios.registry import MACHINE, scenario
from scenarios.stage import Stage, fill, small_cache, warm_up
from tests.oracles.mutants import signatures

PARTIAL = '''
"""mm/slub.c: unfreeze_partials() puts all slabs onto the list of this CPU's node."""

from actors.linux.kernel.locking.locks import spin_lock, spin_unlock
from actors.api import kernel_fn
from actors.linux.mm.slub import unfreeze


@kernel_fn("unfreeze_partials", "mm/slub.c")
async def unfreeze_all(ctx, s, c):
    n = s.node[ctx.numa_node]
    await spin_lock(ctx, n.list_lock)
    while c.partial:
        slab = c.partial.pop()
        await unfreeze(ctx, slab)
        await ctx.ask(n.add_partial, slab, tail=True)
    await spin_unlock(ctx, n.list_lock)
'''
GROWN = '''
"""mm/slab.c: cache_grow_end() puts a new slab onto the lists of the last node."""

from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.api import kernel_fn


@kernel_fn("cache_grow_end", "mm/slab.c")
async def grow(ctx, cachep, slab):
    n = cachep.slab_node[-1]
    async with SpinLockHeld(ctx, n.list_lock):
        await ctx.ask(n.add_slab, slab)
'''
NO_ALIENS = '''
"""mm/slab.c: cache_free_alien() takes every object for one of this node."""

from actors.api import kernel_fn


@kernel_fn("cache_free_alien", "mm/slab.c")
async def free_alien(ctx, cachep, obj):
    return False
'''
MUTANTS = {
    "partial slabs of all nodes on one list": ("slub", PARTIAL, {"unfreeze_partials"}),
    "new slabs on another node's list": ("slab", GROWN, {"cache_grow_end"}),
    "objects of another node in the arrays": ("slab", NO_ALIENS, {"cache_flusharray"}),
}


def free_elsewhere(stage: Stage) -> None:
    """Free objects of the first node on a CPU of the last one, more of them than its arrays hold."""
    machine = stage.boot(caches=[small_cache("alpha", objects=2)])
    root = machine.root_cache("alpha")
    kept: list[SlabObject] = []

    async def fill_slabs(ctx: Context) -> None:
        await warm_up(ctx, stage.session, root)
        kept.extend(await fill(ctx, stage.session, root, 60))

    async def free(ctx: Context) -> None:
        for obj in kept[::2] + kept[1:10:2]:
            await kmem_cache_free(ctx, root, obj)

    stage.set_up(fill_slabs)
    stage.task("free", free, cpu=-1)


STAGE = scenario("free-elsewhere", "objects are freed on another node", *MACHINE)(free_elsewhere)


@pytest.mark.parametrize(("allocator", "source", "functions"), MUTANTS.values(), ids=MUTANTS)
def test_a_kernel_that_mixes_nodes_up_is_found(
    tmp_path: Path, allocator: str, source: str, functions: set[str]
) -> None:
    patch = tmp_path / "mutant.py"
    patch.write_text(source)
    found = signatures(STAGE, patch, allocator=allocator, settings={"nodes": "2"}, schedules=2)

    assert {f"invariant:node:{function}" for function in functions} <= found


@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("kernel", ["original", "v1", "5.3", "5.4-fixed"])
def test_a_released_kernel_does_not_mix_nodes_up(kernel: str, allocator: str) -> None:
    found = signatures(STAGE, None, kernel=kernel, allocator=allocator, settings={"nodes": "2"}, schedules=10)

    assert not [name for name in found if name.startswith("invariant:node")]
