"""Open files: allocation, reference count, release. fs/file_table.c @5.3.1."""

from __future__ import annotations

import attrs

from actors.linux.fs.dcache import Dentry, dput
from actors.linux.fs.super import SuperBlock
from actors.linux.include.slab import kmem_cache_alloc, kmem_cache_free
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.linux.mm.kmem_cache import SlabObject
from actors.machine.context import Context, deref
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import UPDATE, operation


@attrs.define(eq=False)
class File(Shared):
    """struct file: an open file. Its path holds a reference to the dentry; `f_count` is the descriptor's reference."""

    sb: SuperBlock
    obj: SlabObject
    f_path: Dentry | None = attrs.field(default=None, init=False)
    f_count: int = attrs.field(default=1, init=False)
    fu_rcuhead: RcuHead = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.fu_rcuhead = RcuHead(self)

    @property
    def label(self) -> str:
        return f"file {self.f_path.d_name if self.f_path else 'that was not opened'} of {self.sb.s_id}"

    @property
    def dentry(self) -> Dentry:
        """The dentry that was opened."""
        return deref(self.f_path, "file->f_path.dentry")

    @operation(UPDATE)
    def put_testzero(self) -> bool:
        self.f_count -= 1
        return not self.f_count

    @operation(UPDATE)
    def poison(self) -> None:
        """Record a write of the whole struct, whose memory is about to be reused."""


# -- struct file ------------------------------------------------------------------------------------------------------


@kernel_fn("alloc_empty_file", "fs/file_table.c")
async def alloc_empty_file(ctx: Context, sb: SuperBlock) -> File | None:
    obj = await kmem_cache_alloc(ctx, sb.caches.filp)
    if obj is None:
        return None
    file = File(sb.actor, sb, obj)
    sb.files[file] = None
    return file


@kernel_fn("fput", "fs/file_table.c")
async def fput(ctx: Context, file: File) -> None:
    """Drop a reference; after the last one the task calls __fput() before it returns to user mode."""
    if await ctx.ask(file.put_testzero):
        await __fput(ctx, file)


@kernel_fn("__fput", "fs/file_table.c")
async def __fput(ctx: Context, file: File) -> None:
    """Drop the dentry, then free the file."""
    await dput(ctx, file.f_path)
    await file_free(ctx, file)


@kernel_fn("file_free", "fs/file_table.c")
async def file_free(ctx: Context, file: File) -> None:
    await call_rcu(ctx, file.fu_rcuhead, file_free_rcu)


@kernel_fn("file_free_rcu", "fs/file_table.c")
async def file_free_rcu(ctx: Context, head: RcuHead) -> None:
    """RCU callback: free the file."""
    file = head.container
    assert isinstance(file, File)
    await ctx.ask(file.poison)
    file.sb.files.pop(file, None)
    ctx.kfree(file)
    await kmem_cache_free(ctx, file.sb.caches.filp, file.obj)
