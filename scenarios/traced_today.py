"""Further parts of the traced program, as it was run on 6.12: each is a scenario. See `scenarios.traced`."""

from __future__ import annotations

import attrs

from actors.api import Context, KmemCache, kmem_cache_create, kmem_cache_destroy
from actors.linux.include.rcupdate import kfree_rcu
from actors.system.actor import Shared
from actors.versions.profiles import WITHOUT_CHILD_CACHES
from scenarios.api import Knob, Stage, machine, scenario, small_cache

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
