"""Superblocks: mounted filesystems, each with its shrinker. fs/super.c @5.3.1; KERNEL.md 11.4.

The shrinker of a superblock counts the unused dentries and inodes of one memcg on one node, and scans both in
proportion. It gives up without __GFP_FS, or if s_umount is held for writing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from actors.linux.fs.dcache import d_make_root, prune_dcache_sb, shrink_dcache_sb
from actors.linux.fs.inode import generic_drop_inode, prune_icache_sb
from actors.linux.kernel.locking.locks import (
    RwSem,
    SpinLock,
    SpinLockHeld,
    down_read,
    down_read_trylock,
    down_write,
    up_read,
    up_write,
)
from actors.linux.mm.list_lru import ListLru, __list_lru_init, list_lru_count_one
from actors.linux.mm.vmscan import (
    SHRINK_EMPTY,
    SHRINK_STOP,
    ShrinkControl,
    Shrinker,
    as_unsigned,
    prealloc_shrinker,
    register_shrinker_prepared,
)
from actors.machine.context import Context, deref
from actors.machine.gfp import Gfp
from actors.machine.list_head import ListEntry, ListHead
from actors.system.actor import Actor, Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.errors import UsageError
from protocol.operations import READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.fs.dcache import Dentry
    from actors.linux.fs.file_table import File
    from actors.linux.fs.inode import Inode
    from actors.linux.init.machine import Machine
    from actors.linux.mm.kmem_cache import KmemCache, SlabObject
    from actors.system.world import World

SUPER_BATCH = 1024
MOUNT_TRIES = 100

DISK_NS = (100_000, 5_000_000)


@attrs.frozen
class FileCaches:
    """The root caches of a filesystem's objects: open files, dentries, inodes."""

    filp: KmemCache
    dentry: KmemCache
    inode: KmemCache


@attrs.define
class DiskInode:
    """An inode on the disk: length in pages, number of links, and a directory's inode numbers by name."""

    entries: dict[str, int] | None
    size: int = 0
    nlink: int = 1


InodeFn = Callable[[Context, "Inode"], Awaitable[None]]


@attrs.frozen(kw_only=True)
class FileSystemType:
    """struct file_system_type with the super_operations, inode_operations and dentry_operations of its files.

    `inode_cache` is the slab cache of its inodes. `destroy_inode` and `write_inode` may be missing, as in C.
    `always_deletes_dentries` is d_op->d_delete: no dentry stays on the LRU. `has_reclaimable_pages`: its pages can be
    read again after reclaim.
    """

    name: str
    inode_cache: str
    get_root: Callable[[Context, SuperBlock], Awaitable[Inode | None]]
    alloc_inode: Callable[[Context, SuperBlock], Awaitable[SlabObject | None]]
    destroy_inode: InodeFn | None = None
    free_inode: InodeFn
    evict_inode: InodeFn
    write_inode: InodeFn | None = None
    drop_inode: Callable[[Context, Inode], Awaitable[bool]] = generic_drop_inode
    always_deletes_dentries: bool = False
    has_reclaimable_pages: bool = True
    lookup: Callable[[Context, Inode, Dentry], Awaitable[bool]]
    create: Callable[[Context, Inode, Dentry], Awaitable[bool]]
    mkdir: Callable[[Context, Inode, Dentry], Awaitable[bool]]
    link: Callable[[Context, Inode, Inode, Dentry], Awaitable[None]] | None = None
    unlink: Callable[[Context, Inode, Dentry], Awaitable[None]]
    rmdir: Callable[[Context, Inode, Dentry], Awaitable[bool]] | None = None


@attrs.define(eq=False)
class SuperBlock(ListEntry):
    """struct super_block: an actor that owns its dentries, its inodes, their pages and their LRU lists.

    `dentry_hash` and `inode_hash` are its part of the global hash tables; `inode_hash_lock` is global, too. `disk` has
    the inodes on the disk, by number. `dirty_inodes` is the b_dirty list of its wb. Shadow accounting: `files` has
    every struct file that exists.
    """

    s_id: str
    s_type: FileSystemType
    caches: FileCaches
    s_umount: RwSem
    inode_hash_lock: SpinLock
    s_inode_list_lock: SpinLock = attrs.field(init=False)
    wb_list_lock: SpinLock = attrs.field(init=False)
    s_shrink: Shrinker = attrs.field(init=False)
    s_dentry_lru: ListLru = attrs.field(init=False)
    s_inode_lru: ListLru = attrs.field(init=False)
    s_root: Dentry | None = attrs.field(default=None, init=False)
    s_fs_info: Shared | None = attrs.field(default=None, init=False)
    born: bool = attrs.field(default=False, init=False)
    s_inodes: ListHead[Inode] = attrs.field(init=False)
    dirty_inodes: ListHead[Inode] = attrs.field(init=False)
    dentry_hash: dict[tuple[Dentry, str], Dentry] = attrs.field(factory=dict, init=False)
    inode_hash: dict[int, Inode] = attrs.field(factory=dict, init=False)
    disk: dict[int, DiskInode] = attrs.field(factory=dict, init=False)
    last_ino: int = attrs.field(default=0, init=False)
    files: dict[File, None] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.s_inode_list_lock = SpinLock(self.actor, "&s->s_inode_list_lock")
        self.wb_list_lock = SpinLock(self.actor, "&(&wb->list_lock)->rlock")
        self.s_inodes, self.dirty_inodes = ListHead(self), ListHead(self)

    @property
    def label(self) -> str:
        return f"super_block {self.s_id}"

    @property
    def root(self) -> Dentry:
        """The root directory of a mounted filesystem."""
        return deref(self.s_root, "sb->s_root")

    # -- state --------------------------------------------------------------------------------------------------------

    @operation(READ)
    def is_born(self) -> bool:
        """SB_BORN: the mount is complete."""
        return self.born

    @operation(UPDATE)
    def set_born(self) -> None:
        self.born = True

    @operation(READ)
    def read_root(self) -> Dentry | None:
        return self.s_root

    @operation(UPDATE)
    def set_root(self, root: Dentry) -> None:
        self.s_root = root

    # -- the hash of dentries, by parent and name ---------------------------------------------------------------------

    @operation(READ)
    def find_dentry(self, parent: Dentry, name: str) -> Dentry | None:
        return self.dentry_hash.get((parent, name))

    @operation(READ)
    def d_unhashed(self, dentry: Dentry) -> bool:
        return not dentry.is_hashed

    @operation(UPDATE)
    def hash_dentry(self, dentry: Dentry) -> None:
        """__d_rehash(); the lock of the directory prevents a name from being hashed twice."""
        place = deref(dentry.d_parent, "__d_rehash(): entry->d_parent"), dentry.d_name
        if place in self.dentry_hash:
            text = f"invariant dcache: {dentry.label} is hashed, and so is another one of that name"
            self.actor.world.report("invariant", "dcache", text)
        self.dentry_hash[place] = dentry
        dentry.is_hashed = True

    @operation(UPDATE)
    def unhash_dentry(self, dentry: Dentry) -> None:
        """__d_drop(); does nothing to a dentry that is not hashed."""
        if dentry.is_hashed and dentry.d_parent is not None:
            if self.dentry_hash.get((dentry.d_parent, dentry.d_name)) is dentry:
                del self.dentry_hash[dentry.d_parent, dentry.d_name]
            dentry.is_hashed = False

    # -- inodes: the hash by number, under inode_hash_lock, and the list of all inodes --------------------------------

    @operation(UPDATE)
    def get_next_ino(self) -> int:
        self.last_ino += 1
        return self.last_ino

    @operation(READ)
    def find_hashed_inode(self, ino: int) -> Inode | None:
        return self.inode_hash.get(ino)

    @operation(READ)
    def is_hashed(self, inode: Inode) -> bool:
        return self.inode_hash.get(inode.i_ino) is inode

    @operation(UPDATE)
    def hash_inode(self, inode: Inode) -> None:
        """__insert_inode_hash(); a second inode of one number would duplicate the file in memory."""
        self.inode_hash_lock.assert_held()
        if inode.i_ino in self.inode_hash:
            text = f"invariant inode: {inode.label} is hashed, and so is another one of that number"
            self.actor.world.report("invariant", "inode", text)
        self.inode_hash[inode.i_ino] = inode

    @operation(UPDATE)
    def unhash_inode(self, inode: Inode) -> None:
        """remove_inode_hash(), which wakes the execution contexts that wait for it."""
        self.inode_hash_lock.assert_held()
        if self.inode_hash.get(inode.i_ino) is inode:
            del self.inode_hash[inode.i_ino]

    def is_gone(self, inode: Inode) -> bool:
        return self.inode_hash.get(inode.i_ino) is not inode

    @operation(READ, when=is_gone, sleeps=True)
    def wait_on_freeing_inode(self, inode: Inode) -> None:
        """Sleep until *inode* is unhashed."""

    @operation(UPDATE)
    def add_inode(self, inode: Inode) -> None:
        self.s_inode_list_lock.assert_held()
        self.s_inodes.list_add_tail(inode)

    @operation(UPDATE)
    def delete_inode(self, inode: Inode) -> None:
        self.s_inode_list_lock.assert_held()
        self.s_inodes.list_del(inode)

    @operation(READ)
    def next_inode(self, after: Inode | None) -> Inode | None:
        """The inode behind *after*, which is on the list; for None the first."""
        return self.s_inodes.list_first_entry() if after is None else self.s_inodes.list_next_entry(after)

    @operation(UPDATE)
    def add_dirty_inode(self, inode: Inode) -> None:
        """inode_io_list_move_locked(): move the inode to the end of the list."""
        self.delete_dirty_inode(inode)
        self.dirty_inodes.list_add_tail(inode)

    @operation(UPDATE)
    def delete_dirty_inode(self, inode: Inode) -> None:
        """inode_io_list_del_locked(), if the inode is on the list."""
        self.wb_list_lock.assert_held()
        if inode in self.dirty_inodes:
            self.dirty_inodes.list_del(inode)

    @operation(READ)
    def is_dirty_inode(self, inode: Inode) -> bool:
        """!list_empty(&inode->i_io_list)."""
        return inode in self.dirty_inodes

    @operation(READ)
    def list_dirty_inodes(self) -> tuple[Inode, ...]:
        """The list as it is; wb->list_lock keeps it so."""
        return self.dirty_inodes.walk()

    # -- the disk: an access to a missing inode or name is a corruption -----------------------------------------------

    @operation(READ)
    def read_disk_inode(self, ino: int) -> DiskInode:
        return self._on_disk(ino, "is read") or DiskInode(None)

    @operation(UPDATE, sleeps=True, latency=DISK_NS)
    def write_disk_inode(self, ino: int, size: int, nlink: int) -> None:
        """Write an inode and its pages to the disk, and wait for the write."""
        on_disk = self._on_disk(ino, "is written")
        if on_disk is not None:
            on_disk.size, on_disk.nlink = size, nlink

    @operation(UPDATE)
    def add_disk_inode(self, ino: int, *, is_directory: bool) -> None:
        self.disk[ino] = DiskInode({} if is_directory else None)

    @operation(UPDATE)
    def delete_disk_inode(self, ino: int) -> None:
        if self._on_disk(ino, "is deleted") is not None:
            del self.disk[ino]

    @operation(READ, lifecycle=True)
    def read_entry(self, directory: int, name: str) -> int | None:
        """The inode number of a name in a directory."""
        return self._entries(directory).get(name)

    @operation(UPDATE)
    def add_entry(self, directory: int, name: str, ino: int) -> None:
        self._entries(directory)[name] = ino

    @operation(UPDATE)
    def delete_entry(self, directory: int, name: str) -> None:
        if self._entries(directory).pop(name, None) is None:
            self._corrupt(f"the name {name} is removed from inode {directory}, which does not have it")

    def _entries(self, directory: int) -> dict[str, int]:
        on_disk = self._on_disk(directory, "is used as a directory")
        if on_disk is not None and on_disk.entries is None:
            self._corrupt(f"inode {directory} is used as a directory, and is none")
        entries = on_disk.entries if on_disk is not None else None
        return entries if entries is not None else {}

    def _on_disk(self, ino: int, what: str) -> DiskInode | None:
        """The inode of that number on the disk; if its file has been deleted, report a corruption and return None."""
        on_disk = self.disk.get(ino)
        if on_disk is None:
            self._corrupt(f"inode {ino} {what}, though its file has been deleted")
        return on_disk

    def _corrupt(self, text: str) -> None:
        """Report a corruption that fsck or the next mount would find; the kernel goes on with the present contents."""
        self.actor.world.report("invariant", "disk", f"invariant disk: {self.s_id} is corrupt: {text}")


@attrs.define(eq=False)
class Vfs(Shared):
    """The global state of fs/: the superblocks, in the order of their mounts, and two locks."""

    sb_lock: SpinLock
    inode_hash_lock: SpinLock
    super_blocks: ListHead[SuperBlock] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.super_blocks = ListHead(self)

    @classmethod
    def boot(cls, world: World) -> Vfs:
        actor = Actor(world, "super_blocks")
        return cls(actor, SpinLock(actor, "sb_lock"), SpinLock.boot(world, "inode_hash_lock"))

    @property
    def label(self) -> str:
        return "super_blocks"

    @operation(UPDATE)
    def add(self, sb: SuperBlock) -> None:
        self.sb_lock.assert_held()
        self.super_blocks.list_add_tail(sb)

    @operation(READ)
    def list(self) -> tuple[SuperBlock, ...]:
        """The list as it is; sb_lock keeps it so."""
        return self.super_blocks.walk()


# -- mount ------------------------------------------------------------------------------------------------------------


@kernel_fn("vfs_get_tree", "fs/super.c")
async def vfs_get_tree(ctx: Context, s_type: FileSystemType) -> SuperBlock:
    """Mount a new filesystem of that type; its shrinker may be called before the mount is complete (SB_BORN)."""
    s = await alloc_super(ctx, s_type)
    async with SpinLockHeld(ctx, ctx.machine.vfs.sb_lock):
        await ctx.ask(ctx.machine.vfs.add, s)
    await register_shrinker_prepared(ctx, s.s_shrink)
    await ctx.ask(s.set_root, await make_root(ctx, s))
    await ctx.ask(s.set_born)
    await up_write(ctx, s.s_umount)
    return s


async def make_root(ctx: Context, s: SuperBlock) -> Dentry:
    """Make the root directory. The model has no unmount, so on -ENOMEM this tries again for a while."""
    for _ in range(MOUNT_TRIES):
        inode = await s.s_type.get_root(ctx, s)
        root = None if inode is None else await d_make_root(ctx, inode)
        if root is not None:
            return root
    msg = f"mount {s.s_id} failed {MOUNT_TRIES} times; no scenario goes on without: let the fault happen less often"
    raise UsageError(msg)


@kernel_fn("alloc_super", "fs/super.c")
async def alloc_super(ctx: Context, s_type: FileSystemType) -> SuperBlock:
    """Make a superblock with its lists and its shrinker; s_umount is held on return."""
    machine = ctx.machine
    s_id = f"{s_type.name}#{len(machine.vfs.super_blocks)}"
    actor = Actor(machine.world, f"super_block {s_id}")
    s_umount = RwSem(actor, "&type->s_umount_key")
    s = SuperBlock(actor, s_id, s_type, caches_of(machine, s_type), s_umount, machine.vfs.inode_hash_lock)
    await down_write(ctx, s.s_umount)
    s.s_shrink = Shrinker(
        actor,
        s,
        super_cache_count,
        super_cache_scan,
        nr_deferred=[0] * machine.config.nodes,
        batch=SUPER_BATCH,
    )
    await prealloc_shrinker(ctx, s.s_shrink)
    s.s_dentry_lru = await __list_lru_init(ctx, actor, f"s_dentry_lru of {s_id}", s.s_shrink.id)
    s.s_inode_lru = await __list_lru_init(ctx, actor, f"s_inode_lru of {s_id}", s.s_shrink.id)
    return s


def caches_of(machine: Machine, s_type: FileSystemType) -> FileCaches:
    """The machine's caches that a filesystem of that type uses."""
    return FileCaches(*(machine.root_cache(name) for name in ("filp", "dentry", s_type.inode_cache)))


@kernel_fn("reconfigure_super", "fs/super.c")
async def reconfigure_super(ctx: Context, sb: SuperBlock) -> None:
    """Free all unused dentries; the model has no mount options."""
    await shrink_dcache_sb(ctx, sb)


@kernel_fn("iterate_supers", "fs/super.c")
async def iterate_supers(ctx: Context, f: Callable[[Context, SuperBlock], Awaitable[None]]) -> None:
    """Call *f* for every mounted filesystem, with s_umount held for reading."""
    async with SpinLockHeld(ctx, ctx.machine.vfs.sb_lock):
        supers = await ctx.ask(ctx.machine.vfs.list)
    for sb in supers:
        await down_read(ctx, sb.s_umount)
        if await ctx.ask(sb.read_root) is not None and await ctx.ask(sb.is_born):
            await f(ctx, sb)
        await up_read(ctx, sb.s_umount)


# -- the shrinker -----------------------------------------------------------------------------------------------------


def super_block_of(shrinker: Shrinker) -> SuperBlock:
    """container_of(shrinker, struct super_block, s_shrink)."""
    assert isinstance(shrinker.container, SuperBlock)
    return shrinker.container


@kernel_fn("super_cache_count", "fs/super.c")
async def super_cache_count(ctx: Context, shrink: Shrinker, sc: ShrinkControl) -> int:
    """The number of unused dentries and inodes; vfs_cache_pressure is 100."""
    sb = super_block_of(shrink)
    if not await ctx.ask(sb.is_born):
        return 0
    total_objects = await list_lru_count_one(ctx, sb.s_dentry_lru, sc.nid, sc.memcg)
    total_objects += await list_lru_count_one(ctx, sb.s_inode_lru, sc.nid, sc.memcg)
    return total_objects or SHRINK_EMPTY


@kernel_fn("super_cache_scan", "fs/super.c")
async def super_cache_scan(ctx: Context, shrink: Shrinker, sc: ShrinkControl) -> int:
    """Scan dentries and inodes in proportion, plus one of each; dentries first, because they pin inodes."""
    sb = super_block_of(shrink)
    if Gfp.FS not in sc.gfp_mask or not await trylock_super(ctx, sb):
        return SHRINK_STOP
    inodes = await list_lru_count_one(ctx, sb.s_inode_lru, sc.nid, sc.memcg)
    dentries = await list_lru_count_one(ctx, sb.s_dentry_lru, sc.nid, sc.memcg)
    total_objects = dentries + inodes + 1 or 1
    budget = sc.nr_to_scan
    sc.nr_to_scan = as_unsigned(mult_frac(budget, dentries, total_objects) + 1)
    freed = await prune_dcache_sb(ctx, sb, sc)
    sc.nr_to_scan = as_unsigned(mult_frac(budget, inodes, total_objects) + 1)
    freed += await prune_icache_sb(ctx, sb, sc)
    await up_read(ctx, sb.s_umount)
    return freed


def mult_frac(x: int, numer: int, denom: int) -> int:
    """A fraction of *x*, computed with unsigned longs: a negative *numer* makes the result very large."""
    numer, denom = as_unsigned(numer), as_unsigned(denom)
    return as_unsigned(x // denom * numer + as_unsigned(x % denom * numer) // denom)


@kernel_fn("trylock_super", "fs/super.c")
async def trylock_super(ctx: Context, sb: SuperBlock) -> bool:
    """Take s_umount for reading, unless a writer holds it or waits for it, or the mount is not complete.

    6.12's super_trylock_shared() also fails while an unmount is under way, which the model does not have.
    """
    if not await down_read_trylock(ctx, sb.s_umount):
        return False
    if await ctx.ask(sb.read_root) is not None and await ctx.ask(sb.is_born):
        return True
    await up_read(ctx, sb.s_umount)
    return False
