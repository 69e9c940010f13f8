"""The structures of the dentry cache: a dentry, and the count and the lock in one word that it begins with.

include/linux/dcache.h, include/linux/lockref.h, lib/lockref.c @5.3.1. What the functions of `dcache` do with them is
there.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

from actors.kernel.context import Context
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.kmem_cache import SlabObject
from actors.kernel.list_head import ListEntry, ListHead
from actors.kernel.list_lru import LruItem, LruList
from actors.kernel.locks import SpinLock, spin_lock, spin_unlock
from actors.kernel.rcu import RcuHead
from protocol.operations import ATOMIC_NS, READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.kernel.inode import Inode
    from actors.kernel.super import SuperBlock

DEAD = -128
"""What lockref_mark_dead() leaves: nobody gets a reference any more."""


@attrs.define(eq=False)
class Lockref(SpinLock):
    """struct lockref: a spinlock with a reference count, which is changed without the lock only while that is free."""

    count: int = 1

    @operation(UPDATE, name="lockref_get", when=SpinLock.is_free, cost=ATOMIC_NS)
    def get(self, _ctx: Context) -> None:
        self.count += 1

    @operation(UPDATE, name="lockref_put_return", cost=ATOMIC_NS)
    def put_return(self) -> int:
        """The new count; -1, and nothing done, if the lock is taken or there is no reference."""
        if self.holder is not None or self.count <= 0:
            return -1
        self.count -= 1
        return self.count

    @operation(UPDATE, name="lockref_put_or_lock", cost=ATOMIC_NS)
    def put_unless_last(self) -> bool:
        """The part of lockref_put_or_lock() that needs no lock."""
        if self.holder is not None or self.count <= 1:
            return False
        self.count -= 1
        return True

    @operation(READ, cost=ATOMIC_NS)
    def read_count(self) -> int:
        return self.count

    @operation(UPDATE, cost=ATOMIC_NS)
    def add(self, nr: int) -> int:
        """Change the count with the lock held."""
        self.assert_held()
        self.count += nr
        return self.count

    @operation(UPDATE, name="lockref_mark_dead", cost=ATOMIC_NS)
    def mark_dead(self) -> None:
        self.assert_held()
        self.count = DEAD


@kernel_fn("lockref_get", "lib/lockref.c")
async def lockref_get(ctx: Context, lockref: Lockref) -> None:
    """One more reference than the caller has; whoever has the lock is waited for."""
    with ctx.preempt_section:
        await ctx.ask(lockref.get, ctx)


@kernel_fn("lockref_put_or_lock", "lib/lockref.c")
async def lockref_put_or_lock(ctx: Context, lockref: Lockref) -> bool:
    """Drop a reference that is not the last; otherwise return False, with the reference and the lock held."""
    if await ctx.ask(lockref.put_unless_last):
        return True
    await spin_lock(ctx, lockref)
    if await ctx.ask(lockref.read_count) <= 1:
        return False
    await ctx.ask(lockref.add, -1)
    await spin_unlock(ctx, lockref)
    return True


class DentryFlags(enum.Flag):
    """The DCACHE_ flags.

    LRU_LIST: on the superblock's LRU, or on a shrink list. SHRINK_LIST: on a shrink list, whose owner frees it;
    MAY_FREE says that nobody else will.
    """

    NONE = 0
    REFERENCED = enum.auto()
    LRU_LIST = enum.auto()
    SHRINK_LIST = enum.auto()
    MAY_FREE = enum.auto()


@attrs.define(eq=False)
class Dentry(ListEntry):
    """struct dentry: a name in its parent, and the inode that it names (None: there is no such file).

    It holds a reference to its parent and one to its inode. `d_subdirs` are its children, whoever can find them. All
    this is changed with the lock held.
    `is_hashed`: a lookup can find it; the superblock owns that.
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

    @operation(UPDATE)
    def set_flags(self, flags: DentryFlags) -> DentryFlags:
        """Set flags; what they all were."""
        self.d_lockref.assert_held()
        old = self.d_flags
        self.d_flags |= flags
        return old

    @operation(UPDATE)
    def clear_flags(self, flags: DentryFlags) -> DentryFlags:
        """Clear flags; what they all were."""
        self.d_lockref.assert_held()
        old = self.d_flags
        self.d_flags &= ~flags
        return old

    @operation(UPDATE)
    def poison(self) -> None:
        """The memory is about to be somebody else's."""

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
        """d_subdirs as it is; d_lock keeps it so."""
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
