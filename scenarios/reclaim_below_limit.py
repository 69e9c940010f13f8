"""A cgroup is at its limit, and reclaim takes pages from the cgroups below it, one of which is being removed.

Reclaim holds a reference to one memcg after the other, and ends as soon as it has reclaimed enough. Only its pages keep
a removed cgroup's memcg alive, so the reclaim itself may drop the last reference (KERNEL.md 11.6).
"""

from __future__ import annotations

from actors.api import Cgroup, Context
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task, memcg_of
from actors.linux.mm.memcontrol import mem_cgroup_try_charge, mem_cgroup_uncharge
from actors.linux.mm.vmscan import SWAP_CLUSTER_MAX
from scenarios.api import (
    MACHINE,
    Knob,
    Stage,
    charge_elsewhere,
    mkdir,
    rmdir,
    run_in,
    scenario,
    small_cache,
    touch_pages,
)
from scenarios.shared_dentry import forget_names, write_file

SOME_MORE = SWAP_CLUSTER_MAX + 2
"""Pages of tasks. One reclaim needs two batches for its target, because the first batch contains the dirty page."""


@scenario(
    "reclaim-below-limit",
    "a cgroup at its limit takes pages from those below it, while one of them is being removed",
    Knob("pages", "pages that a task of the remaining cgroup charges in the race, one by one", 1, least=1, most=100),
    *MACHINE,
)
def reclaim_below_limit(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", "ext4_inode_cache")])
    cgroups: list[Cgroup] = []
    mounted: list[SuperBlock] = []

    async def fill(ctx: Context) -> None:
        """Give the first cgroup enough pages for one reclaim, and a dirty page; set its parent's limit to its usage."""
        mounted.append(await vfs_get_tree(ctx, EXT4))
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "parent"))
        cgroups.extend([await mkdir(ctx, cgroups[0], name) for name in ("old", "new")])
        await run_in(ctx, cgroups[1], write)
        await charge_elsewhere(ctx, stage.session)
        await touch_pages(ctx, memcg_of(cgroups[1].css), SOME_MORE)
        memory = memcg_of(cgroups[0].css).memory
        memory.max = memory.usage
        await cgroup_attach_task(ctx, cgroups[2], worker)

    async def write(ctx: Context) -> None:
        await write_file(ctx, mounted[0].root, "file", 1)

    async def work(ctx: Context) -> None:
        for _ in range(stage.knobs["pages"]):
            await mem_cgroup_try_charge(ctx, memcg_of(cgroups[2].css))

    async def take_pages(ctx: Context) -> None:
        await forget_names(ctx, mounted[0])
        for memcg in machine.memcgs():
            while memcg.user_pages:
                await mem_cgroup_uncharge(ctx, memcg)
        await charge_elsewhere(ctx, stage.session)
        for cgroup in reversed(cgroups):
            if not cgroup.is_dead:
                await rmdir(ctx, cgroup)

    stage.set_up(fill)
    worker = stage.task("work", work)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[1]), cpu=1)
    stage.wind_up(take_pages)
    stage.sometimes("pages of the removed cgroup are reclaimed", lambda: is_reclaimed(cgroups))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def is_reclaimed(cgroups: list[Cgroup]) -> bool:
    """Whether the cgroup that is removed has lost its pages."""
    memcg = cgroups[1].css.memcg if len(cgroups) > 1 and cgroups[1].has_css and cgroups[1].is_dead else None
    return memcg is not None and not memcg.user_pages
