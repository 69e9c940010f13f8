"""Slabs are charged on one CPU and uncharged on another, while the cgroup goes offline.

So the CPUs' shares of the memcg's statistics differ in sign: one CPU counts too many pages, another a negative number.
The removal adds the shares up one after the other, or drops them. The parent must end up with the right total
(KERNEL.md 9.4).
"""

from __future__ import annotations

from actors.api import Cgroup, Context, SlabObject, kmem_cache_free
from actors.linux.mm.vmstat import MEMCG_CHARGE_BATCH, StatItem
from scenarios.api import MACHINE, Knob, Stage, charge_elsewhere, fill, mkdir, rmdir, scenario, small_cache, warm_up


@scenario(
    "uneven-vmstat",
    "slabs of a removed cgroup are charged on one CPU and freed on another",
    Knob("objects", "freed objects, of a page each, beyond one batch of the statistics", 12, least=1, most=1000),
    *MACHINE,
)
def uneven_vmstat(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha", objects=1), small_cache("dentry")])
    alpha, dentry = machine.root_cache("alpha"), machine.root_cache("dentry")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []
    raced: list[SlabObject] = []

    async def charge_on_one_cpu(ctx: Context) -> None:
        """Charge more pages than a CPU caches, so that the totals include some of them, and a reclaimable slab too."""
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "parent"))
        cgroups.append(await mkdir(ctx, cgroups[0], "job"))
        await warm_up(ctx, cgroups[1], alpha, dentry)
        kept.extend(await fill(ctx, cgroups[1], alpha, MEMCG_CHARGE_BATCH + stage.knobs["objects"]))
        raced.extend(kept.pop() for _ in range(stage.knobs["objects"]))
        kept.extend(await fill(ctx, cgroups[1], dentry, 1))

    async def free_elsewhere(ctx: Context) -> None:
        for obj in raced:
            await kmem_cache_free(ctx, alpha, obj)

    async def free_the_others(ctx: Context) -> None:
        for obj in kept:
            await kmem_cache_free(ctx, obj.slab.slab_cache.root, obj)
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(charge_on_one_cpu)
    stage.task("free", free_elsewhere, cpu=len(machine.cpus) - 1)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[1]), cpu=len(machine.cpus) - 1)
    stage.wind_up(free_the_others)
    if len(machine.cpus) > 1:
        stage.sometimes("the CPUs' shares of a dead cgroup differ in sign", lambda: runs_apart(cgroups))


def runs_apart(cgroups: list[Cgroup]) -> bool:
    """Whether, for a dead cgroup, one CPU's count of slab pages is positive and another's negative."""
    memcg = cgroups[1].css.memcg if len(cgroups) > 1 and cgroups[1].is_dead else None
    if memcg is None or memcg.freed is not None:
        return False
    shares = [share[StatItem.NR_SLAB_UNRECLAIMABLE] for share in memcg.vmstats.percpu]
    return max(shares) > 0 > min(shares)
