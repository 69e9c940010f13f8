"""Further parts of the traced program, as it was run on 6.12: each is a scenario. See `scenarios.traced`."""

from __future__ import annotations

import attrs

from actors.api import Context, KmemCache, kmem_cache_create, kmem_cache_destroy
from actors.linux.fs.file_table import File
from actors.linux.fs.namei import do_filp_open, do_mkdirat, do_rmdir, do_unlinkat
from actors.linux.include.rcupdate import kfree_rcu
from actors.linux.lib.xarray import NODE_CACHE
from actors.linux.mm.memcontrol import drain_all_stock
from actors.linux.mm.shmem import shmem_fallocate
from actors.system.actor import Shared
from actors.versions.profiles import WITHOUT_CHILD_CACHES
from scenarios.api import Knob, Stage, machine, scenario, small_cache
from scenarios.traced import KNOBS, PARENT, REST_NS, WRITTEN_PAGES, close, program

OTHER = "other"
FILE = "temporary"
SHARED = "shared"
LOADED_NS = 500_000_000
SIZE = 1300
"""Bytes of an object: no other cache fits, so the module has a cache of its own."""


@attrs.define(eq=False)
class OtherMemory(Shared):
    """Memory of somebody else on the machine."""

    @property
    def label(self) -> str:
        return "memory of somebody else"


@scenario(
    "traced-cache-destroy",
    "a traced program loads a module with a cache that has no objects, and unloads it",
    Knob("cpu", "the CPU of the program", 0, most=63),
    *machine(),
    kernels=WITHOUT_CHILD_CACHES,
)
def traced_cache_destroy(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("other")])
    made: list[KmemCache] = []

    async def load_and_unload(ctx: Context) -> None:
        """Meanwhile somebody else has given memory to kfree_rcu(), for which the destruction waits."""
        cache = await kmem_cache_create(ctx, attrs.evolve(small_cache("module"), objsize=SIZE))
        assert cache is not None, "there is memory"
        made.append(cache)
        await ctx.sleep(LOADED_NS)
        await kfree_rcu(ctx, OtherMemory(machine.cgroup_tree.actor))
        await kmem_cache_destroy(ctx, cache)

    stage.task("program", load_and_unload, cpu=stage.knobs["cpu"])
    stage.eventually("the cache is gone", lambda: made[0] not in machine.all_caches)


@scenario(
    "traced-rmdir-page",
    "a traced program removes a cgroup that has written to a file in memory, and punches the pages out later",
    *KNOBS,
    kernels=WITHOUT_CHILD_CACHES,
)
def traced_rmdir_page(stage: Stage) -> None:
    traced = program(stage, NODE_CACHE)
    shared: list[File] = []

    async def prepare(ctx: Context) -> None:
        """The file is made outside of the cgroup."""
        await traced.mount(ctx)
        file = await do_filp_open(ctx, traced.tmpfs, SHARED, creat=True)
        assert file is not None, "there is memory"
        shared.append(file)
        await traced.run_generation(ctx, hold=False, shared=file)

    async def remove(ctx: Context) -> None:
        await traced.age(ctx)
        await traced.remove_cgroup(ctx)
        await traced.mark(ctx)
        await shmem_fallocate(ctx, shared[0], 0, WRITTEN_PAGES)
        await traced.mark(ctx)

    async def clean_up(ctx: Context) -> None:
        await close(ctx, shared[0])
        await do_unlinkat(ctx, traced.tmpfs, SHARED)
        await traced.unmount(ctx)

    stage.set_up(prepare)
    stage.task("parent", remove, cpu=stage.knobs["parent_cpu"])
    stage.wind_up(clean_up)
    stage.eventually("every cgroup is gone", stage.only_session_left)


@scenario(
    "traced-rmdir-late",
    "a traced program removes a cgroup, releases a file of it, and displaces its obj_cgroup from the stocks",
    *KNOBS,
    kernels=WITHOUT_CHILD_CACHES,
)
def traced_rmdir_late(stage: Stage) -> None:
    traced = program(stage)

    async def prepare(ctx: Context) -> None:
        """The other cgroup has its LRU lists already, and the stocks were emptied since."""
        await traced.mount(ctx)
        await do_mkdirat(ctx, traced.jobs, OTHER)
        await traced.run_child(ctx, make_file, OTHER)
        await drain_stocks(ctx)
        await ctx.settle()
        await traced.run_generation(ctx, hold=True)

    async def drain_stocks(ctx: Context) -> None:
        """Write to memory.max of the cgroup above."""
        await drain_all_stock(ctx, next(memcg for memcg in stage.machine.memcgs() if memcg.name == PARENT))

    async def make_file(ctx: Context) -> None:
        """Make a file, close and remove it."""
        await close(ctx, await do_filp_open(ctx, traced.tmpfs, FILE, creat=True))
        await do_unlinkat(ctx, traced.tmpfs, FILE)

    async def remove(ctx: Context) -> None:
        """After the release, let a task of another cgroup allocate on each CPU; then drain all stocks (memory.max)."""
        await traced.age(ctx)
        await traced.remove_cgroup(ctx)
        await traced.release(ctx)
        for name in ("parent_cpu", "child_cpu"):
            await ctx.sleep(REST_NS)
            await traced.mark(ctx)
            await traced.run_child(ctx, make_file, OTHER, stage.knobs[name])
            await traced.mark(ctx)
        await ctx.sleep(REST_NS)
        await drain_stocks(ctx)

    async def clean_up(ctx: Context) -> None:
        await do_rmdir(ctx, traced.jobs, OTHER)
        await traced.unmount(ctx)

    stage.set_up(prepare)
    stage.task("parent", remove, cpu=stage.knobs["parent_cpu"])
    stage.wind_up(clean_up)
    stage.eventually("every cgroup is gone", stage.only_session_left)
