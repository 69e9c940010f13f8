"""Inodes: references, LRU, pruning, eviction. fs/inode.c @5.3.1; KERNEL.md 11.

Dentries and other users hold references to an inode (`i_count`). When the last one is dropped, the filesystem decides
whether the inode stays on the LRU of its superblock. A dirty inode gets there only after writeback. An inode's pages
are freed before the inode. Lock order: inode_hash_lock or s_inode_list_lock, i_lock, the LRU's lock; a walk only tries
to take i_lock.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

from actors.linux.include.fs import inode_io_list_del
from actors.linux.include.slab import kmem_cache_alloc_lru, kmem_cache_free
from actors.linux.kernel.locking.locks import RwSem, SpinLock, SpinLockHeld, spin_lock, spin_trylock, spin_unlock
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.linux.lib.dec_and_lock import atomic_dec_and_lock
from actors.linux.lib.radix_tree import XaNode
from actors.linux.lib.xarray import XA_CHUNK_SIZE
from actors.linux.mm.filemap import Page
from actors.linux.mm.kmem_cache import SlabObject
from actors.linux.mm.list_lru import (
    ListLruWalk,
    LruItem,
    LruList,
    LruStatus,
    list_lru_add,
    list_lru_del,
    list_lru_walk_one,
)
from actors.linux.mm.truncate import invalidate_mapping_pages
from actors.machine.context import BUG_ON, WARN_ON, Context
from actors.machine.list_head import ListEntry
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import ATOMIC_NS, READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.fs.super import InodeFn, SuperBlock
    from actors.linux.mm.vmscan import ShrinkControl


class InodeState(enum.Flag):
    """The I_ flags of i_state."""

    NONE = 0
    NEW = enum.auto()
    DIRTY = enum.auto()
    SYNC = enum.auto()
    REFERENCED = enum.auto()
    FREEING = enum.auto()
    CLEAR = enum.auto()


@attrs.define(eq=False)
class Inode(ListEntry):
    """struct inode with its address_space: `i_pages` are its pages by index, `i_size` its length in pages.

    From 6.12 on `shadows` are the places from which reclaim has taken a page, and `nodes` the nodes of the xarray.

    Only directories have an `i_rwsem`: the model locks no other inodes.
    """

    i_sb: SuperBlock
    obj: SlabObject
    i_ino: int = 0
    i_count: int = 1
    i_nlink: int = 1
    i_size: int = 0
    i_state: InodeState = InodeState.NONE
    i_pages: dict[int, Page] = attrs.field(factory=dict, init=False)
    shadows: set[int] = attrs.field(factory=set, init=False)
    nodes: dict[int, XaNode] = attrs.field(factory=dict, init=False)
    i_lock: SpinLock = attrs.field(init=False)
    i_rwsem: RwSem | None = None
    i_lru: LruItem = attrs.field(init=False)
    i_rcu: RcuHead = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.i_lock = SpinLock(self.actor, "&sb->s_type->i_lock_key")
        self.i_lru, self.i_rcu = LruItem(self, self.obj), RcuHead(self)

    @property
    def label(self) -> str:
        return f"inode {self.i_ino} of {self.i_sb.s_id}"

    def parts(self) -> tuple[Shared | None, ...]:
        """The struct and its locks."""
        return (self, self.i_lock, self.i_rwsem)

    # -- i_count and i_nlink ------------------------------------------------------------------------------------------

    @operation(UPDATE, cost=ATOMIC_NS)
    def get(self) -> int:
        """atomic_inc_return(&inode->i_count)."""
        self.i_count += 1
        return self.i_count

    @operation(UPDATE, cost=ATOMIC_NS)
    def put_unless_last(self) -> bool:
        """atomic_add_unless(&inode->i_count, -1, 1)."""
        if self.i_count == 1:
            return False
        self.i_count -= 1
        return True

    @operation(UPDATE, cost=ATOMIC_NS)
    def put_testzero(self) -> bool:
        """atomic_dec_and_test(&inode->i_count)."""
        self.i_count -= 1
        return not self.i_count

    @operation(READ)
    def read_count(self) -> int:
        return self.i_count

    @operation(UPDATE)
    def add_nlink(self, nr: int) -> None:
        self.i_nlink += nr

    @operation(READ)
    def read_nlink(self) -> int:
        return self.i_nlink

    # -- i_state, under i_lock ----------------------------------------------------------------------------------------

    @operation(READ)
    def read_state(self) -> InodeState:
        return self.i_state

    @operation(UPDATE)
    def set_state(self, flags: InodeState) -> None:
        self.i_lock.assert_held()
        self.i_state |= flags

    @operation(UPDATE)
    def clear_state(self, flags: InodeState) -> InodeState:
        """Clear flags; return the old flags."""
        self.i_lock.assert_held()
        old, self.i_state = self.i_state, self.i_state & ~flags
        return old

    @operation(UPDATE)
    def replace_state(self, flags: InodeState) -> None:
        self.i_state = flags

    def is_not_under_writeback(self) -> bool:
        return InodeState.SYNC not in self.i_state

    @operation(READ, when=is_not_under_writeback, sleeps=True)
    def wait_for_writeback(self) -> None:
        """inode_wait_for_writeback()."""

    def is_not_new(self) -> bool:
        return InodeState.NEW not in self.i_state

    @operation(READ, when=is_not_new, sleeps=True)
    def wait_until_read(self) -> None:
        """wait_on_inode()."""

    @operation(READ)
    def is_on_lru(self) -> bool:
        """!list_empty(&inode->i_lru): on the LRU list, or on the private one of a walk."""
        return self.i_lru.on is not None

    @operation(READ)
    def read_free_inode(self) -> InodeFn:
        """inode->free_inode, which destroy_inode() has set."""
        return self.i_sb.s_type.free_inode

    @operation(UPDATE)
    def poison(self) -> None:
        """Record a write of the whole struct, whose memory is about to be reused."""

    @operation(READ)
    def read_shared_policy(self) -> None:
        """The NUMA policy of a tmpfs file; the model's files have none."""

    # -- the mapping --------------------------------------------------------------------------------------------------

    @operation(READ)
    def list_pages(self) -> tuple[Page, ...]:
        """pagevec_lookup(): the present pages, by index."""
        return tuple(page for _, page in sorted(self.i_pages.items()))

    @operation(READ)
    def has_dirty_pages(self) -> bool:
        """mapping_tagged(PAGECACHE_TAG_DIRTY)."""
        return any(page.is_dirty for page in self.i_pages.values())

    @operation(READ)
    def has_page(self, index: int) -> bool:
        return index in self.i_pages

    @operation(READ)
    def read_nrpages(self) -> int:
        return len(self.i_pages)

    @operation(UPDATE)
    def add_page(self, page: Page) -> bool:
        """Put *page* into the mapping, which takes a reference, unless there is a page at its index."""
        if page.index in self.i_pages:
            page.mapping = None
            return False
        self.i_pages[page.index] = page
        self.shadows.discard(page.index)
        page.refs += 1
        return True

    @operation(READ)
    def has_shadow(self, index: int) -> bool:
        return index in self.shadows

    @operation(READ)
    def has_node(self, number: int) -> bool:
        return number in self.nodes

    @operation(UPDATE)
    def add_node(self, node: XaNode) -> bool:
        """Put *node* into the mapping, unless there is one by now."""
        return self.nodes.setdefault(node.number, node) is node

    @operation(UPDATE)
    def take_unused_node(self, number: int) -> XaNode | None:
        """Take a node out of which the last page has gone, but for one at index 0."""
        if number not in self.nodes or any(index and index // XA_CHUNK_SIZE == number for index in self.i_pages):
            return None
        return self.nodes.pop(number)

    @operation(READ)
    def read_size(self) -> int:
        return self.i_size

    @operation(UPDATE)
    def set_size(self, pages: int) -> None:
        self.i_size = pages


# -- allocation and lookup --------------------------------------------------------------------------------------------


@kernel_fn("alloc_inode", "fs/inode.c")
async def alloc_inode(ctx: Context, sb: SuperBlock) -> Inode | None:
    """Allocate an inode from the filesystem's own cache; None is -ENOMEM."""
    obj = await sb.s_type.alloc_inode(ctx, sb)
    return None if obj is None else Inode(sb.actor, sb, obj)


async def alloc_inode_sb(ctx: Context, sb: SuperBlock) -> SlabObject | None:
    """From 6.12 on: allocate the object, and make the LRU lists that its last iput() needs. KERNEL-today 18.1."""
    return await kmem_cache_alloc_lru(ctx, sb.caches.inode, sb.s_inode_lru)


@kernel_fn("new_inode", "fs/inode.c")
async def new_inode(ctx: Context, sb: SuperBlock) -> Inode | None:
    """Make an inode that is on the superblock's list, but not hashed."""
    inode = await alloc_inode(ctx, sb)
    if inode is not None:
        inode.i_ino = await ctx.ask(sb.get_next_ino)
        await inode_sb_list_add(ctx, inode)
    return inode


@kernel_fn("inode_sb_list_add", "fs/inode.c")
async def inode_sb_list_add(ctx: Context, inode: Inode) -> None:
    async with SpinLockHeld(ctx, inode.i_sb.s_inode_list_lock):
        await ctx.ask(inode.i_sb.add_inode, inode)


@kernel_fn("iget_locked", "fs/inode.c")
async def iget_locked(ctx: Context, sb: SuperBlock, ino: int) -> Inode | None:
    """Return the inode of that number with a reference, cached or new. A new one is I_NEW until the caller read it."""
    old = await find_inode_fast(ctx, sb, ino)
    if old is None:
        inode = await alloc_inode(ctx, sb)
        if inode is None:
            return None
        inode.i_ino, inode.i_state = ino, InodeState.NEW
        old = await insert_inode(ctx, inode)
        if old is None:
            return inode
        await destroy_inode(ctx, inode)
    await ctx.ask(old.wait_until_read)
    return old


@kernel_fn("unlock_new_inode", "fs/inode.c")
async def unlock_new_inode(ctx: Context, inode: Inode) -> None:
    """Clear I_NEW, which lets others use the inode; only the execution context that made it may do this."""
    async with SpinLockHeld(ctx, inode.i_lock):
        was = await ctx.ask(inode.clear_state, InodeState.NEW)
        WARN_ON(ctx, InodeState.NEW not in was, "unlock_new_inode: !(inode->i_state & I_NEW)")


@kernel_fn("find_inode_fast", "fs/inode.c")
async def find_inode_fast(ctx: Context, sb: SuperBlock, ino: int) -> Inode | None:
    """Find the hashed inode of that number and take a reference; wait for one that is being freed."""
    while True:
        async with SpinLockHeld(ctx, ctx.machine.vfs.inode_hash_lock):
            inode = await ctx.ask(sb.find_hashed_inode, ino)
            if inode is None or await grab_hashed_inode(ctx, inode):
                return inode
        await __wait_on_freeing_inode(ctx, inode)


@kernel_fn("__wait_on_freeing_inode", "fs/inode.c")
async def __wait_on_freeing_inode(ctx: Context, inode: Inode) -> None:
    """Sleep until the inode is unhashed; its memory may be freed by then."""
    await ctx.ask(inode.i_sb.wait_on_freeing_inode, inode)


async def grab_hashed_inode(ctx: Context, inode: Inode) -> bool:
    """__iget() in find_inode_fast(); False if the inode is being freed."""
    async with SpinLockHeld(ctx, inode.i_lock):
        if InodeState.FREEING in await ctx.ask(inode.read_state):
            return False
        await ctx.ask(inode.get)
        return True


@kernel_fn("insert_inode_locked", "fs/inode.c")
async def insert_inode_locked(ctx: Context, inode: Inode) -> None:
    """Hash a new inode, whose number is unique."""
    async with SpinLockHeld(ctx, ctx.machine.vfs.inode_hash_lock):
        await ctx.ask(inode.i_sb.hash_inode, inode)


async def insert_inode(ctx: Context, inode: Inode) -> Inode | None:
    """Hash *inode*, unless another inode of its number is hashed: then return that one, with a reference."""
    sb = inode.i_sb
    while True:
        async with SpinLockHeld(ctx, ctx.machine.vfs.inode_hash_lock):
            old = await ctx.ask(sb.find_hashed_inode, inode.i_ino)
            if old is None:
                await ctx.ask(sb.hash_inode, inode)
                await inode_sb_list_add(ctx, inode)
                return None
            if await grab_hashed_inode(ctx, old):
                return old
        await __wait_on_freeing_inode(ctx, old)


# -- references -------------------------------------------------------------------------------------------------------


@kernel_fn("ihold", "fs/inode.c")
async def ihold(ctx: Context, inode: Inode) -> None:
    """Take one more reference to an inode that the caller holds."""
    WARN_ON(ctx, await ctx.ask(inode.get) < 2, "ihold: atomic_inc_return(&inode->i_count) < 2")


@kernel_fn("iput", "fs/inode.c")
async def iput(ctx: Context, inode: Inode | None) -> None:
    """Drop a reference; the last put keeps the inode on the LRU or evicts it."""
    if inode is None:
        return
    BUG_ON(ctx, InodeState.CLEAR in await ctx.ask(inode.read_state), "iput: inode->i_state & I_CLEAR")
    if await atomic_dec_and_lock(ctx, inode):
        await iput_final(ctx, inode)


@kernel_fn("generic_delete_inode", "fs/inode.c")
async def generic_delete_inode(ctx: Context, inode: Inode) -> bool:
    """Never keep an unused inode."""
    return True


@kernel_fn("generic_drop_inode", "fs/inode.c")
async def generic_drop_inode(ctx: Context, inode: Inode) -> bool:
    """Evict an inode that has no name or is not hashed; keep any other. i_lock is held."""
    return not await ctx.ask(inode.read_nlink) or not await ctx.ask(inode.i_sb.is_hashed, inode)


@kernel_fn("iput_final", "fs/inode.c")
async def iput_final(ctx: Context, inode: Inode) -> None:
    """The last reference is dropped, i_lock is held: keep the inode on the LRU, or evict it. There is no unmount."""
    if not await inode.i_sb.s_type.drop_inode(ctx, inode):
        await inode_add_lru(ctx, inode)
        await spin_unlock(ctx, inode.i_lock)
        return
    await ctx.ask(inode.set_state, InodeState.FREEING)
    if await ctx.ask(inode.is_on_lru):
        await inode_lru_list_del(ctx, inode)
    await spin_unlock(ctx, inode.i_lock)
    await evict(ctx, inode)


# -- the LRU ----------------------------------------------------------------------------------------------------------


@kernel_fn("inode_add_lru", "fs/inode.c")
async def inode_add_lru(ctx: Context, inode: Inode) -> None:
    """Put an unused inode on the LRU, unless it is dirty, under writeback or being freed; i_lock is held."""
    busy = InodeState.DIRTY | InodeState.SYNC | InodeState.FREEING
    if not await ctx.ask(inode.read_state) & busy and not await ctx.ask(inode.read_count):
        await inode_lru_list_add(ctx, inode)


@kernel_fn("inode_lru_list_add", "fs/inode.c")
async def inode_lru_list_add(ctx: Context, inode: Inode) -> None:
    """Add the inode at the end; an inode that is on the list already gets I_REFERENCED."""
    if not await list_lru_add(ctx, inode.i_sb.s_inode_lru, inode.i_lru):
        await ctx.ask(inode.set_state, InodeState.REFERENCED)


@kernel_fn("inode_lru_list_del", "fs/inode.c")
async def inode_lru_list_del(ctx: Context, inode: Inode) -> None:
    await list_lru_del(ctx, inode.i_sb.s_inode_lru, inode.i_lru)


@kernel_fn("prune_icache_sb", "fs/inode.c")
async def prune_icache_sb(ctx: Context, sb: SuperBlock, sc: ShrinkControl) -> int:
    """Take unused inodes off the LRU list of sc->memcg and evict them; return the number taken off."""
    freeable = LruList()
    freed = await list_lru_walk_one(ctx, sb.s_inode_lru, sc, inode_lru_isolate, freeable)
    await dispose_list(ctx, freeable)
    return freed


@kernel_fn("inode_lru_isolate", "fs/inode.c", profiles="..6.12")
async def inode_lru_isolate(ctx: Context, item: LruItem, walk: ListLruWalk) -> LruStatus:
    """A used or dirty inode leaves the list, a referenced one is rotated, any other is taken for disposal.

    KERNEL.md 11.5.
    """
    status = await isolate_inode(ctx, item, walk)
    if status is LruStatus.RETRY:
        await spin_lock(ctx, walk.guard.lock)
    return status


@kernel_fn("inode_lru_isolate", "fs/inode.c", profiles="7.2..")
async def inode_lru_isolate_7_2(ctx: Context, item: LruItem, walk: ListLruWalk) -> LruStatus:
    """[7.2] The lock that was dropped for an inode with pages is not taken again. KERNEL-7.2, row 18.3."""
    return await isolate_inode(ctx, item, walk)


async def isolate_inode(ctx: Context, item: LruItem, walk: ListLruWalk) -> LruStatus:
    """The body of inode_lru_isolate(); for RETRY it has dropped the lock of the list."""
    inode = item.container
    assert isinstance(inode, Inode)
    if not await spin_trylock(ctx, inode.i_lock):
        return LruStatus.SKIP
    state = await ctx.ask(inode.read_state)
    if await ctx.ask(inode.read_count) or state & ~InodeState.REFERENCED:
        await ctx.ask(walk.guard.isolate, item, walk.one)
        await spin_unlock(ctx, inode.i_lock)
        return LruStatus.REMOVED
    if InodeState.REFERENCED in state:
        await ctx.ask(inode.clear_state, InodeState.REFERENCED)
        await spin_unlock(ctx, inode.i_lock)
        return LruStatus.ROTATE
    if await ctx.ask(inode.read_nrpages):
        return await drop_pages_first(ctx, inode, walk)
    await ctx.ask(inode.set_state, InodeState.FREEING)
    await ctx.ask(walk.guard.isolate_move, item, walk.one, walk.freeable)
    await spin_unlock(ctx, inode.i_lock)
    return LruStatus.REMOVED


async def drop_pages_first(ctx: Context, inode: Inode, walk: ListLruWalk) -> LruStatus:
    """Invalidate the pages of an unused inode, without the locks; the iput() afterwards marks it as referenced."""
    await ctx.ask(inode.get)
    await spin_unlock(ctx, inode.i_lock)
    await spin_unlock(ctx, walk.guard.lock)
    await invalidate_mapping_pages(ctx, inode)
    await iput(ctx, inode)
    return LruStatus.RETRY


@kernel_fn("dispose_list", "fs/inode.c")
async def dispose_list(ctx: Context, head: LruList) -> None:
    """Evict the inodes that the walk has taken, the newest first."""
    while (item := head.items.list_last_entry()) is not None:
        inode = item.container
        assert isinstance(inode, Inode)
        head.delete(item)
        await evict(ctx, inode)


# -- eviction ---------------------------------------------------------------------------------------------------------


@kernel_fn("evict", "fs/inode.c")
async def evict(ctx: Context, inode: Inode) -> None:
    """Free an inode that no other execution context can use any more: its pages, its hash entry, its memory."""
    state = await ctx.ask(inode.read_state)
    BUG_ON(ctx, InodeState.FREEING not in state, "evict: !(inode->i_state & I_FREEING)")
    BUG_ON(ctx, await ctx.ask(inode.is_on_lru), "evict: !list_empty(&inode->i_lru)")
    if await ctx.ask(inode.i_sb.is_dirty_inode, inode):
        await inode_io_list_del(ctx, inode)
    async with SpinLockHeld(ctx, inode.i_sb.s_inode_list_lock):
        await ctx.ask(inode.i_sb.delete_inode, inode)
    await ctx.ask(inode.wait_for_writeback)
    await inode.i_sb.s_type.evict_inode(ctx, inode)
    async with SpinLockHeld(ctx, ctx.machine.vfs.inode_hash_lock):
        await ctx.ask(inode.i_sb.unhash_inode, inode)
    await destroy_inode(ctx, inode)


@kernel_fn("clear_inode", "fs/inode.c")
async def clear_inode(ctx: Context, inode: Inode) -> None:
    """Set I_CLEAR: the filesystem has finished with the inode."""
    BUG_ON(ctx, await ctx.ask(inode.read_nrpages), "clear_inode: inode->i_data.nrpages")
    await ctx.ask(inode.replace_state, InodeState.FREEING | InodeState.CLEAR)


@kernel_fn("destroy_inode", "fs/inode.c")
async def destroy_inode(ctx: Context, inode: Inode) -> None:
    """Let the filesystem release its resources, and free the memory after a grace period."""
    BUG_ON(ctx, await ctx.ask(inode.is_on_lru), "destroy_inode: !list_empty(&inode->i_lru)")
    destroy_inode = inode.i_sb.s_type.destroy_inode
    if destroy_inode is not None:
        await destroy_inode(ctx, inode)
    await call_rcu(ctx, inode.i_rcu, i_callback)


@kernel_fn("i_callback", "fs/inode.c")
async def i_callback(ctx: Context, head: RcuHead) -> None:
    """RCU callback: call the filesystem's free_inode()."""
    inode = head.container
    assert isinstance(inode, Inode)
    await (await ctx.ask(inode.read_free_inode))(ctx, inode)


async def free_inode_object(ctx: Context, inode: Inode) -> None:
    """The common body of all free_inode() functions: free the object to its cache."""
    await ctx.ask(inode.poison)
    ctx.kfree(*inode.parts())
    await kmem_cache_free(ctx, inode.i_sb.caches.inode, inode.obj)


@kernel_fn("free_inode_nonrcu", "fs/inode.c")
async def free_inode_nonrcu(ctx: Context, inode: Inode) -> None:
    """free_inode() of a filesystem without an inode cache of its own."""
    await free_inode_object(ctx, inode)
