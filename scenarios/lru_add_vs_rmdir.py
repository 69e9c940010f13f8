"""A file of a cgroup is closed for the first time while the cgroup is removed.

Its dentry has been in use all the time, so it was on no LRU list yet. Now it is added to the list of the memcg that its
slab belongs to at this moment. An add that has read the memcg's old id must be complete before the lists of this id are
moved to the parent (KERNEL.md 3.3.5 to 7, 11.3).
"""

from __future__ import annotations

from actors.api import Cgroup, Context
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.file_table import File, fput
from actors.linux.fs.namei import do_filp_open
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, enter, mkdir, rmdir, scenario, small_cache
from scenarios.shared_dentry import forget_names, make_files


@scenario(
    "lru-add-vs-rmdir",
    "dentries of a cgroup go onto an LRU list for the first time while the cgroup is removed",
    Knob("files", "files of the cgroup that are open, each closed by a task of its own", 2, least=1, most=8),
    *MACHINE,
)
def lru_add_vs_rmdir(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", "ext4_inode_cache")])
    mounted: list[SuperBlock] = []
    cgroups: list[Cgroup] = []
    files: list[File] = []

    async def open_all(ctx: Context) -> None:
        """Open the files; a first file causes the creation of the child caches that the others are allocated from."""
        mounted.append(await vfs_get_tree(ctx, EXT4))
        parent = await mkdir(ctx, machine.root_cgroup, "parent")
        cgroups.extend([await mkdir(ctx, parent, "job"), parent])
        await enter(ctx, cgroups[0])
        await make_files(ctx, mounted[0].root, ["first"])
        for number in range(stage.knobs["files"]):
            file = await do_filp_open(ctx, mounted[0].root, str(number), creat=True)
            if file is not None:
                files.append(file)
        await enter(ctx, machine.root_cgroup)

    def add_closer(number: int) -> Context:
        async def close(ctx: Context) -> None:
            for file in files[number : number + 1]:
                await fput(ctx, file)

        return stage.task(f"close{number}", close, cpu=number)

    async def forget_all(ctx: Context) -> None:
        await forget_names(ctx, mounted[0])
        await rmdir(ctx, cgroups[1])
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(open_all)
    closers = [add_closer(number) for number in range(stage.knobs["files"])]
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
    stage.wind_up(forget_all)
    stage.sometimes(
        "a dentry goes onto a list for the first time when its cgroup is dead",
        lambda: bool(cgroups) and cgroups[0].is_dead and any(holds_lru_lock(mounted[0], task) for task in closers),
    )
    stage.eventually("every cgroup is gone", stage.only_session_left)


def holds_lru_lock(sb: SuperBlock, task: Context) -> bool:
    """Whether *task* holds a lock of the dentry LRU of *sb*."""
    return any(node.is_locked_by(task) for node in sb.s_dentry_lru.nodes)
