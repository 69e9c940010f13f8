"""Pages of files, clean and dirty ones, are reclaimed while the files are removed.

Reclaim holds a reference to each page that it has isolated. If the page is truncated in this time, reclaim drops the
last reference and frees it (KERNEL.md 11.6).
"""

from __future__ import annotations

from actors.api import GFP_KERNEL, Cgroup, Context
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.namei import do_unlinkat
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from actors.linux.mm.vmscan import SWAP_CLUSTER_MAX, ScanControl, shrink_node
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, mkdir, rmdir, run_in, scenario, small_cache
from scenarios.shared_dentry import forget_names, write_file

CACHES = ("filp", "dentry", "ext4_inode_cache")
CLEAN, DIRTY = "clean", "dirty"


@scenario(
    "reclaim-vs-unlink",
    "pages of files are reclaimed while the files are removed",
    Knob("pages", "pages that each file has", 2, least=1, most=100),
    *MACHINE,
)
def reclaim_vs_unlink(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache(name) for name in CACHES])
    mounted: list[SuperBlock] = []
    cgroups: list[Cgroup] = []

    async def write(ctx: Context, name: str) -> None:
        await write_file(ctx, mounted[0].root, name, stage.knobs["pages"])

    async def write_files(ctx: Context) -> None:
        mounted.append(await vfs_get_tree(ctx, EXT4))
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await run_in(ctx, cgroups[0], lambda ctx: write(ctx, CLEAN))
        await sync_inodes_sb(ctx, mounted[0])
        await run_in(ctx, cgroups[0], lambda ctx: write(ctx, DIRTY))

    async def reclaim(ctx: Context) -> None:
        """Reclaim at the highest priority, twice; the second run meets the pages that the first one could not free."""
        for _ in range(2):
            await shrink_node(ctx, 0, ScanControl(SWAP_CLUSTER_MAX, GFP_KERNEL, None, priority=0))

    async def remove(ctx: Context) -> None:
        for name in (DIRTY, CLEAN):
            await do_unlinkat(ctx, mounted[0].root, name)

    async def clean_up(ctx: Context) -> None:
        await forget_names(ctx, mounted[0])
        await rmdir(ctx, cgroups[0])
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(write_files)
    stage.task("reclaim", reclaim)
    stage.task("unlink", remove, cpu=1)
    stage.wind_up(clean_up)
    stage.sometimes("a page of a removed file is being reclaimed", lambda: is_any_isolated(mounted))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def is_any_isolated(mounted: list[SuperBlock]) -> bool:
    """Whether a page of a removed file is on no list, because reclaim has isolated it."""
    return any(
        not page.on_lists and not inode.i_nlink
        for sb in mounted
        for inode in sb.s_inodes
        for page in inode.i_pages.values()
    )
