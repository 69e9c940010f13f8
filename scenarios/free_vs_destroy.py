"""The last object of a cache whose cgroup is gone is freed while its root cache is destroyed.

The flow that drops the last reference reads the root's dying flag. The flag decides whether a worker or
kmem_cache_destroy() shuts the cache down; exactly one of the two must do it. In the second scenario the object is freed
in a softirq, on the CPU where the destruction runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from actors.api import Context, KmemCache, RcuHead, SlabObject, call_rcu, kmem_cache_destroy, kmem_cache_free
from scenarios.api import MACHINE, Stage, fill, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "free-vs-destroy",
    "the last object of a removed cgroup's cache is freed while the root cache is destroyed",
    *MACHINE,
    also=("dying-test-unlocked",),
)
def free_vs_destroy(stage: Stage) -> None:
    build(stage, free_now, cpu=1)


@scenario(
    "softirq-free-vs-destroy",
    "free-vs-destroy, but the object is freed in a softirq on the CPU of kmem_cache_destroy()",
    *MACHINE,
    also=("wq-lock-not-irq-safe",),
)
def softirq_free_vs_destroy(stage: Stage) -> None:
    build(stage, free_by_rcu, cpu=0)


async def free_now(ctx: Context, cache: KmemCache, obj: SlabObject) -> None:
    """Free in the task itself."""
    await kmem_cache_free(ctx, cache, obj)


async def free_by_rcu(ctx: Context, cache: KmemCache, obj: SlabObject) -> None:
    """Free in an RCU callback, which a softirq runs after a grace period."""

    async def free_object(ctx: Context, _head: RcuHead) -> None:
        await kmem_cache_free(ctx, cache, obj)

    await call_rcu(ctx, RcuHead(obj.slab), free_object)


def build(stage: Stage, free: Callable[[Context, KmemCache, SlabObject], Awaitable[None]], *, cpu: int) -> None:
    """Set the stage; *free* frees the object on *cpu*."""
    machine = stage.boot(caches=[small_cache("alpha")])
    root = machine.root_cache("alpha")
    kept: list[SlabObject] = []

    async def keep_one_object(ctx: Context) -> None:
        """Remove the cgroup while one object is in use; only this object keeps the child cache."""
        cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        await warm_up(ctx, cgroup, root)
        kept.extend(await fill(ctx, cgroup, root, 1))
        await rmdir(ctx, cgroup)

    async def destroy(ctx: Context) -> None:
        await kmem_cache_destroy(ctx, root)

    stage.set_up(keep_one_object)
    stage.task("free", lambda ctx: free(ctx, root, kept[0]), cpu=cpu)
    stage.task("rmmod", destroy)
    stage.sometimes("the root is dying before the object is freed", lambda: root.dying and is_alive())
    stage.sometimes(
        "the object is freed before the root is dying", lambda: bool(kept) and not (root.dying or is_alive())
    )

    def is_alive() -> bool:
        return bool(kept[0].slab.live >> kept[0].at & 1)
