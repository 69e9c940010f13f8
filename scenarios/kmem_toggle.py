"""The only cgroup of a machine is removed while one of its objects is in use, so that kmem accounting is switched off.

The last memcg switches the static key off. Allocations and frees then do not look for child caches any more, and an
object of a child cache is freed as if it belonged to the root cache.
"""

from __future__ import annotations

from actors.api import Context, kmem_cache_free
from scenarios.api import Knob, Stage, fill, machine, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "kmem-toggle",
    "the last cgroup is removed, then its remaining objects are freed, then another cgroup is made",
    Knob("objects", "objects that are in use when the cgroup is removed, four in a page", 4, least=1),
    *machine(),
)
def kmem_toggle(stage: Stage) -> None:
    stage.has_session = False
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")

    async def switch_off_and_on(ctx: Context) -> None:
        for number in range(2):
            cgroup = await mkdir(ctx, machine.root_cgroup, f"job{number}")
            await warm_up(ctx, cgroup, cache)
            kept = await fill(ctx, cgroup, cache, stage.knobs["objects"])
            await rmdir(ctx, cgroup)
            await ctx.settle()
            for obj in kept:
                await kmem_cache_free(ctx, cache, obj)
            await ctx.settle()

    stage.task("jobs", switch_off_and_on)
    stage.sometimes("accounting is off while a child cache is left", lambda: is_off_too_early(stage))


def is_off_too_early(stage: Stage) -> bool:
    """Whether kmem accounting is off while a child cache is left."""
    return not stage.machine.kmem_enabled.usage and bool(stage.machine.child_caches)
