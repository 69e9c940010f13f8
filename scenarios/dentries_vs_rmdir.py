"""Tasks outside a cgroup look up, drop and remove its files, while the cgroup is removed.

The dentries and inodes of the files were allocated in the cgroup, so they are on its LRU lists. The offlining moves
these lists to the parent, while lookups take dentries off the lists, the last dput() puts them back, and the shrinker
walks the lists.
"""

from __future__ import annotations

from actors.api import Cgroup, Context
from actors.linux.fs.drop_caches import drop_caches_sysctl_handler
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.file_table import fput
from actors.linux.fs.namei import do_filp_open, do_unlinkat
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from scenarios.api import Knob, Stage, charge_elsewhere, enter, machine, mkdir, rmdir, scenario, small_cache
from scenarios.shared_dentry import forget_names, make_files

NAMES = ("a", "b")


@scenario(
    "dentries-vs-rmdir",
    "dentries of a cgroup are looked up, shrunk and killed while the cgroup is removed",
    Knob("uses", "how often the file that stays is opened and closed", 2, least=1),
    *machine(),
)
def dentries_vs_rmdir(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", "ext4_inode_cache")])
    mounted: list[SuperBlock] = []
    cgroups: list[Cgroup] = []

    async def make_cgroup(ctx: Context) -> None:
        """The first file causes the creation of the child caches; the other files are allocated from them."""
        mounted.append(await vfs_get_tree(ctx, EXT4))
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await enter(ctx, cgroups[0])
        await make_files(ctx, mounted[0].root, ["first"])
        await make_files(ctx, mounted[0].root, list(NAMES))
        await enter(ctx, machine.root_cgroup)

    async def use(ctx: Context) -> None:
        for _ in range(stage.knobs["uses"]):
            file = await do_filp_open(ctx, mounted[0].root, NAMES[0])
            if file is not None:
                await fput(ctx, file)

    async def remove(ctx: Context) -> None:
        await do_unlinkat(ctx, mounted[0].root, NAMES[1])
        await drop_caches_sysctl_handler(ctx, 2)

    async def forget_all(ctx: Context) -> None:
        await forget_names(ctx, mounted[0])
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(make_cgroup)
    stage.task("use", use)
    stage.task("drop", remove, cpu=1)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
    stage.wind_up(forget_all)
    stage.sometimes("a list of the removed cgroup has items", lambda: has_items(mounted, cgroups))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def has_items(mounted: list[SuperBlock], cgroups: list[Cgroup]) -> bool:
    """Whether dentries are on the list of the cgroup's kmemcg_id after the cgroup was killed."""
    memcg = cgroups[0].css.memcg if cgroups and cgroups[0].has_css else None
    if memcg is None or not cgroups[0].is_dead or memcg.kmemcg_id < 0:
        return False
    lists = [pair for node in mounted[0].s_dentry_lru.nodes for pair in node.lists()]
    return any(kmemcg_id == memcg.kmemcg_id and one.items for kmemcg_id, one in lists)
