"""Open temporary files grow and lose their names while they are being written back.

Writeback clears I_DIRTY first, and reads the inode afterwards. A change in between makes the inode dirty again, and it
is written once more. So at the end the disk has the same contents as memory. This includes files without a name,
because a real filesystem has to clean them up after a crash.
"""

from __future__ import annotations

from actors.api import Context
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.file_table import File, fput
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.inode import InodeState
from actors.linux.fs.namei import do_filp_open, do_unlinkat
from actors.linux.fs.read_write import vfs_write
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from scenarios.api import MACHINE, Knob, Stage, scenario, small_cache


@scenario(
    "temporary-vs-sync",
    "open files are removed while they are being written back",
    Knob("files", "files that are made, written to and removed while they stay open", 2, least=1, most=20),
    *MACHINE,
)
def temporary_vs_sync(stage: Stage) -> None:
    stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", "ext4_inode_cache")])
    mounted: list[SuperBlock] = []
    files: list[File] = []

    async def make_files(ctx: Context) -> None:
        """Make dirty inodes, so that the race begins with their writeback."""
        mounted.append(await vfs_get_tree(ctx, EXT4))
        await sync_inodes_sb(ctx, mounted[0])
        for number in range(stage.knobs["files"]):
            file = await do_filp_open(ctx, mounted[0].root, str(number), creat=True)
            files.extend([file] if file is not None else [])

    async def write_and_remove(ctx: Context) -> None:
        for file in files:
            await vfs_write(ctx, file, 1)
            await do_unlinkat(ctx, mounted[0].root, file.dentry.d_name)

    async def close(ctx: Context) -> None:
        for file in files:
            await fput(ctx, file)

    stage.set_up(make_files)
    stage.task("remove", write_and_remove)
    stage.task("sync", lambda ctx: sync_inodes_sb(ctx, mounted[0]), cpu=1)
    stage.wind_up(close)
    stage.sometimes("a file has lost its name while it is being written", lambda: is_any_written_late(files))


def is_any_written_late(files: list[File]) -> bool:
    """Whether an inode without a name has become dirty again while it is being written."""
    both = InodeState.SYNC | InodeState.DIRTY
    inodes = [file.dentry.d_inode for file in files]
    return any(inode and inode.i_state & both == both and not inode.i_nlink for inode in inodes)
