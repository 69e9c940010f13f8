"""The LRU list of each item: at quiescence an oracle finds a kernel that leaves an item on a wrong list."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.machine.context import Context
from actors.versions.profiles import ALLOCATORS
from explorer.search.strategies.simple import RandomWalk
from protocol.vocabulary import PROFILES
from scenarios.stage import mkdir, rmdir
from tests.oracles.mutants import signatures
from tests.vfs.vfs_helpers import (
    SOUND,
    Lab,
    Story,
    in_cgroup,
    list_of,
    memcg,
    removed,
    run,
    run_all,
    shrinking,
    signatures_of,
    stormy,
)

PLACE = "invariant:LRU list:"

DRAINED = '''
"""mm/list_lru.c: memcg_drain_all_list_lrus() does {what}."""

from actors.linux.mm.list_lru import memcg_drain_list_lru_node
from actors.linux.kernel.locking.locks import MutexHeld
from actors.api import kernel_fn


@kernel_fn("memcg_drain_all_list_lrus", "mm/list_lru.c")
async def drain(ctx, src_idx, dst_memcg):
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        for lru in ctx.machine.list_lrus:
            for node in lru.nodes:
                {how}
'''
TO_GRANDPARENT = DRAINED.format(
    what="goes one level too far",
    how="await memcg_drain_list_lru_node(ctx, lru, node, src_idx, dst_memcg.parent or dst_memcg)",
)
NOT_AT_ALL = DRAINED.format(what="nothing", how="pass")
BY_ROOT_CACHE = '''
"""mm/list_lru.c: mem_cgroup_from_kmem() finds a memcg for nothing, as v1 to v5 did."""

from actors.api import kernel_fn


@kernel_fn("mem_cgroup_from_kmem", "mm/list_lru.c")
async def nobody(ctx, item):
    return None
'''
THIS_NODE = '''
"""mm/list_lru.c: list_lru_add() takes the node of the CPU for that of the memory."""

from actors.linux.mm.list_lru import list_lru_from_kmem
from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.api import kernel_fn


@kernel_fn("list_lru_add", "mm/list_lru.c")
async def add(ctx, lru, item):
    node = lru.nodes[(item.obj.slab.nid + 1) % 2]
    async with SpinLockHeld(ctx, node.lock):
        if await ctx.ask(node.is_linked, item):
            return False
        one, _ = await list_lru_from_kmem(ctx, node, item)
        await ctx.ask(node.add, item, one)
        return True
'''
MUTANTS = {
    "to the grandparent": (TO_GRANDPARENT, {PLACE}, {}),
    "nowhere": (NOT_AT_ALL, {PLACE}, {}),
    "all on the global list": (BY_ROOT_CACHE, {PLACE}, {}),
    "another node": (THIS_NODE, {PLACE}, {"nodes": 2}),
}


def family(*, removes_parent: bool) -> Story:
    """Remove a child cgroup with files; with *removes_parent* remove its parent too."""

    async def story(ctx: Context, lab: Lab) -> None:
        parent = await mkdir(ctx, lab.machine.root_cgroup, "parent")
        child = await mkdir(ctx, parent, "child")
        await in_cgroup(ctx, lab, child, "c1", "c2")
        await removed(ctx, child)
        await ctx.settle()
        if removes_parent:
            await rmdir(ctx, parent)

    return story


@pytest.mark.parametrize("removes_parent", [False, True])
@pytest.mark.parametrize(("source", "expected", "machine"), MUTANTS.values(), ids=MUTANTS)
def test_an_item_on_the_wrong_list_is_found(
    tmp_path: Path, source: str, expected: set[str], machine: dict[str, int], *, removes_parent: bool
) -> None:
    """The check at quiescence finds it even if the list moves to the right memcg, or to none, before the end."""
    patch = tmp_path / "mutant.py"
    patch.write_text(source)
    lab = run(family(removes_parent=removes_parent), kernel="5.4-fixed", patch=patch, **machine)

    assert expected <= set(lab.signatures())


@pytest.mark.parametrize("removes_parent", [False, True])
@pytest.mark.parametrize("kernel", [kernel for kernel in PROFILES if kernel not in ("v3", "v4")])
def test_no_version_puts_items_onto_the_wrong_list(kernel: str, *, removes_parent: bool) -> None:
    lab = run(family(removes_parent=removes_parent), kernel=kernel, nodes=2)

    assert not [name for name in lab.signatures() if name.startswith((PLACE, "invariant:Q8:"))]


@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("kernel", SOUND)
def test_random_histories_leave_every_item_in_its_place(kernel: str, allocator: str) -> None:
    """Files are used in nested cgroups that are made and removed, while shrinkers of all kinds run."""
    runs = [
        run_all(stormy(8), stormy(8), shrinking(3), kernel=kernel, allocator=allocator, strategy=RandomWalk(seed))
        for seed in range(10)
    ]

    assert not {PLACE, "invariant:Q8:"} & signatures_of(runs).keys()


def test_a_count_that_is_off_is_found_at_rest_though_it_is_right_in_the_end() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        cgroup = await mkdir(ctx, lab.machine.root_cgroup, "job")
        await in_cgroup(ctx, lab, cgroup, "a")
        one = list_of(lab.ext4, memcg(cgroup))
        one.nr_items += 1
        await ctx.settle()
        one.nr_items -= 1

    assert run(story, kernel="5.4-fixed").signatures() == ["invariant:Q8:"]


def test_a_stage_shows_lists_that_go_too_far(tmp_path: Path) -> None:
    """`lru-add-vs-rmdir` has a parent that stays until the race is over."""
    patch = tmp_path / "mutant.py"
    patch.write_text(TO_GRANDPARENT)

    assert PLACE in signatures("lru-add-vs-rmdir", patch, schedules=1)
    assert PLACE not in signatures("lru-add-vs-rmdir", None, schedules=5)
