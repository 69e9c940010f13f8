"""Unused inodes are pruned, or only lose their pages, while some of their files are removed.

The shrinker first drops the pages of an unused inode. For this it releases the list's lock, so it must start again at
the head of the list (LRU_RETRY): the next inode may have left the list and been freed (KERNEL.md 11.5). The drop of
pages alone walks the list of all inodes, and holds a reference to the current one.
"""

from __future__ import annotations

from actors.api import Context, Machine
from actors.linux.fs.drop_caches import PAGE_CACHE, SLAB, drop_caches_sysctl_handler
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.namei import do_unlinkat
from actors.linux.fs.namespace import do_remount
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from scenarios.api import MACHINE, Knob, Stage, scenario, small_cache
from scenarios.shared_dentry import write_file


@scenario(
    "prune-vs-unlink",
    "unused inodes with pages are pruned while their files are removed",
    Knob("files", "files, each with a page; every second one is removed", 4, least=2, most=60),
    *MACHINE,
)
def prune_vs_unlink(stage: Stage) -> None:
    machine, mounted = set_stage(stage, SLAB)
    stage.sometimes(
        "a file is removed while the shrinker walks the lists",
        lambda: bool(machine.shrinkers.rwsem.readers) and is_any_nameless(mounted),
    )


@scenario(
    "drop-pages-vs-unlink",
    "unused inodes lose their pages while their files are removed",
    Knob("files", "files, each with a page; every second one is removed", 4, least=2, most=60),
    *MACHINE,
)
def drop_pages_vs_unlink(stage: Stage) -> None:
    _, mounted = set_stage(stage, PAGE_CACHE)
    stage.sometimes("a file is removed while a task holds its inode", lambda: is_any_nameless(mounted))


def set_stage(stage: Stage, what: int) -> tuple[Machine, list[SuperBlock]]:
    """Set the stage with unused files; one task drops *what*, the other task removes every second file."""
    machine = stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", "ext4_inode_cache")])
    mounted: list[SuperBlock] = []
    names = [str(number) for number in range(stage.knobs["files"])]

    async def write_files(ctx: Context) -> None:
        """Write the files, sync them, and drop their dentries."""
        mounted.append(await vfs_get_tree(ctx, EXT4))
        for name in names:
            await write_file(ctx, mounted[0].root, name, 1)
        await sync_inodes_sb(ctx, mounted[0])
        await do_remount(ctx, mounted[0])

    async def remove(ctx: Context) -> None:
        for name in names[1::2]:
            await do_unlinkat(ctx, mounted[0].root, name)

    stage.set_up(write_files)
    stage.task("drop", lambda ctx: drop_caches_sysctl_handler(ctx, what))
    stage.task("unlink", remove, cpu=1)
    return machine, mounted


def is_any_nameless(mounted: list[SuperBlock]) -> bool:
    """Whether an inode in memory has no name any more."""
    return any(not inode.i_nlink for sb in mounted for inode in sb.s_inodes)
