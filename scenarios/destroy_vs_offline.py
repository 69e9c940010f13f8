"""rmdir of a cgroup races with the destruction of the root cache that its child cache belongs to.

The flush in kmem_cache_destroy() has to wait for every stage of the child's deactivation: the callback after the grace
period, the work that the callback queues, and the switch or shutdown that the work starts (KERNEL.md 8.2, appendix A6).
"""

from __future__ import annotations

from actors.api import Cgroup, Context, PercpuRef, kmem_cache_destroy
from actors.versions.profiles import PAGES_PIN_MEMCG
from scenarios.api import MACHINE, Stage, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "destroy-vs-offline",
    "a cgroup is removed while the root of its empty child cache is destroyed",
    *MACHINE,
    also=(
        "exit-during-atomic-switch",
        "a264df74df38",
        "destroy-vs-deferred-deactivation",
        "92ee383f6daa",
        "flush-only",
        "synchronize-rcu-only",
    ),
)
def destroy_vs_offline(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    root = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []

    async def make_cgroup(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await warm_up(ctx, cgroups[0], root)

    async def destroy(ctx: Context) -> None:
        await kmem_cache_destroy(ctx, root)

    stage.set_up(make_cgroup)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]))
    stage.task("rmmod", destroy, cpu=1)
    stage.sometimes(
        "the child is on its way out when its root is marked as dying",
        lambda: root.dying and any(child.work_fn is not None for child in machine.child_caches),
    )
    if stage.kernel not in (*PAGES_PIN_MEMCG, "v1"):
        stage.sometimes(
            "the root is dying while a child's count is switched", lambda: root.dying and is_switching(stage)
        )
    stage.eventually("no cache is left", lambda: not machine.all_caches)


def is_switching(stage: Stage) -> bool:
    """Whether a child's reference count is being switched to atomic mode."""
    refs = (child.refcnt for child in stage.machine.child_caches)
    return any(isinstance(ref, PercpuRef) and ref.confirm_switch is not None for ref in refs)
