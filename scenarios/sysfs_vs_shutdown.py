"""A task reads a sysfs file of a cache that is being shut down, while a memory hotplug waits.

The reader is inside the file and needs the memory hotplug lock. The shutdown holds this lock and slab_mutex, and waits
for the readers to leave. A hotplug writer that waits for the lock already keeps new readers of the lock out.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, down_write, kmem_cache_destroy, up_write
from actors.linux.mm.slub_sysfs import Kobject, kernfs_seq_show
from scenarios.api import MACHINE, Stage, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "sysfs-vs-shutdown",
    "a sysfs file of a cache is read while the cache is shut down and memory hotplug waits",
    *MACHINE,
    also=("e4f8e513c3d3",),
)
def sysfs_vs_shutdown(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    root = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    files: list[Kobject] = []

    async def make_cgroup(ctx: Context) -> None:
        """Make the child cache, and collect the sysfs files that the reader opens before the race."""
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await warm_up(ctx, cgroups[0], root)
        files.extend(cache.kobj for cache in machine.all_caches if cache.kobj is not None)

    async def read(ctx: Context) -> None:
        for file in files:
            await kernfs_seq_show(ctx, file)

    async def hotplug(ctx: Context) -> None:
        await down_write(ctx, machine.mem_hotplug_lock)
        await up_write(ctx, machine.mem_hotplug_lock)

    async def remove_and_destroy(ctx: Context) -> None:
        await rmdir(ctx, cgroups[0])
        await kmem_cache_destroy(ctx, root)

    stage.set_up(make_cgroup)
    stage.task("cat", read)
    stage.task("rmmod", remove_and_destroy, cpu=1)
    stage.task("hotplug", hotplug, cpu=1)
    stage.sometimes("a reader is inside a file", lambda: any(file.sd.active for file in files))
    stage.eventually("no cache is left", lambda: not machine.all_caches)
