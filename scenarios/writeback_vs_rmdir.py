"""Files on a disk are written, read, written back and dropped, while the cgroup that they belong to is removed.

Their pages are charged to the cgroup of the task that writes them, and their inodes and dentries are objects of its
child caches; all of these outlive the task. A dirty inode is on no LRU list. After a sync it is on a list, which the
offlining moves to the parent. A dropped name is looked up on the disk again, perhaps while its old inode is being
freed.
"""

from __future__ import annotations

from actors.api import Cgroup, Context
from actors.linux.fs.drop_caches import PAGE_CACHE, SLAB, drop_caches_sysctl_handler
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.file_table import fput
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.namei import do_filp_open, do_mkdirat, do_unlinkat
from actors.linux.fs.namespace import do_remount
from actors.linux.fs.read_write import vfs_read
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, mkdir, rmdir, run_in, scenario, small_cache
from scenarios.shared_dentry import forget_names, make_files, write_file

OLD, DIRTY, NEW, DIRECTORY = "old", "dirty", ("temporary", "new"), "directory"
EMPTY = ("a", "b", "c")


@scenario(
    "writeback-vs-rmdir",
    "files are written, read, written back and dropped from memory while their cgroup is removed",
    Knob("reads", "how often the old file is opened and read", 2, least=1),
    *MACHINE,
)
def writeback_vs_rmdir(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", "ext4_inode_cache")])
    mounted: list[SuperBlock] = []
    cgroups: list[Cgroup] = []

    async def write(ctx: Context, name: str) -> None:
        await write_file(ctx, mounted[0].root, name, 1)

    async def make_cgroup(ctx: Context) -> None:
        """Make the child caches, clean unused inodes on the LRU lists, and one dirty inode."""
        mounted.append(await vfs_get_tree(ctx, EXT4))
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await run_in(ctx, cgroups[0], lambda ctx: write(ctx, "first"))
        await ctx.settle()
        await run_in(ctx, cgroups[0], lambda ctx: write(ctx, OLD))
        await make_files(ctx, mounted[0].root, list(EMPTY))
        await sync_inodes_sb(ctx, mounted[0])
        await do_remount(ctx, mounted[0])  # drops the dentries; the inodes stay
        await run_in(ctx, cgroups[0], lambda ctx: write(ctx, DIRTY))
        await cgroup_attach_task(ctx, cgroups[0], writer)

    async def write_new(ctx: Context) -> None:
        """Make a directory, a file that is removed at once, and a file that stays."""
        await do_mkdirat(ctx, mounted[0].root, DIRECTORY)
        for name in NEW:
            await write(ctx, name)
        await do_unlinkat(ctx, mounted[0].root, NEW[0])

    async def read_old(ctx: Context) -> None:
        """Read the old files, and remove one: its inode may still be on the LRU list, or be on it again."""
        for name in (*EMPTY, *[OLD] * stage.knobs["reads"]):
            file = await do_filp_open(ctx, mounted[0].root, name)
            if file is not None:
                await vfs_read(ctx, file)
                await fput(ctx, file)
        await do_unlinkat(ctx, mounted[0].root, OLD)

    async def forget(ctx: Context) -> None:
        for what in (SLAB, PAGE_CACHE):
            await drop_caches_sysctl_handler(ctx, what)

    async def forget_all(ctx: Context) -> None:
        await forget_names(ctx, mounted[0])
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(make_cgroup)
    writer = stage.task("write", write_new)
    stage.task("read", read_old, cpu=1)
    stage.task("sync", lambda ctx: sync_inodes_sb(ctx, mounted[0]))
    stage.task("drop", forget)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
    stage.wind_up(forget_all)
    stage.sometimes("pages of files keep a cgroup that is dead", lambda: keeps_pages(cgroups))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def keeps_pages(cgroups: list[Cgroup]) -> bool:
    """Whether pages of files are charged to the cgroup that is removed."""
    memcg = cgroups[0].css.memcg if cgroups and cgroups[0].has_css and cgroups[0].is_dead else None
    return memcg is not None and memcg.cache_pages > 0
