"""Mounts: only the remount of a filesystem. fs/namespace.c @5.3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.linux.fs.super import reconfigure_super
from actors.linux.kernel.locking.locks import down_write, up_write
from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn

if TYPE_CHECKING:
    from actors.linux.fs.super import SuperBlock


@kernel_fn("do_remount", "fs/namespace.c")
async def do_remount(ctx: Context, sb: SuperBlock) -> None:
    """Remount with other options; s_umount, held for writing, keeps shrinkers out."""
    await down_write(ctx, sb.s_umount)
    await reconfigure_super(ctx, sb)
    await up_write(ctx, sb.s_umount)
