"""A file of a cgroup is removed while it is being written back.

Writeback holds no reference to the inode, only I_SYNC. The unlink of the last name frees the inode in memory and on the
disk, and has to wait until the inode has been written. The pages are charged to a cgroup, and the inode is an object of
this cgroup's child cache.
"""

from __future__ import annotations

from actors.api import Cgroup, Context
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.inode import InodeState
from actors.linux.fs.namei import do_unlinkat
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, mkdir, rmdir, run_in, scenario, small_cache
from scenarios.shared_dentry import forget_names, write_file


@scenario(
    "unlink-vs-sync",
    "a file is removed while it is being written back",
    Knob("files", "files that are written, then removed one after the other", 1, least=1, most=20),
    Knob("pages", "pages that each of them has", 6, least=1, most=100),
    *MACHINE,
)
def unlink_vs_sync(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", "ext4_inode_cache")])
    mounted: list[SuperBlock] = []
    cgroups: list[Cgroup] = []
    names = [str(number) for number in range(stage.knobs["files"])]

    async def write(ctx: Context, names: list[str]) -> None:
        for name in names:
            await write_file(ctx, mounted[0].root, name, stage.knobs["pages"])

    async def write_files(ctx: Context) -> None:
        """A first file causes the creation of the child caches, and is synced; the files of the race are dirty."""
        mounted.append(await vfs_get_tree(ctx, EXT4))
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await run_in(ctx, cgroups[0], lambda ctx: write(ctx, ["first"]))
        await sync_inodes_sb(ctx, mounted[0])
        await ctx.settle()
        await run_in(ctx, cgroups[0], lambda ctx: write(ctx, names))

    async def remove(ctx: Context) -> None:
        for name in names:
            await do_unlinkat(ctx, mounted[0].root, name)

    async def clean_up(ctx: Context) -> None:
        await forget_names(ctx, mounted[0])
        await rmdir(ctx, cgroups[0])
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(write_files)
    stage.task("sync", lambda ctx: sync_inodes_sb(ctx, mounted[0]))
    stage.task("unlink", remove, cpu=1)
    stage.wind_up(clean_up)
    stage.sometimes("a file is being freed while it is being written", lambda: is_written_and_freed(mounted))
    stage.eventually("no inode without a name is left on the disk", lambda: not nameless(mounted[0]))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def is_written_and_freed(mounted: list[SuperBlock]) -> bool:
    """Whether an inode is being freed while it is being written."""
    both = InodeState.SYNC | InodeState.FREEING
    return any(inode.i_state & both == both for sb in mounted for inode in sb.inode_hash.values())


def nameless(sb: SuperBlock) -> set[int]:
    """The numbers of the inodes on the disk that no directory lists, except the root's."""
    named = {ino for on_disk in sb.disk.values() for ino in (on_disk.entries or {}).values()}
    root = sb.root.d_inode
    return sb.disk.keys() - named - ({root.i_ino} if root is not None else set())
