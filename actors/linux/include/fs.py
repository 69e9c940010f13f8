"""Prototypes of include/linux/fs.h and fs/internal.h: calls of mm/ and fs/inode.c into fs/fs-writeback.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.machine.context import Context
from actors.versions.kernel_fn import extern

if TYPE_CHECKING:
    from actors.linux.fs.inode import Inode


@extern
async def __mark_inode_dirty(ctx: Context, inode: Inode) -> None: ...


@extern
async def inode_io_list_del(ctx: Context, inode: Inode) -> None: ...
