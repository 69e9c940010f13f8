"""Unused inodes are pruned, or only lose their pages, while some of them are removed.

An inode that rests with pages loses these first. The shrinker lets go of the list meanwhile, and must begin with it
again (LRU_RETRY): what came next on it may have left the list, and been freed (KERNEL.md 11.5). Who only drops pages
goes along the list of all inodes, and holds the one that he is at.
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
    "inodes with pages, which nobody uses, are pruned while their files are removed",
    Knob("files", "files, each with a page; every second one is removed", 4, least=2, most=60),
    *MACHINE,
)
def prune_vs_unlink(stage: Stage) -> None:
    machine, mounted = set_stage(stage, SLAB)
    stage.sometimes(
        "a file is removed while the shrinker is at the lists",
        lambda: bool(machine.shrinkers.rwsem.readers) and is_any_nameless(mounted),
    )


@scenario(
    "drop-pages-vs-unlink",
    "inodes that nobody uses lose their pages while their files are removed",
    Knob("files", "files, each with a page; every second one is removed", 4, least=2, most=60),
    *MACHINE,
)
def drop_pages_vs_unlink(stage: Stage) -> None:
    _, mounted = set_stage(stage, PAGE_CACHE)
    stage.sometimes("a file is removed while somebody holds its inode", lambda: is_any_nameless(mounted))


def set_stage(stage: Stage, what: int) -> tuple[Machine, list[SuperBlock]]:
    """Files that only rest; one task drops *what*, the other one removes every second file."""
    machine = stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", "ext4_inode_cache")])
    mounted: list[SuperBlock] = []
    names = [str(number) for number in range(stage.knobs["files"])]

    async def write_files(ctx: Context) -> None:
        """They are clean, and no dentry holds them any more."""
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
    """Whether an inode is there that has lost its name."""
    return any(not inode.i_nlink for sb in mounted for inode in sb.s_inodes)
