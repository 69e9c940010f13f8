"""Files in a directory are opened by their paths, while all dentries are dropped.

A dentry holds a reference to its parent. When a shrinker kills the last dentry in a directory, it goes on with the
directory itself, and a lookup may have found the directory again by then (KERNEL.md 11.1, 11.5). The machine has two
nodes, each with LRU lists of its own.
"""

from __future__ import annotations

from actors.api import Context
from actors.linux.fs.dcache import DentryFlags, dput
from actors.linux.fs.drop_caches import SLAB, drop_caches_sysctl_handler
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.namei import do_mkdirat, filename_lookup
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from actors.oracles.vfs import all_dentries
from scenarios.api import Knob, Stage, machine, mkdir, run_in, scenario, small_cache
from scenarios.shared_dentry import forget_names, write_file

DIRECTORY, NAMES = "directory", ("a", "b")


@scenario(
    "drop-vs-path",
    "files in a directory are opened while their dentries are dropped",
    Knob("uses", "how often each file is opened and closed", 2, least=1),
    *machine(nodes=2),
)
def drop_vs_path(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", "ext4_inode_cache")])
    mounted: list[SuperBlock] = []

    async def open_all(ctx: Context) -> None:
        directory = await filename_lookup(ctx, mounted[0].root, DIRECTORY)
        if directory is not None:
            for name in NAMES:
                await write_file(ctx, directory, name)
            await dput(ctx, directory)

    async def make_directory(ctx: Context) -> None:
        """Make and use the files on the last node; a first file causes the creation of the child caches."""
        mounted.append(await vfs_get_tree(ctx, EXT4))
        cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        await run_in(ctx, cgroup, lambda ctx: write_file(ctx, mounted[0].root, "first"))
        await ctx.settle()
        await ctx.migrate(machine.cpus[-1])
        await run_in(ctx, cgroup, make_files)

    async def make_files(ctx: Context) -> None:
        await do_mkdirat(ctx, mounted[0].root, DIRECTORY)
        await open_all(ctx)

    async def use(ctx: Context) -> None:
        for _ in range(stage.knobs["uses"]):
            await open_all(ctx)

    stage.set_up(make_directory)
    stage.task("use", use)
    stage.task("drop", lambda ctx: drop_caches_sysctl_handler(ctx, SLAB), cpu=1)
    stage.wind_up(lambda ctx: forget_names(ctx, mounted[0]))
    stage.sometimes("a file's dentry is being dropped while its directory is in use", lambda: is_in_use(mounted))


def is_in_use(mounted: list[SuperBlock]) -> bool:
    """Whether a dentry is on a shrink list while its parent has other references than those of its children."""
    return any(
        DentryFlags.SHRINK_LIST in dentry.d_flags and parent.d_lockref.count > len(parent.d_subdirs)
        for sb in mounted
        for parent in all_dentries(sb)
        for dentry in parent.d_subdirs
    )
