"""Filesystems are mounted, and one is remounted, while kswapd and direct reclaim call their shrinkers.

Reclaim may find a shrinker before its filesystem is complete. The remount keeps the shrinker of its filesystem out
while it drops the dentries. Both filesystems have LRU lists for every cgroup, and one cgroup is removed during the race
(KERNEL.md 11.1 to 11.4).
"""

from __future__ import annotations

from actors.api import GFP_KERNEL, Cgroup, Context
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.kernfs import CGROUP2
from actors.linux.fs.namei import do_mkdirat
from actors.linux.fs.namespace import do_remount
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from actors.linux.mm.shmem import TMPFS
from actors.linux.mm.vmscan import Kswapd, try_to_free_pages
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, mkdir, rmdir, run_in, scenario, small_cache
from scenarios.shared_dentry import forget_names, make_files

CACHES = ("filp", "dentry", EXT4.inode_cache, TMPFS.inode_cache, CGROUP2.inode_cache)


@scenario(
    "mount-vs-reclaim",
    "filesystems are mounted and remounted while memory is reclaimed, and a cgroup is removed",
    Knob("pages", "pages that kswapd is asked to reclaim", 4, least=1),
    *MACHINE,
)
def mount_vs_reclaim(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache(name) for name in dict.fromkeys(CACHES)])
    kswapd = [Kswapd.run(machine, nid) for nid in range(machine.config.nodes)]
    mounted: list[SuperBlock] = []
    cgroups: list[Cgroup] = []

    async def make_cgroup(ctx: Context) -> None:
        """Make a cgroup with unused dentries."""
        mounted.append(await vfs_get_tree(ctx, EXT4))
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await run_in(ctx, cgroups[0], lambda ctx: make_files(ctx, mounted[0].root, ["first", "second"]))

    async def mount(ctx: Context) -> None:
        for s_type in (TMPFS, EXT4, CGROUP2):
            sb = await vfs_get_tree(ctx, s_type)
            if s_type is not CGROUP2:
                await do_mkdirat(ctx, sb.root, "directory")

    async def want_pages(ctx: Context) -> None:
        for thread in kswapd:
            await ctx.ask(thread.wake_up, stage.knobs["pages"])
        await try_to_free_pages(ctx, GFP_KERNEL)

    async def forget_all(ctx: Context) -> None:
        for sb in machine.vfs.super_blocks:
            await forget_names(ctx, sb)
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(make_cgroup)
    stage.task("mount", mount)
    stage.task("remount", lambda ctx: do_remount(ctx, mounted[0]), cpu=1)
    stage.task("allocate", want_pages)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
    stage.wind_up(forget_all)
    stage.sometimes("shrinkers are called while a filesystem is not complete", lambda: is_early(stage))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def is_early(stage: Stage) -> bool:
    """Whether a task walks the shrinkers while one of them belongs to a filesystem that is still being mounted."""
    shrinkers = stage.machine.shrinkers
    return bool(shrinkers.rwsem.readers) and any(
        sb.s_shrink in shrinkers.by_order and not sb.born for sb in stage.machine.vfs.super_blocks
    )
