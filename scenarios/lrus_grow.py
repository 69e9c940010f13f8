"""The arrays of LRU lists are replaced by longer ones while a shrinker counts and walks the lists.

All ids that fit into the arrays are used, so the next cgroup needs longer arrays. The shrinker counts under RCU alone,
and may use the old array or the new one. Its walk holds the lock of the node, and so does the replacement (KERNEL.md
11.3).
"""

from __future__ import annotations

from actors.api import GFP_KERNEL, Cgroup, Context
from actors.linux.fs.drop_caches import SLAB, drop_caches_sysctl_handler
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from actors.linux.mm.list_lru import ListLruMemcg
from actors.linux.mm.vmscan import ScanControl, shrink_node
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, enter, mkdir, rmdir, scenario, small_cache
from scenarios.shared_dentry import forget_names, make_files


@scenario(
    "lrus-grow",
    "the arrays of LRU lists grow while a shrinker counts and walks the lists",
    Knob("cgroups", "cgroups that are made during the race; the arrays have room for none", 1, least=1, most=60),
    *MACHINE,
)
def lrus_grow(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", "ext4_inode_cache")])
    mounted: list[SuperBlock] = []
    cgroups: list[Cgroup] = []
    outgrown: list[ListLruMemcg] = []

    async def fill_arrays(ctx: Context) -> None:
        """Make as many cgroups as the arrays have room for, each with dentries on its list."""
        mounted.append(await vfs_get_tree(ctx, EXT4))
        while len(machine.memcgs()) < machine.memcg_nr_cache_ids:
            number = len(cgroups)
            cgroups.append(await mkdir(ctx, machine.root_cgroup, f"job{number}"))
            await enter(ctx, cgroups[number])
            await make_files(ctx, mounted[0].root, [f"{number}.first", f"{number}.second"])
            await enter(ctx, machine.root_cgroup)
        outgrown.extend(node.memcg_lrus for node in mounted[0].s_dentry_lru.nodes)

    async def make_many(ctx: Context) -> None:
        names = [f"new{number}" for number in range(stage.knobs["cgroups"])]
        cgroups.extend([await mkdir(ctx, machine.root_cgroup, name) for name in names])

    async def remove_all(ctx: Context) -> None:
        await forget_names(ctx, mounted[0])
        for cgroup in cgroups:
            await rmdir(ctx, cgroup)
        await charge_elsewhere(ctx, stage.session)

    async def shrink(ctx: Context) -> None:
        """Reclaim at the lowest pressure, which only counts such short lists; then drop all dentries and inodes."""
        await shrink_node(ctx, 0, ScanControl(1, GFP_KERNEL, None))
        await drop_caches_sysctl_handler(ctx, SLAB)

    stage.set_up(fill_arrays)
    shrinker = stage.task("drop", shrink)
    stage.task("mkdir", make_many, cpu=1)
    stage.wind_up(remove_all)
    stage.sometimes(
        "a shrinker is under RCU while an array waits to be freed",
        lambda: shrinker.rcu_nesting > 0 and any(array.rcu.queued for array in outgrown),
    )
    stage.eventually("every cgroup is gone", stage.only_session_left)
