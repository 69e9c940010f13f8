"""Fixes between the first merged form of 7.1 and 7.2, and weaker forms of 7.2's code, for `--without` and `--patch`.

As in `fixes_today`; 7.2 has all these fixes. docs/kernel/known-flaws-today.md has the list.
"""

from __future__ import annotations

from actors.fixes_today import LIST_LRU, MEMCONTROL, variation
from actors.linux.include.memcontrol import obj_cgroup_alloc
from actors.linux.include.rcupdate import kfree_rcu
from actors.linux.include.shrinker import set_shrinker_bit
from actors.linux.kernel.locking.locks import (
    MutexHeld,
    SpinLockIrqHeld,
    spin_lock_nested,
    spin_unlock,
)
from actors.linux.mm.list_lru import (
    ListLru,
    ListLruMemcgNodes,
    LockedListLruOne,
    LruItem,
    Stored,
    list_lru_from_memcg_idx_7_2,
    lock_list,
    memcg_reparent_list_lru_one,
)
from actors.linux.mm.memcontrol import Memcg, memcg_cache_id, publish_objcg, put_orig_objcg
from actors.machine.context import Context, deref
from actors.versions.patching import NamedFix
from actors.versions.profiles import declared_range


def fix(slug: str, commit: str, summary: str) -> NamedFix:
    """Declare a fix that 7.2 has, and that the first merged form of its code has not."""
    return NamedFix(slug, commit, summary, declared_range("7.2.."))


# -- LRU lists --------------------------------------------------------------------------------------------------------

slot_after_lists = fix(
    "list-lru-slot-first",
    "",
    "the LRU lists of a removed memcg are found until each of them is empty and marked dead",
)


@slot_after_lists.takes_out("memcg_reparent_list_lrus", LIST_LRU, profiles="7.2..")
async def slot_first(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    """As from 6.13 on (KERNEL-today 12.6): a delete may find the parent's list, whose lock does not guard the item."""
    idx = await memcg_cache_id(ctx, memcg)
    async with MutexHeld(ctx, ctx.machine.list_lrus_mutex):
        for lru in ctx.machine.list_lrus:
            async with SpinLockIrqHeld(ctx, lru.xa.xa_lock):
                mlru = await ctx.ask(lru.xa.erase, idx)
            if mlru is not None:
                for nid in range(len(lru.nodes)):
                    await memcg_reparent_list_lru_one(ctx, lru, nid, mlru.locked[nid], parent)
                await kfree_rcu(ctx, *mlru.parts())


bit_of_owner = fix(
    "shrinker-bit-of-dying",
    "",
    "an item that goes to the list of an ancestor sets the bit of that one, not of the memcg that is going",
)


@bit_of_owner.takes_out("list_lru_add_memcg", LIST_LRU, profiles="7.2..", known_as="list_lru_add")
async def add_with_bit_of_call(ctx: Context, lru: ListLru, item: LruItem, nid: int, memcg: Memcg | None) -> bool:
    """As from 6.13 on (KERNEL-today 12.6): no shrinker looks for the item, until another one is added to no items."""
    node = lru.nodes[nid]
    locked, _ = await lock_list(ctx, node, memcg)
    is_new = not await ctx.ask(locked.is_linked, item)
    if is_new:
        if await ctx.ask(locked.add, item):
            await set_shrinker_bit(ctx, memcg, nid, lru.shrinker_id)
        await ctx.ask(node.add_nr_items, 1)
    await spin_unlock(ctx, locked.lock)
    return is_new


child_list_not_dead = variation(
    "child-list-not-dead", "a list whose items were given to the parent is not marked, so it may get new ones"
)


@child_list_not_dead.puts_in("memcg_reparent_list_lru_one", LIST_LRU, profiles="7.2..")
async def reparent_without_mark(
    ctx: Context, lru: ListLru, nid: int, child: LockedListLruOne, dst_memcg: Memcg
) -> None:
    """Whoever has found the list before it was emptied, adds an item to memory that will be freed."""
    async with SpinLockIrqHeld(ctx, child.lock):
        dst_idx = await memcg_cache_id(ctx, dst_memcg)
        found = await list_lru_from_memcg_idx_7_2(ctx, lru.nodes[nid], dst_idx)
        dst = deref(found, "memcg_reparent_list_lru_one(): dst->lock")
        await spin_lock_nested(ctx, dst.lock)
        await ctx.ask(child.splice, child.one, dst.one)
        if await ctx.ask(child.read_count, child.one):
            await ctx.ask(child.move_count, child.one, dst.one)
            await set_shrinker_bit(ctx, dst_memcg, nid, lru.shrinker_id)
        await spin_unlock(ctx, dst.lock)


lists_for_dying = variation("lists-for-dying", "a memcg gets LRU lists though it is being removed")


@lists_for_dying.puts_in("store_if_empty", LIST_LRU, profiles="7.2..", known_as="__memcg_list_lru_alloc")
async def store_for_dying(ctx: Context, lru: ListLru, pos: Memcg, mlru: ListLruMemcgNodes, *, has_node: bool) -> Stored:
    """If its lists were given to the parent already, nobody will take these from it."""
    idx = await memcg_cache_id(ctx, pos)
    async with SpinLockIrqHeld(ctx, lru.xa.xa_lock):
        if await ctx.ask(lru.xa.load, idx) is not None:
            return Stored.NO
        await ctx.ask(lru.xa.store, idx, mlru)
        return Stored.YES


# -- a memcg that cannot go online ------------------------------------------------------------------------------------

online_error_puts_objcg = fix(
    "online-error-leaks-objcg",
    "098fad3e1621",
    "a memcg that cannot go online gives up the obj_cgroups that it has made",
)


@online_error_puts_objcg.takes_out("online_objcgs", MEMCONTROL, profiles="7.2..", known_as="mem_cgroup_css_online")
async def online_and_leak(ctx: Context, memcg: Memcg) -> bool:
    """The first form (KERNEL-today 4.6): only the second references are put, and the pointers stay."""
    for node in memcg.nodeinfo:
        objcg = await obj_cgroup_alloc(ctx, memcg, node.nid)
        if objcg is None:
            for made in memcg.nodeinfo:
                await put_orig_objcg(ctx, made)
            return False
        await publish_objcg(ctx, node, objcg)
    return True


FIXES_7_2 = tuple(value for value in list(globals().values()) if isinstance(value, NamedFix))
