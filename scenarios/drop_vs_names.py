"""All unused dentries are dropped, while other tasks put dentries onto the LRU lists or remove their names.

A shrinker that finds the lists of a memcg empty clears the memcg's bit, and then counts once more, because the first
item may have been added in between (KERNEL.md 11.4). It moves the dentries that it finds to a list of its own, drops
the LRU's lock, and kills the dentries one by one. If another task kills such a dentry first, the shrinker still frees
it (11.1).
"""

from __future__ import annotations

from actors.api import Context
from actors.linux.fs.dcache import DentryFlags
from actors.linux.fs.drop_caches import SLAB, drop_caches_sysctl_handler
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.file_table import File, fput
from actors.linux.fs.namei import do_filp_open, do_unlinkat
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from actors.oracles.vfs import all_dentries
from scenarios.api import MACHINE, Knob, Stage, enter, mkdir, scenario, small_cache
from scenarios.shared_dentry import make_files

CACHES = ("filp", "dentry", "ext4_inode_cache")


@scenario(
    "drop-vs-close",
    "unused dentries are dropped while a file is closed whose dentry is the first on the list of its cgroup",
    Knob("cgroups", "cgroups, each with such a file", 2, least=1, most=60),
    *MACHINE,
)
def drop_vs_close(stage: Stage) -> None:
    """The files have been open since their creation. The LRU lists have been used before and are empty again."""
    machine = stage.boot(caches=[small_cache(name) for name in CACHES])
    mounted: list[SuperBlock] = []
    files: list[File] = []

    async def make_lists(ctx: Context) -> None:
        mounted.append(await vfs_get_tree(ctx, EXT4))
        for number in range(stage.knobs["cgroups"]):
            await enter(ctx, await mkdir(ctx, machine.root_cgroup, f"job{number}"))
            await make_files(ctx, mounted[0].root, [f"{number}.before", f"{number}.used"])
            file = await do_filp_open(ctx, mounted[0].root, f"{number}.first", creat=True)
            files.extend([file] if file is not None else [])
        await enter(ctx, machine.root_cgroup)
        while has_unused(mounted[0]):
            await drop_caches_sysctl_handler(ctx, SLAB)

    async def close(ctx: Context) -> None:
        for file in files:
            await fput(ctx, file)

    stage.set_up(make_lists)
    shrinker = stage.task("drop", lambda ctx: drop_caches_sysctl_handler(ctx, SLAB))
    stage.task("close", close, cpu=1)
    stage.sometimes(
        "a dentry is added to an empty list while the shrinker walks the lists",
        lambda: shrinker in machine.shrinkers.rwsem.readers and any(map(is_unused, files)),
    )


@scenario(
    "drop-vs-unlink",
    "unused dentries are dropped while files of these names are opened, removed and closed",
    Knob("files", "files that are opened, removed and closed, one after the other", 3, least=1, most=60),
    *MACHINE,
)
def drop_vs_unlink(stage: Stage) -> None:
    """A program uses temporary files: it unlinks each open file, and the last close kills the dentry."""
    stage.boot(caches=[small_cache(name) for name in CACHES])
    mounted: list[SuperBlock] = []
    names = [str(number) for number in range(stage.knobs["files"])]

    async def make_names(ctx: Context) -> None:
        mounted.append(await vfs_get_tree(ctx, EXT4))
        await make_files(ctx, mounted[0].root, names)

    async def remove(ctx: Context) -> None:
        for name in names:
            file = await do_filp_open(ctx, mounted[0].root, name)
            await do_unlinkat(ctx, mounted[0].root, name)
            if file is not None:
                await fput(ctx, file)

    stage.set_up(make_names)
    stage.task("drop", lambda ctx: drop_caches_sysctl_handler(ctx, SLAB))
    stage.task("remove", remove, cpu=1)
    stage.sometimes("a name is removed whose dentry is on the shrinker's list", lambda: is_any_removed(mounted))


def is_unused(file: File) -> bool:
    """Whether the file's dentry is on an LRU list, which means that the file is not open any more."""
    return file.f_path is not None and file.f_path.d_lru.on is not None


def is_any_removed(mounted: list[SuperBlock]) -> bool:
    """Whether an unhashed dentry is on the list of a shrinker."""
    return any(
        DentryFlags.SHRINK_LIST in dentry.d_flags and not dentry.is_hashed
        for sb in mounted
        for dentry in all_dentries(sb)
    )


def has_unused(sb: SuperBlock) -> bool:
    """Whether any dentry or inode is on an LRU list."""
    return any(node.nr_items for lru in (sb.s_dentry_lru, sb.s_inode_lru) for node in lru.nodes)
