"""Tasks of a cgroup look up files that do not exist, on every CPU and in one directory; then the cgroup is removed.

In a filesystem in memory the last dput() of a negative dentry kills it. The kill needs the lock of the directory, which
comes first in the lock order. If another task holds that lock, the dentry's own lock is dropped for a while, and a
lookup may find the dentry again.
"""

from __future__ import annotations

from actors.api import Cgroup, Context
from actors.linux.fs.dcache import dput
from actors.linux.fs.namei import filename_lookup
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task
from actors.linux.mm.shmem import TMPFS
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, mkdir, rmdir, scenario, small_cache

NAMES = ("a", "b")


@scenario(
    "lookups-race",
    "files that do not exist are looked up on every CPU, and then the cgroup is removed",
    Knob("lookups", "how often each task looks up each of two names", 2, least=1),
    *MACHINE,
)
def lookups_race(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", TMPFS.inode_cache)])
    mounted: list[SuperBlock] = []
    cgroups: list[Cgroup] = []

    async def make_cgroup(ctx: Context) -> None:
        mounted.append(await vfs_get_tree(ctx, TMPFS))
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        for task in tasks:
            await cgroup_attach_task(ctx, cgroups[0], task)

    async def look_up(ctx: Context) -> None:
        for _ in range(stage.knobs["lookups"]):
            for name in NAMES:
                await dput(ctx, await filename_lookup(ctx, mounted[0].root, name))

    stage.set_up(make_cgroup)
    tasks = [stage.task(f"stat{cpu}", look_up, cpu=cpu) for cpu in range(min(2, len(machine.cpus)))]
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    if len(tasks) > 1:
        stage.sometimes("a task wants a directory's lock that another has", lambda: any(map(wants_parent, tasks)))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def wants_parent(task: Context) -> bool:
    """Whether the task is about to call spin_trylock() on a lock that another task holds."""
    request = task.request
    return request.info.name == "spin_trylock" and getattr(request.target, "holder", None) not in {None, task}
