"""One file is opened by two names in two directories at once and gets a third name; then it is removed.

Of two tasks that need the same inode, only one reads it from the disk. The other task holds the lock of another
directory. It finds the inode in the hash by its number, and has to wait until the inode has been read (I_NEW;
KERNEL.md 11.7).
"""

from __future__ import annotations

from actors.api import Context, deref
from actors.linux.fs.dcache import Dentry, dput
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.file_table import fput
from actors.linux.fs.inode import InodeState
from actors.linux.fs.namei import do_filp_open, do_linkat, do_mkdirat, do_unlinkat, filename_lookup
from actors.linux.fs.read_write import vfs_read
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from scenarios.api import MACHINE, Knob, Stage, scenario, small_cache
from scenarios.shared_dentry import forget_names, write_file

DIRECTORIES = ("a", "b")


@scenario(
    "links-race",
    "a file that is not in memory is opened by two names at once, and gets a third name",
    Knob("uses", "how often it is opened by each name", 1, least=1),
    *MACHINE,
)
def links_race(stage: Stage) -> None:
    stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", "ext4_inode_cache")])
    mounted: list[SuperBlock] = []
    directories: list[Dentry] = []
    sizes: list[int] = []

    async def make_names(ctx: Context) -> None:
        """Make the file with two names, and drop it from memory; both directories stay in use."""
        mounted.append(await vfs_get_tree(ctx, EXT4))
        for name in DIRECTORIES:
            await do_mkdirat(ctx, mounted[0].root, name)
            directory = await filename_lookup(ctx, mounted[0].root, name)
            directories.extend([directory] if directory is not None else [])
        await write_file(ctx, directories[0], "file", 1)
        await do_linkat(ctx, directories[0], "file", directories[-1], "file")
        await forget_names(ctx, mounted[0])

    def add_reader(number: int) -> None:
        async def read(ctx: Context) -> None:
            for _ in range(stage.knobs["uses"]):
                file = await do_filp_open(ctx, directories[number], "file")
                if file is not None:
                    sizes.append(deref(file.dentry.d_inode, "file->f_inode").i_size)
                    await vfs_read(ctx, file)
                    await fput(ctx, file)

        stage.task(f"read{number}", read, cpu=number)

    async def add_name(ctx: Context) -> None:
        await do_linkat(ctx, directories[0], "file", directories[-1], "another")

    async def forget(ctx: Context) -> None:
        for directory in directories:
            for name in ("file", "another"):
                await do_unlinkat(ctx, directory, name)
            await dput(ctx, directory)
        await forget_names(ctx, mounted[0])

    stage.set_up(make_names)
    for number in range(len(DIRECTORIES)):
        add_reader(number)
    stage.task("link", add_name, cpu=1)
    stage.wind_up(forget)
    stage.sometimes("a task waits for an inode that another one is reading", lambda: is_any_shared_early(mounted))
    stage.eventually("every open finds the file with its full size", lambda: all(size == 1 for size in sizes))


def is_any_shared_early(mounted: list[SuperBlock]) -> bool:
    """Whether an inode that has not been read yet has two references."""
    return any(
        InodeState.NEW in inode.i_state and inode.i_count > 1 for sb in mounted for inode in sb.inode_hash.values()
    )
