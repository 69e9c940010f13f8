"""Filesystems are mounted and remounted while a new cgroup makes the arrays of LRU lists grow.

The lists of a new filesystem either have room for the new cgroup, or the growth finds them: both sides hold
memcg_cache_ids_sem. A remount walks the lists of all ids that exist at that time. At the end the cgroup makes a file in
each mounted filesystem (KERNEL.md 11.1).
"""

from __future__ import annotations

import functools

from actors.api import Cgroup, Context, Machine
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.namespace import do_remount
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, mkdir, rmdir, run_in, scenario, small_cache
from scenarios.shared_dentry import forget_names, make_files


@scenario(
    "mount-vs-mkdir",
    "filesystems are mounted, and one is remounted, while a cgroup is made that their LRU lists need room for",
    Knob("mounts", "filesystems that are mounted, one after the other", 2, least=1, most=10),
    *MACHINE,
)
def mount_vs_mkdir(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", "ext4_inode_cache")])
    mounted: list[SuperBlock] = []
    cgroups: list[Cgroup] = []

    async def make_cgroup(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, f"job{len(cgroups)}"))

    async def fill_arrays(ctx: Context) -> None:
        """Mount the first filesystem, and make as many cgroups as the arrays have room for."""
        mounted.append(await vfs_get_tree(ctx, EXT4))
        await make_cgroup(ctx)
        while len(machine.memcgs()) < machine.memcg_nr_cache_ids:
            await make_cgroup(ctx)

    async def mount(ctx: Context) -> None:
        mounted.extend([await vfs_get_tree(ctx, EXT4) for _ in range(stage.knobs["mounts"])])

    async def use(ctx: Context) -> None:
        """Make a file in each filesystem; the first file causes the creation of the child caches for the others."""
        for sb in mounted:
            await run_in(ctx, cgroups[-1], functools.partial(make_files, directory=sb.root, names=["file"]))
            await sync_inodes_sb(ctx, sb)
            await ctx.settle()
        await forget_names(ctx, mounted[0])
        for cgroup in cgroups:
            await rmdir(ctx, cgroup)
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(fill_arrays)
    stage.task("mount", mount)
    stage.task("mkdir", make_cgroup, cpu=1)
    stage.task("remount", lambda ctx: do_remount(ctx, mounted[0]))
    stage.wind_up(use)
    stage.sometimes("the arrays have grown while a mount is not complete", lambda: is_growing(machine, mounted))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def is_growing(machine: Machine, mounted: list[SuperBlock]) -> bool:
    """Whether the first filesystem has lists for more memcgs than exist, while another one has no root yet."""
    is_mounting = any(sb.s_root is None for sb in machine.vfs.super_blocks)
    lists = [len(node.memcg_lrus.lru) for sb in mounted[:1] for node in sb.s_dentry_lru.nodes]
    return is_mounting and max(lists, default=0) > len(machine.memcgs())
