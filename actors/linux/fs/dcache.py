"""The dentry cache: lookups, the LRU, dput() and the end of dentries, shrink lists, d_walk(). fs/dcache.c @5.3.1.

KERNEL.md 11.5 and 11.7. When its last reference is dropped, a dentry stays on the LRU of its superblock, if it is
hashed and the filesystem allows it. If it is on the LRU already, it gets the REFERENCED flag. A shrinker's walk clears
the flag at the first visit and takes the dentry at the second. A dentry that must not stay is killed by the last
dput(), which then drops the reference to its parent.

Lock order: the inode's i_lock, the parent's d_lock, the dentry's d_lock, the LRU's lock. Code that holds a lower lock
only tries to take a higher one. If that fails, it drops its locks and starts again. A walk marks the dentries that it
takes with SHRINK_LIST and frees them itself, even if another execution context has killed them.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

from actors.linux.fs.inode import Inode, iput
from actors.linux.include.slab import kmem_cache_alloc, kmem_cache_alloc_lru, kmem_cache_free
from actors.linux.kernel.locking.locks import (
    SpinLockHeld,
    spin_lock,
    spin_lock_nested,
    spin_trylock,
    spin_unlock,
)
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.linux.lib.lockref import Lockref, lockref_get, lockref_put_or_lock
from actors.linux.mm.kmem_cache import SlabObject
from actors.linux.mm.list_lru import (
    ListLruWalk,
    LruItem,
    LruList,
    LruStatus,
    list_lru_add,
    list_lru_count_node,
    list_lru_del,
    list_lru_walk_node,
    list_lru_walk_one,
)
from actors.machine.context import WARN_ON, Context, deref
from actors.machine.list_head import ListEntry, ListHead
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.fs.super import SuperBlock
    from actors.linux.mm.vmscan import ShrinkControl

SHRINK_DCACHE_BATCH = 1024


# -- structures -------------------------------------------------------------------------------------------------------
# include/linux/dcache.h @5.3.1; the lockref is in lib/lockref.py.


class DentryFlags(enum.Flag):
    """The DCACHE_ flags.

    LRU_LIST: on the superblock's LRU, or on a shrink list. SHRINK_LIST: on a shrink list, whose owner frees the
    dentry. MAY_FREE: the dentry has been killed, so the owner of the shrink list must free it.
    """

    NONE = 0
    REFERENCED = enum.auto()
    LRU_LIST = enum.auto()
    SHRINK_LIST = enum.auto()
    MAY_FREE = enum.auto()


@attrs.define(eq=False)
class Dentry(ListEntry):
    """struct dentry: a name in its parent, and the inode that it names (None: negative, there is no such file).

    It holds a reference to its parent and one to its inode. `d_subdirs` are its children, hashed or not. All of this
    is changed with d_lock held. `is_hashed`: a lookup can find the dentry; the superblock changes this field.
    """

    d_sb: SuperBlock
    d_parent: Dentry | None
    d_name: str
    obj: SlabObject
    d_lockref: Lockref = attrs.field(init=False)
    d_inode: Inode | None = attrs.field(default=None, init=False)
    d_flags: DentryFlags = attrs.field(default=DentryFlags.NONE, init=False)
    d_lru: LruItem = attrs.field(init=False)
    d_rcu: RcuHead = attrs.field(init=False)
    d_subdirs: ListHead[Dentry] = attrs.field(init=False)
    is_hashed: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.d_lockref = Lockref(self.actor, "&dentry->d_lockref.lock")
        self.d_lru = LruItem(self, self.obj)
        self.d_subdirs = ListHead(self)
        self.d_rcu = RcuHead(self)

    @property
    def label(self) -> str:
        return f"dentry {self.d_name} of {self.d_sb.s_id}"

    @operation(READ)
    def read_flags(self) -> DentryFlags:
        return self.d_flags

    @operation(UPDATE, lifecycle=True)
    def set_flags(self, flags: DentryFlags) -> DentryFlags:
        """Set flags; return the old flags."""
        self.d_lockref.assert_held()
        old = self.d_flags
        self.d_flags |= flags
        return old

    @operation(UPDATE, lifecycle=True)
    def clear_flags(self, flags: DentryFlags) -> DentryFlags:
        """Clear flags; return the old flags."""
        self.d_lockref.assert_held()
        old = self.d_flags
        self.d_flags &= ~flags
        return old

    @operation(UPDATE)
    def poison(self) -> None:
        """Record a write of the whole struct, whose memory is about to be reused."""

    @operation(READ)
    def read_inode(self) -> Inode | None:
        return self.d_inode

    @operation(UPDATE)
    def set_inode(self, inode: Inode | None) -> None:
        self.d_lockref.assert_held()
        self.d_inode = inode

    @operation(UPDATE)
    def add_child(self, child: Dentry) -> None:
        self.d_lockref.assert_held()
        self.d_subdirs.list_add_tail(child)

    @operation(READ)
    def list_children(self) -> tuple[Dentry, ...]:
        """d_subdirs as it is; the caller holds d_lock."""
        return self.d_subdirs.walk()

    @operation(UPDATE)
    def delete_child(self, child: Dentry) -> None:
        """dentry_unlist()."""
        self.d_lockref.assert_held()
        self.d_subdirs.list_del(child)

    @operation(UPDATE)
    def add_to_shrink_list(self, target: LruList) -> DentryFlags:
        """d_shrink_add()."""
        self.d_lockref.assert_held()
        target.add_tail(self.d_lru)
        old = self.d_flags
        self.d_flags |= DentryFlags.SHRINK_LIST | DentryFlags.LRU_LIST
        return old

    @operation(UPDATE)
    def leave_shrink_list(self, source: LruList) -> DentryFlags:
        """d_shrink_del()."""
        self.d_lockref.assert_held()
        source.delete(self.d_lru)
        old = self.d_flags
        self.d_flags &= ~(DentryFlags.SHRINK_LIST | DentryFlags.LRU_LIST)
        return old


REFERENCED, LRU_LIST = DentryFlags.REFERENCED, DentryFlags.LRU_LIST
SHRINK_LIST, MAY_FREE = DentryFlags.SHRINK_LIST, DentryFlags.MAY_FREE


# -- allocation and lookup --------------------------------------------------------------------------------------------


@kernel_fn("d_alloc", "fs/dcache.c")
async def d_alloc(ctx: Context, parent: Dentry, name: str) -> Dentry | None:
    """Make an unhashed dentry with one reference; it holds a reference to its parent. None is -ENOMEM."""
    dentry = await __d_alloc(ctx, parent.d_sb, parent, name)
    if dentry is not None:
        async with SpinLockHeld(ctx, parent.d_lockref):
            await ctx.ask(parent.d_lockref.add, 1)
            await ctx.ask(parent.add_child, dentry)
    return dentry


@kernel_fn("__d_alloc", "fs/dcache.c", profiles="..5.4-fixed")
async def __d_alloc(ctx: Context, sb: SuperBlock, parent: Dentry | None, name: str) -> Dentry | None:
    obj = await kmem_cache_alloc(ctx, sb.caches.dentry)
    return None if obj is None else Dentry(sb.actor, sb, parent, name, obj)


@kernel_fn("__d_alloc", "fs/dcache.c", profiles="6.12..")
async def __d_alloc_6_12(ctx: Context, sb: SuperBlock, parent: Dentry | None, name: str) -> Dentry | None:
    """[6.12] The allocation makes the LRU lists of the memcg, so that the last dput() finds them. KERNEL-today 18.1."""
    obj = await kmem_cache_alloc_lru(ctx, sb.caches.dentry, sb.s_dentry_lru)
    return None if obj is None else Dentry(sb.actor, sb, parent, name, obj)


@kernel_fn("d_make_root", "fs/dcache.c")
async def d_make_root(ctx: Context, inode: Inode) -> Dentry | None:
    """Make the root dentry of a filesystem, which takes over the reference to *inode*."""
    root = await __d_alloc(ctx, inode.i_sb, None, "/")
    if root is None:
        await iput(ctx, inode)
    else:
        await d_instantiate(ctx, root, inode)
    return root


@kernel_fn("d_instantiate", "fs/dcache.c")
async def d_instantiate(ctx: Context, dentry: Dentry, inode: Inode) -> None:
    """Make a negative dentry positive; it takes over the reference to *inode*."""
    async with SpinLockHeld(ctx, inode.i_lock), SpinLockHeld(ctx, dentry.d_lockref):
        await ctx.ask(dentry.set_inode, inode)


@kernel_fn("d_add", "fs/dcache.c")
async def d_add(ctx: Context, dentry: Dentry, inode: Inode | None) -> None:
    """Hash the dentry, positive with *inode* or negative with None."""
    if inode is not None:
        await spin_lock(ctx, inode.i_lock)
    async with SpinLockHeld(ctx, dentry.d_lockref):
        await ctx.ask(dentry.set_inode, inode)
        await ctx.ask(dentry.d_sb.hash_dentry, dentry)
    if inode is not None:
        await spin_unlock(ctx, inode.i_lock)


@kernel_fn("d_lookup", "fs/dcache.c")
async def d_lookup(ctx: Context, parent: Dentry, name: str) -> Dentry | None:
    """Find the dentry of that name and take a reference. The model has no rename, so one attempt suffices."""
    with ctx.rcu_read_section:
        dentry = await ctx.ask(parent.d_sb.find_dentry, parent, name)
        if dentry is None:
            return None
        async with SpinLockHeld(ctx, dentry.d_lockref):
            if await ctx.ask(dentry.d_sb.d_unhashed, dentry):
                return None
            await ctx.ask(dentry.d_lockref.add, 1)
    return dentry


@kernel_fn("dget", "include/linux/dcache.h")
async def dget(ctx: Context, dentry: Dentry) -> Dentry:
    """Take one more reference to a dentry that the caller holds."""
    await lockref_get(ctx, dentry.d_lockref)
    return dentry


# -- the LRU ----------------------------------------------------------------------------------------------------------


def verify_flags(ctx: Context, flags: DentryFlags, expected: DentryFlags) -> None:
    """D_FLAG_VERIFY(): warn if the flags say that the dentry is on another list."""
    WARN_ON(ctx, flags & (LRU_LIST | SHRINK_LIST) != expected, "D_FLAG_VERIFY(dentry, x)")


@kernel_fn("d_lru_add", "fs/dcache.c")
async def d_lru_add(ctx: Context, dentry: Dentry) -> None:
    verify_flags(ctx, await ctx.ask(dentry.set_flags, LRU_LIST), DentryFlags.NONE)
    added = await list_lru_add(ctx, dentry.d_sb.s_dentry_lru, dentry.d_lru)
    WARN_ON(ctx, not added, "d_lru_add: !list_lru_add()")


@kernel_fn("d_lru_del", "fs/dcache.c")
async def d_lru_del(ctx: Context, dentry: Dentry) -> None:
    verify_flags(ctx, await ctx.ask(dentry.clear_flags, LRU_LIST), LRU_LIST)
    deleted = await list_lru_del(ctx, dentry.d_sb.s_dentry_lru, dentry.d_lru)
    WARN_ON(ctx, not deleted, "d_lru_del: !list_lru_del()")


@kernel_fn("prune_dcache_sb", "fs/dcache.c")
async def prune_dcache_sb(ctx: Context, sb: SuperBlock, sc: ShrinkControl) -> int:
    """Take unused dentries off the LRU list of sc->memcg and free them; return the number taken off."""
    dispose = LruList()
    freed = await list_lru_walk_one(ctx, sb.s_dentry_lru, sc, dentry_lru_isolate, dispose)
    await shrink_dentry_list(ctx, dispose)
    return freed


@kernel_fn("dentry_lru_isolate", "fs/dcache.c")
async def dentry_lru_isolate(ctx: Context, item: LruItem, walk: ListLruWalk) -> LruStatus:
    """KERNEL.md 11.5: a used dentry leaves the list, a referenced one is rotated, any other is taken for disposal."""
    dentry = item.container
    assert isinstance(dentry, Dentry)
    if not await spin_trylock(ctx, dentry.d_lockref):
        return LruStatus.SKIP
    status = LruStatus.REMOVED
    if await ctx.ask(dentry.d_lockref.read_count):
        verify_flags(ctx, await ctx.ask(dentry.clear_flags, LRU_LIST), LRU_LIST)
        await ctx.ask(walk.guard.isolate, item, walk.one)
    elif REFERENCED in await ctx.ask(dentry.clear_flags, REFERENCED):
        status = LruStatus.ROTATE
    else:
        verify_flags(ctx, await ctx.ask(dentry.set_flags, SHRINK_LIST), LRU_LIST)
        await ctx.ask(walk.guard.isolate_move, item, walk.one, walk.freeable)
    await spin_unlock(ctx, dentry.d_lockref)
    return status


@kernel_fn("shrink_dcache_sb", "fs/dcache.c")
async def shrink_dcache_sb(ctx: Context, sb: SuperBlock) -> None:
    """Free all unused dentries of a filesystem, on all LRU lists."""
    remaining = 1
    while remaining > 0:
        dispose, budget, remaining = LruList(), SHRINK_DCACHE_BATCH, 0
        for node in sb.s_dentry_lru.nodes:
            budget = await list_lru_walk_node(ctx, node, dentry_lru_isolate_shrink, dispose, budget)
        await shrink_dentry_list(ctx, dispose)
        for node in sb.s_dentry_lru.nodes:
            remaining += await list_lru_count_node(ctx, node)


@kernel_fn("dentry_lru_isolate_shrink", "fs/dcache.c")
async def dentry_lru_isolate_shrink(ctx: Context, item: LruItem, walk: ListLruWalk) -> LruStatus:
    """Take every dentry; shrink_dentry_list() later skips those in use."""
    dentry = item.container
    assert isinstance(dentry, Dentry)
    if not await spin_trylock(ctx, dentry.d_lockref):
        return LruStatus.SKIP
    verify_flags(ctx, await ctx.ask(dentry.set_flags, SHRINK_LIST), LRU_LIST)
    await ctx.ask(walk.guard.isolate_move, item, walk.one, walk.freeable)
    await spin_unlock(ctx, dentry.d_lockref)
    return LruStatus.REMOVED


# -- dput -------------------------------------------------------------------------------------------------------------


@kernel_fn("dput", "fs/dcache.c")
async def dput(ctx: Context, dentry: Dentry | None) -> None:
    """Drop a reference; if it was the last, keep the dentry on the LRU, or kill it and go on with its parent."""
    while dentry is not None:
        ctx.might_sleep("dput")
        with ctx.rcu_read_section:
            if await fast_dput(ctx, dentry):
                return
        if await retain_dentry(ctx, dentry):
            await spin_unlock(ctx, dentry.d_lockref)
            return
        dentry = await dentry_kill(ctx, dentry)


@kernel_fn("fast_dput", "fs/dcache.c")
async def fast_dput(ctx: Context, dentry: Dentry) -> bool:
    """Drop the reference without the lock if possible. False: it is the last one, still held, and so is d_lock."""
    lockref = dentry.d_lockref
    if dentry.d_sb.s_type.always_deletes_dentries:
        return await lockref_put_or_lock(ctx, lockref)
    count = await ctx.ask(lockref.put_return)
    if count > 0:
        return True
    if count == 0:
        flags = await ctx.ask(dentry.read_flags)
        if REFERENCED in flags and LRU_LIST in flags and not await ctx.ask(dentry.d_sb.d_unhashed, dentry):
            return True
    await spin_lock(ctx, lockref)
    return await is_somebody_elses(ctx, lockref) if count == 0 else await put_unless_last(ctx, lockref)


async def put_unless_last(ctx: Context, lockref: Lockref) -> bool:
    """Drop the reference under the lock, since the lockless attempt failed; False if it is the last one."""
    if await ctx.ask(lockref.read_count) <= 1:
        return False
    await ctx.ask(lockref.add, -1)
    await spin_unlock(ctx, lockref)
    return True


async def is_somebody_elses(ctx: Context, lockref: Lockref) -> bool:
    """Check a dentry whose count the lockless put made 0, after d_lock was taken: True if nothing is left to do.

    Before d_lock was taken, another execution context may have taken a reference, or killed the dentry.
    """
    if await ctx.ask(lockref.read_count):
        await spin_unlock(ctx, lockref)
        return True
    await ctx.ask(lockref.add, 1)
    return False


@kernel_fn("retain_dentry", "fs/dcache.c")
async def retain_dentry(ctx: Context, dentry: Dentry) -> bool:
    """Drop the last reference and put the dentry on the LRU, if it may stay; d_lock is held."""
    if await ctx.ask(dentry.d_sb.d_unhashed, dentry) or dentry.d_sb.s_type.always_deletes_dentries:
        return False
    await ctx.ask(dentry.d_lockref.add, -1)
    flags = await ctx.ask(dentry.read_flags)
    if LRU_LIST not in flags:
        await d_lru_add(ctx, dentry)
    elif REFERENCED not in flags:
        await ctx.ask(dentry.set_flags, REFERENCED)
    return True


@kernel_fn("dentry_kill", "fs/dcache.c")
async def dentry_kill(ctx: Context, dentry: Dentry) -> Dentry | None:
    """Take the locks above d_lock and kill the dentry; return the parent, whose reference the caller has to drop.

    If d_lock had to be dropped meanwhile, the dentry may have been found again: then it is kept.
    """
    inode, parent = await ctx.ask(dentry.read_inode), dentry.d_parent
    if inode is None or await spin_trylock(ctx, inode.i_lock):
        if parent is None or await spin_trylock(ctx, parent.d_lockref):
            await __dentry_kill(ctx, dentry)
            return parent
        await __lock_parent(ctx, dentry, parent)
        if inode is not None or await ctx.ask(dentry.read_inode) is None:
            return await kill_or_keep(ctx, dentry, inode)
        await spin_unlock(ctx, parent.d_lockref)  # the negative dentry has become positive
        inode = await ctx.ask(dentry.read_inode)
    inode = deref(inode, "dentry_kill(): dentry->d_inode")
    await spin_unlock(ctx, dentry.d_lockref)
    await spin_lock(ctx, inode.i_lock)
    await spin_lock(ctx, dentry.d_lockref)
    if parent is not None and not await spin_trylock(ctx, parent.d_lockref):
        await __lock_parent(ctx, dentry, parent)
    return await kill_or_keep(ctx, dentry, inode)


async def kill_or_keep(ctx: Context, dentry: Dentry, inode: Inode | None) -> Dentry | None:
    """got_locks: all locks are held, but d_lock was dropped meanwhile; check the count again."""
    if await ctx.ask(dentry.d_lockref.read_count) != 1:
        await ctx.ask(dentry.d_lockref.add, -1)
    elif not await retain_dentry(ctx, dentry):
        await __dentry_kill(ctx, dentry)
        return dentry.d_parent
    if inode is not None:
        await spin_unlock(ctx, inode.i_lock)
    if dentry.d_parent is not None:
        await spin_unlock(ctx, dentry.d_parent.d_lockref)
    await spin_unlock(ctx, dentry.d_lockref)
    return None


@kernel_fn("__lock_parent", "fs/dcache.c")
async def __lock_parent(ctx: Context, dentry: Dentry, parent: Dentry) -> None:
    """Drop d_lock, take the parent's lock, then d_lock again. The model has no rename, so the parent is the same."""
    with ctx.rcu_read_section:
        await spin_unlock(ctx, dentry.d_lockref)
        await spin_lock(ctx, parent.d_lockref)
    await spin_lock_nested(ctx, dentry.d_lockref)


@kernel_fn("__dentry_kill", "fs/dcache.c")
async def __dentry_kill(ctx: Context, dentry: Dentry) -> None:
    """Unlink and unhash the dentry, drop its inode, free it. The caller holds all three locks, which are released."""
    await ctx.ask(dentry.d_lockref.mark_dead)
    flags = await ctx.ask(dentry.read_flags)
    if LRU_LIST in flags and SHRINK_LIST not in flags:
        await d_lru_del(ctx, dentry)
    await ctx.ask(dentry.d_sb.unhash_dentry, dentry)
    if dentry.d_parent is not None:
        await ctx.ask(dentry.d_parent.delete_child, dentry)
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


@kernel_fn("dentry_unlink_inode", "fs/dcache.c")
async def dentry_unlink_inode(ctx: Context, dentry: Dentry) -> None:
    """Make the dentry negative and drop its inode; d_lock and i_lock are held, and are released."""
    inode = deref(await ctx.ask(dentry.read_inode), "dentry_unlink_inode(): dentry->d_inode")
    await ctx.ask(dentry.set_inode, None)
    await spin_unlock(ctx, dentry.d_lockref)
    await spin_unlock(ctx, inode.i_lock)
    await iput(ctx, inode)


@kernel_fn("dentry_free", "fs/dcache.c")
async def dentry_free(ctx: Context, dentry: Dentry) -> None:
    """Free the dentry after a grace period, because lookups may still read it."""
    await call_rcu(ctx, dentry.d_rcu, __d_free)


@kernel_fn("__d_free", "fs/dcache.c")
async def __d_free(ctx: Context, head: RcuHead) -> None:
    """RCU callback: free the dentry."""
    dentry = head.container
    assert isinstance(dentry, Dentry)
    await ctx.ask(dentry.poison)
    ctx.kfree(dentry, dentry.d_lockref)
    await kmem_cache_free(ctx, dentry.d_sb.caches.dentry, dentry.obj)


# -- shrink lists -----------------------------------------------------------------------------------------------------


@kernel_fn("shrink_dentry_list", "fs/dcache.c", profiles="5.3..")
async def shrink_dentry_list(ctx: Context, dispose: LruList) -> None:
    """Kill the dentries that are still unused, oldest first; a parent that becomes unused joins the list."""
    while dispose.items:
        dentry = await lock_oldest(ctx, dispose)
        if dentry is None:
            continue
        await d_shrink_del(ctx, dentry, dispose)
        if dentry.d_parent is not None:
            await __dput_to_list(ctx, dentry.d_parent, dispose)
        await __dentry_kill(ctx, dentry)


@kernel_fn("shrink_dentry_list", "fs/dcache.c", profiles="..v7")
async def shrink_dentry_list_until_v7(ctx: Context, dispose: LruList) -> None:
    """Until v7: a parent that becomes unused is killed at once, and so are its ancestors."""
    while dispose.items:
        dentry = await lock_oldest(ctx, dispose)
        if dentry is None:
            continue
        await d_shrink_del(ctx, dentry, dispose)
        await __dentry_kill(ctx, dentry)
        ancestor = dentry.d_parent
        while ancestor is not None and not await lockref_put_or_lock(ctx, ancestor.d_lockref):
            ancestor = await dentry_kill(ctx, ancestor)


async def lock_oldest(ctx: Context, dispose: LruList) -> Dentry | None:
    """Return the oldest dentry of the list, with all its locks; None if it is used again, and then it leaves the list.

    The kernel adds at the head and takes from the tail; this list has the opposite order.
    """
    dentry = next(iter(dispose.items)).container
    assert isinstance(dentry, Dentry)
    await spin_lock(ctx, dentry.d_lockref)
    with ctx.rcu_read_section:
        if await shrink_lock_dentry(ctx, dentry):
            return dentry
    await d_shrink_del(ctx, dentry, dispose)
    is_dead = await ctx.ask(dentry.d_lockref.read_count) < 0
    can_free = is_dead and MAY_FREE in await ctx.ask(dentry.read_flags)
    await spin_unlock(ctx, dentry.d_lockref)
    if can_free:
        await dentry_free(ctx, dentry)
    return None


@kernel_fn("shrink_lock_dentry", "fs/dcache.c")
async def shrink_lock_dentry(ctx: Context, dentry: Dentry) -> bool:
    """Take the locks of inode and parent; d_lock is held. False if the dentry is used or dead by now."""
    lockref, parent = dentry.d_lockref, dentry.d_parent
    if await ctx.ask(lockref.read_count):
        return False
    inode = await ctx.ask(dentry.read_inode)
    if inode is not None and not await spin_trylock(ctx, inode.i_lock):
        await spin_unlock(ctx, lockref)
        await spin_lock(ctx, inode.i_lock)
        await spin_lock(ctx, lockref)
        if await ctx.ask(lockref.read_count) or await ctx.ask(dentry.read_inode) is not inode:
            await spin_unlock(ctx, inode.i_lock)
            return False
    if parent is None or await spin_trylock(ctx, parent.d_lockref):
        return True
    await spin_unlock(ctx, lockref)
    await spin_lock(ctx, parent.d_lockref)
    await spin_lock_nested(ctx, lockref)
    if not await ctx.ask(lockref.read_count):
        return True
    await spin_unlock(ctx, parent.d_lockref)
    if inode is not None:
        await spin_unlock(ctx, inode.i_lock)
    return False


@kernel_fn("d_shrink_del", "fs/dcache.c")
async def d_shrink_del(ctx: Context, dentry: Dentry, dispose: LruList) -> None:
    verify_flags(ctx, await ctx.ask(dentry.leave_shrink_list, dispose), SHRINK_LIST | LRU_LIST)


@kernel_fn("__dput_to_list", "fs/dcache.c", profiles="5.3..")
async def __dput_to_list(ctx: Context, dentry: Dentry, dispose: LruList) -> None:
    """Drop a reference, with d_lock held; the last put adds the dentry to the shrink list *dispose*."""
    flags = await ctx.ask(dentry.read_flags)
    if SHRINK_LIST in flags:
        await ctx.ask(dentry.d_lockref.add, -1)
        return
    if LRU_LIST in flags:
        await d_lru_del(ctx, dentry)
    if not await ctx.ask(dentry.d_lockref.add, -1):
        verify_flags(ctx, await ctx.ask(dentry.add_to_shrink_list, dispose), DentryFlags.NONE)


# -- removal of a name ------------------------------------------------------------------------------------------------


@kernel_fn("d_delete", "fs/dcache.c")
async def d_delete(ctx: Context, dentry: Dentry) -> None:
    """A name was removed from the filesystem: make its dentry negative, or unhash it if it has other users."""
    inode = deref(await ctx.ask(dentry.read_inode), "d_delete(): dentry->d_inode")
    await spin_lock(ctx, inode.i_lock)
    await spin_lock(ctx, dentry.d_lockref)
    if await ctx.ask(dentry.d_lockref.read_count) == 1:
        await dentry_unlink_inode(ctx, dentry)
        return
    await ctx.ask(dentry.d_sb.unhash_dentry, dentry)
    await spin_unlock(ctx, dentry.d_lockref)
    await spin_unlock(ctx, inode.i_lock)


# -- the walk that frees unused dentries below a dentry ---------------------------------------------------------------
# rmdir() calls it for the directory that it removes, so that no dentry stays cached below it.


@kernel_fn("shrink_dcache_parent", "fs/dcache.c")
async def shrink_dcache_parent(ctx: Context, parent: Dentry) -> None:
    """Free the unused dentries below *parent*, until a walk finds none."""
    while True:
        dispose = LruList()
        found = await d_walk(ctx, parent, dispose)
        if not found:
            return
        await shrink_dentry_list(ctx, dispose)


@kernel_fn("d_walk", "fs/dcache.c")
async def d_walk(ctx: Context, parent: Dentry, dispose: LruList) -> int:
    """Call select_collect() for every dentry below *parent*, parents before children; return the number found."""
    found = 0
    async with SpinLockHeld(ctx, parent.d_lockref):
        children = await ctx.ask(parent.list_children)
        for child in children:
            await spin_lock_nested(ctx, child.d_lockref)
            found += await select_collect(ctx, child, dispose)
            await spin_unlock(ctx, child.d_lockref)
    for child in children:
        found += await d_walk(ctx, child, dispose)
    return found


@kernel_fn("select_collect", "fs/dcache.c")
async def select_collect(ctx: Context, dentry: Dentry, dispose: LruList) -> bool:
    """Move an unused dentry to *dispose*; d_lock is held. True also for a dentry on another walk's shrink list."""
    flags = await ctx.ask(dentry.read_flags)
    if SHRINK_LIST in flags:
        return True
    if LRU_LIST in flags:
        await d_lru_del(ctx, dentry)
    if await ctx.ask(dentry.d_lockref.read_count):
        return False
    verify_flags(ctx, await ctx.ask(dentry.add_to_shrink_list, dispose), DentryFlags.NONE)
    return True
