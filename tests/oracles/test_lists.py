"""Objects that are freed while they are on a list: the next access to a neighbour on the list reports it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from actors.linux.fs.file_table import fput
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.namei import do_filp_open
from actors.linux.fs.read_write import vfs_write
from actors.machine.context import Context
from actors.machine.list_head import ListEntry, ListHead
from actors.system.actor import Actor
from actors.system.world import World
from protocol.findings import Oops
from protocol.operations import UPDATE
from tests.helpers import make_world
from tests.oracles.mutants import signatures
from tests.vfs.vfs_helpers import Lab, drop, run


@attrs.define(eq=False)
class Thing(ListEntry):
    """An object with a list_head."""

    name: str

    @property
    def label(self) -> str:
        return self.name


def make_list(names: str, world: World | None = None) -> tuple[ListHead[Thing], list[Thing]]:
    """A list of things with these names."""
    actor = Actor(world or make_world()[0], "owner")
    head: ListHead[Thing] = ListHead(Thing(actor, "head"))
    things = [Thing(actor, name) for name in names]
    for thing in things:
        head.list_add_tail(thing)
    return head, things


def free(thing: Thing) -> bool:
    """Free *thing* as kfree() does."""
    thing.freed = "kfree()"
    return thing.free_links()


def names_on(head: ListHead[Thing]) -> str:
    return "".join(thing.name for thing in head)


# -- the list ---------------------------------------------------------------------------------------------------------


def test_a_list_behaves_like_a_linked_list() -> None:
    head, (a, b, c) = make_list("abc")
    other, _ = make_list("xy")

    head.list_add(Thing(a.actor, "0"))
    head.list_move_tail(a)
    assert names_on(head) == "0bca"
    assert [head.list_next_entry(thing) for thing in (b, c, a)] == [c, a, None]
    head.list_splice_init(other)
    assert (names_on(head), names_on(other)) == ("xy0bca", "")
    head.reorder(tuple(sorted(head, key=lambda thing: thing.name)))
    assert "".join(thing.name for thing in head.walk()) == "0abcxy"
    assert (head.list_first_entry(), head.list_last_entry()) == (next(iter(head)), head.take_all()[-1])
    assert not head
    assert not a.on_lists


@pytest.mark.parametrize("wrong", ["list_add_tail", "list_add"])
def test_what_is_on_a_list_cannot_be_added_to_it(wrong: str) -> None:
    head, (a, _) = make_list("ab")

    with pytest.raises(Oops, match="list_add corruption: a"):
        getattr(head, wrong)(a)


def test_what_is_on_no_list_cannot_be_taken_off() -> None:
    head, (a, _) = make_list("ab")
    head.list_del(a)

    with pytest.raises(Oops, match="list_del corruption: a"):
        head.list_del(a)


TOUCHES_B: dict[str, Callable[[ListHead[Thing], list[Thing]], object]] = {
    "delete the one before": lambda head, things: head.list_del(things[0]),
    "delete the one behind": lambda head, things: head.list_del(things[2]),
    "delete it": lambda head, things: head.list_del(things[1]),
    "move the one before": lambda head, things: head.list_move_tail(things[0]),
    "walk": lambda head, _things: head.walk(),
    "go on from it": lambda head, things: head.list_next_entry(things[1]),
    "add it to another list": lambda _head, things: ListHead[Thing]().list_add(things[1]),
}


@pytest.mark.parametrize("touch", TOUCHES_B.values(), ids=TOUCHES_B)
def test_an_access_beside_a_freed_element_uses_it(
    touch: Callable[[ListHead[Thing], list[Thing]], object],
) -> None:
    head, things = make_list("abcd")
    assert free(things[1])

    with pytest.raises(Oops, match="use-after-free in b"):
        touch(head, things)


TOUCHES_AN_END: dict[str, Callable[[ListHead[Thing], Thing], object]] = {
    "add at that end": lambda head, new: head.list_add_tail(new),
    "splice": lambda head, _new: ListHead[Thing]().list_splice_init(head),
    "take all": lambda head, _new: head.take_all(),
}


@pytest.mark.parametrize("touch", TOUCHES_AN_END.values(), ids=TOUCHES_AN_END)
def test_an_access_to_the_end_of_a_list_uses_its_last_element(
    touch: Callable[[ListHead[Thing], Thing], object],
) -> None:
    head, things = make_list("abcd")
    free(things[3])

    with pytest.raises(Oops, match="use-after-free in d"):
        touch(head, Thing(things[0].actor, "new"))


def test_elements_that_are_no_neighbours_can_be_added_and_removed() -> None:
    head, things = make_list("abcd")
    free(things[0])

    head.list_del(things[2])
    head.list_add_tail(Thing(things[0].actor, "e"))
    assert names_on(head) == "abde"


def test_the_free_of_an_element_on_no_list_is_no_finding() -> None:
    head, (a, b, c) = make_list("abc")
    head.list_del(b)

    assert not free(b)
    head.list_del(a)
    assert head.walk() == (c,)


def test_freeing_what_is_on_a_list_is_an_access_to_the_list() -> None:
    """Otherwise an exhaustive search would not try the free before and after the other flows' list operations."""
    world, _ = make_world()
    head, (a, b) = make_list("ab", world)
    head.list_del(b)
    seen: list[object] = []
    world.on_touch = seen.append

    free(a)
    free(b)

    assert seen == [((a, "list_head"), UPDATE), (head.owner, UPDATE), ((b, "list_head"), UPDATE)]


# -- the kernel's lists -----------------------------------------------------------------------------------------------

RELEASED_FIRST = '''
"""mm/slab_common.c: shutdown_cache() frees the cache before it takes it off slab_caches."""

from actors.api import kernel_fn
from actors.linux.mm.slab_common import memcg_unlink_cache, release_cache
from actors.linux.mm.slub import __kmem_cache_shutdown
from actors.linux.mm.slub_sysfs import sysfs_slab_unlink


@kernel_fn("shutdown_cache", "mm/slab_common.c")
async def shutdown(ctx, s):
    if await __kmem_cache_shutdown(ctx, s):
        return True
    await memcg_unlink_cache(ctx, s)
    if ctx.machine.slab_supports_sysfs:
        await sysfs_slab_unlink(ctx, s)
    await release_cache(ctx, s)
    await ctx.ask(ctx.machine.slab_caches.delete, s)
    return False
'''
STAYS_ON_SLAB_CACHES = RELEASED_FIRST.replace("    await ctx.ask(ctx.machine.slab_caches.delete, s)\n", "")

CSS_STAYS = '''
"""kernel/cgroup/cgroup.c: css_release_work_fn() does not take the css off its parent's list."""

from actors.linux.kernel.cgroup.cgroup import CssFlags, css_free_rwork_fn, css_of
from actors.linux.kernel.locking.locks import MutexHeld
from actors.api import kernel_fn
from actors.linux.kernel.workqueue import queue_rcu_work


@kernel_fn("css_release_work_fn", "kernel/cgroup/cgroup.c")
async def release(ctx, work):
    css = css_of(work.container)
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        await ctx.ask(css.set_flags, CssFlags.RELEASED)
        if css.memcg is None:
            await ctx.ask(ctx.machine.cgroup_tree.forget, css.cgroup)
        else:
            await ctx.machine.memory_cgrp_subsys.css_released(ctx, css.memcg)
    css.destroy_rwork.work.init_work(css_free_rwork_fn)
    await queue_rcu_work(ctx, css.destroy_rwork)
'''

SLAB_STAYS = '''
"""mm/slub.c: an empty slab beyond min_partial is given back, and stays on the node's list."""

from actors.linux.kernel.locking.locks import spin_unlock_irqrestore
from actors.api import kernel_fn
from actors.linux.mm.slub import discard_slab, __kmem_cache_shrink
from actors.linux.kernel.locking.locks import SpinLockIrqHeld


@kernel_fn("free_partial", "mm/slub.c")
async def free_partial(ctx, s, n):
    discard = []
    async with SpinLockIrqHeld(ctx, n.list_lock):
        for slab in await ctx.ask(n.list_partial):
            if not (await ctx.ask(slab.read_counters)).inuse:
                discard.append(slab)
    for slab in discard:
        await discard_slab(ctx, s, slab)
'''

INODE_STAYS = '''
"""fs/inode.c: evict() leaves the inode on the superblock's list of all inodes."""

from actors.linux.fs.inode import destroy_inode
from actors.linux.include.fs import inode_io_list_del
from actors.linux.kernel.locking.locks import SpinLockHeld
from actors.api import kernel_fn


@kernel_fn("evict", "fs/inode.c")
async def evict(ctx, inode):
    if await ctx.ask(inode.i_sb.is_dirty_inode, inode):
        await inode_io_list_del(ctx, inode)
    await ctx.ask(inode.wait_for_writeback)
    await inode.i_sb.s_type.evict_inode(ctx, inode)
    async with SpinLockHeld(ctx, ctx.machine.vfs.inode_hash_lock):
        await ctx.ask(inode.i_sb.unhash_inode, inode)
    await destroy_inode(ctx, inode)
'''

DENTRY_STAYS = '''
"""fs/dcache.c: __dentry_kill() leaves the dentry among its parent's children."""

from actors.linux.fs.dcache import LRU_LIST, MAY_FREE, SHRINK_LIST, d_lru_del, dentry_free, dentry_unlink_inode
from actors.linux.kernel.locking.locks import SpinLockHeld, spin_unlock
from actors.api import kernel_fn


@kernel_fn("__dentry_kill", "fs/dcache.c")
async def kill(ctx, dentry):
    await ctx.ask(dentry.d_lockref.mark_dead)
    flags = await ctx.ask(dentry.read_flags)
    if LRU_LIST in flags and SHRINK_LIST not in flags:
        await d_lru_del(ctx, dentry)
    await ctx.ask(dentry.d_sb.unhash_dentry, dentry)
    if dentry.d_parent is not None:
        await spin_unlock(ctx, dentry.d_parent.d_lockref)
    if await ctx.ask(dentry.read_inode) is not None:
        await dentry_unlink_inode(ctx, dentry)
    else:
        await spin_unlock(ctx, dentry.d_lockref)
    async with SpinLockHeld(ctx, dentry.d_lockref):
        can_free = SHRINK_LIST not in await ctx.ask(dentry.read_flags)
        if not can_free:
            await ctx.ask(dentry.set_flags, MAY_FREE)
    if can_free:
        await dentry_free(ctx, dentry)
'''
DENTRY_STAYS_ON_LRU = '''
"""fs/dcache.c: d_lru_del() forgets to take the dentry off the LRU."""

from actors.linux.fs.dcache import LRU_LIST
from actors.api import kernel_fn


@kernel_fn("d_lru_del", "fs/dcache.c")
async def delete(ctx, dentry):
    await ctx.ask(dentry.clear_flags, LRU_LIST)
'''

PAGE_STAYS = '''
"""mm/swap.c: __put_page() leaves the page on the LRU list of its memcg."""

from actors.linux.mm.memcontrol import uncharge_page
from actors.api import kernel_fn


@kernel_fn("__put_page", "mm/swap.c")
async def free(ctx, page):
    await uncharge_page(ctx, page)
'''

MUTANTS = {
    "cache freed first": (RELEASED_FIRST, "offline-vs-exit", "slub", "use-after-free:KmemCache:shutdown_cache"),
    "cache freed first, SLAB": (RELEASED_FIRST, "nested", "slab", "use-after-free:KmemCache:shutdown_cache"),
    "cache stays on slab_caches": (STAYS_ON_SLAB_CACHES, "offline-vs-exit", "slub", "invariant:list:"),
    "css stays on its parent's list": (CSS_STAYS, "rmdir-empty", "slub", "invariant:list:"),
    "slab stays on the node's list": (SLAB_STAYS, "free-vs-destroy", "slub", "invariant:list:"),
    "inode stays on s_inodes": (
        INODE_STAYS,
        "dentries-vs-rmdir",
        "slub",
        "use-after-free:SpinLock:drop_pagecache_sb",
    ),
    "dentry stays on d_subdirs": (DENTRY_STAYS, "dentries-vs-rmdir", "slub", "invariant:list:"),
    "dentry stays on the LRU": (
        DENTRY_STAYS_ON_LRU,
        "traced-rmdir-idle",
        "slub",
        "use-after-free:Dentry:list_lru_add",
    ),
}


@pytest.mark.parametrize(("source", "scenario", "allocator", "signature"), MUTANTS.values(), ids=MUTANTS)
def test_a_kernel_that_frees_what_is_on_a_list_is_found(
    tmp_path: Path, source: str, scenario: str, allocator: str, signature: str
) -> None:
    patch = tmp_path / "mutant.py"
    patch.write_text(source)
    kernel = "5.3" if scenario.startswith("traced") else "5.4-fixed"

    assert signature in signatures(scenario, patch, kernel=kernel, allocator=allocator)
    assert signature not in signatures(scenario, None, kernel=kernel, allocator=allocator)


def test_a_work_that_is_freed_while_it_is_queued_is_found_by_the_worker() -> None:
    found = signatures("offline-vs-destroy", None, kernel="original", without="destroy-vs-deferred-deactivation")

    assert "use-after-free:Work:worker_thread" in found


def test_a_page_that_is_freed_while_it_is_on_the_lru_is_in_a_bad_state(tmp_path: Path) -> None:
    patch = tmp_path / "mutant.py"
    patch.write_text(PAGE_STAYS)

    async def story(ctx: Context, lab: Lab) -> None:
        file = await do_filp_open(ctx, lab.ext4.root, "a", creat=True)
        assert file is not None
        await vfs_write(ctx, file, 2)
        await sync_inodes_sb(ctx, lab.ext4)
        await fput(ctx, file)
        await drop(ctx, 1)

    bad = "warn:Bad page state: PAGE_FLAGS_CHECK_AT_FREE flag(s) set (lru):uncharge_page"
    assert run(story, patch=patch).signatures() == ["invariant:page LRU:", bad]
    assert not run(story).signatures()
