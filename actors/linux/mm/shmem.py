"""tmpfs: a filesystem whose files are in memory only. mm/shmem.c, fs/libfs.c @5.3.1; KERNEL.md 11.7.

mm/shmem.c is a filesystem, but the kernel has it in mm/. A name exists as long as its dentry. Creation takes an
additional reference to the dentry, and only unlink drops it. So a file that has a name has nothing on an LRU, and a
dentry or inode without references is freed at once. Its pages have no place on a disk; without swap, reclaim cannot
take them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.linux.fs.dcache import d_instantiate, dget, dput
from actors.linux.fs.inode import alloc_inode_sb, clear_inode, free_inode_object, generic_delete_inode, new_inode
from actors.linux.fs.libfs import simple_lookup
from actors.linux.fs.super import FileSystemType
from actors.linux.include.slab import kmem_cache_alloc
from actors.linux.include.swap import lru_add_drain
from actors.linux.kernel.locking.locks import RwSem
from actors.linux.mm.kmem_cache import SlabObject
from actors.linux.mm.truncate import truncate_inode_page, truncate_inode_pages_final
from actors.machine.context import Context, deref
from actors.versions.kernel_fn import kernel_fn

if TYPE_CHECKING:
    from actors.linux.fs.dcache import Dentry
    from actors.linux.fs.file_table import File
    from actors.linux.fs.inode import Inode
    from actors.linux.fs.super import SuperBlock


# -- inodes and names -------------------------------------------------------------------------------------------------


@kernel_fn("shmem_alloc_inode", "mm/shmem.c", profiles="..5.4-fixed")
async def shmem_alloc_inode(ctx: Context, sb: SuperBlock) -> SlabObject | None:
    return await kmem_cache_alloc(ctx, sb.caches.inode)


@kernel_fn("shmem_alloc_inode", "mm/shmem.c", profiles="6.12..")
async def shmem_alloc_inode_6_12(ctx: Context, sb: SuperBlock) -> SlabObject | None:
    """[6.12] By alloc_inode_sb()."""
    return await alloc_inode_sb(ctx, sb)


@kernel_fn("shmem_get_inode", "mm/shmem.c")
async def shmem_get_inode(ctx: Context, sb: SuperBlock, *, is_directory: bool) -> Inode | None:
    """Make an inode. It is in no hash: lookups find it through its dentry only."""
    inode = await new_inode(ctx, sb)
    if inode is not None and is_directory:
        inode.i_rwsem = RwSem(sb.actor, "&type->i_mutex_dir_key")
    return inode


@kernel_fn("shmem_fill_super", "mm/shmem.c")
async def shmem_fill_super(ctx: Context, sb: SuperBlock) -> Inode | None:
    """Make the inode of the root directory."""
    return await shmem_get_inode(ctx, sb, is_directory=True)


@kernel_fn("shmem_evict_inode", "mm/shmem.c")
async def shmem_evict_inode(ctx: Context, inode: Inode) -> None:
    await truncate_inode_pages_final(ctx, inode)
    await clear_inode(ctx, inode)


@kernel_fn("shmem_destroy_inode", "mm/shmem.c")
async def shmem_destroy_inode(ctx: Context, inode: Inode) -> None:
    """mpol_free_shared_policy(): reads the inode's policy; the model's files have none."""
    await ctx.ask(inode.read_shared_policy)


@kernel_fn("shmem_free_in_core_inode", "mm/shmem.c")
async def shmem_free_in_core_inode(ctx: Context, inode: Inode) -> None:
    await free_inode_object(ctx, inode)


@kernel_fn("shmem_mknod", "mm/shmem.c")
async def shmem_mknod(ctx: Context, directory: Inode, dentry: Dentry, *, is_directory: bool) -> bool:
    """Make a file and pin its dentry; False is -ENOSPC."""
    inode = await shmem_get_inode(ctx, directory.i_sb, is_directory=is_directory)
    if inode is None:
        return False
    await d_instantiate(ctx, dentry, inode)
    await dget(ctx, dentry)
    return True


@kernel_fn("shmem_create", "mm/shmem.c")
async def shmem_create(ctx: Context, directory: Inode, dentry: Dentry) -> bool:
    return await shmem_mknod(ctx, directory, dentry, is_directory=False)


@kernel_fn("shmem_mkdir", "mm/shmem.c")
async def shmem_mkdir(ctx: Context, directory: Inode, dentry: Dentry) -> bool:
    return await shmem_mknod(ctx, directory, dentry, is_directory=True)


@kernel_fn("shmem_unlink", "mm/shmem.c")
async def shmem_unlink(ctx: Context, directory: Inode, dentry: Dentry) -> None:
    """Drop the creation's reference to the dentry; the last dput() frees dentry and inode."""
    inode = deref(await ctx.ask(dentry.read_inode), "shmem_unlink(): dentry->d_inode")
    await ctx.ask(inode.add_nlink, -1)
    await dput(ctx, dentry)


# -- holes ------------------------------------------------------------------------------------------------------------


@kernel_fn("shmem_fallocate", "mm/shmem.c")
async def shmem_fallocate(ctx: Context, file: File, first: int, nr_pages: int) -> None:
    """With FALLOC_FL_PUNCH_HOLE: free *nr_pages* pages from *first* on; the size stays. The model maps no files."""
    inode = deref(file.dentry.d_inode, "shmem_fallocate(): file->f_inode")
    await shmem_truncate_range(ctx, inode, first, first + nr_pages - 1)


@kernel_fn("shmem_truncate_range", "mm/shmem.c")
async def shmem_truncate_range(ctx: Context, inode: Inode, first: int, last: int) -> None:
    """Remove the pages from *first* to *last*, in use or not; there is no swap."""
    for page in await ctx.ask(inode.list_pages):
        if first <= page.index <= last:
            await truncate_inode_page(ctx, inode, page)
    await lru_add_drain(ctx)  # as for a file that is deleted


TMPFS = FileSystemType(
    name="tmpfs",
    inode_cache="shmem_inode_cache",
    get_root=shmem_fill_super,
    alloc_inode=shmem_alloc_inode,
    destroy_inode=shmem_destroy_inode,
    free_inode=shmem_free_in_core_inode,
    evict_inode=shmem_evict_inode,
    drop_inode=generic_delete_inode,
    always_deletes_dentries=True,
    has_reclaimable_pages=False,
    lookup=simple_lookup,
    create=shmem_create,
    mkdir=shmem_mkdir,
    unlink=shmem_unlink,
)
