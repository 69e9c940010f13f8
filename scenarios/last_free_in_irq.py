"""The last page of a dying cache is freed in a hard IRQ, by the flush of a cpu slab.

The interrupted flow may hold any lock that is taken with interrupts on.
Deactivation flushes other CPUs by IPI. A slab that becomes empty by this is freed on that CPU, inside the interrupt
(KERNEL.md 7.6, H3).
"""

from __future__ import annotations

from actors.api import Cgroup, Context, kmem_cache_free
from scenarios.api import MACHINE, Stage, charge_elsewhere, fill, mkdir, rmdir, scenario, small_cache, warm_up


@scenario("last-free-in-irq", "two cgroups are removed at once, and IPIs flush the cpu slabs of their caches", *MACHINE)
def last_free_in_irq(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []

    async def leave_cpu_slabs(ctx: Context) -> None:
        """Make two cgroups, each with an empty slab of its child cache on every CPU."""
        for number in range(2):
            cgroups.append(await mkdir(ctx, machine.root_cgroup, f"job{number}"))
            await warm_up(ctx, cgroups[-1], cache)
            for cpu in machine.cpus:
                await ctx.migrate(cpu)
                for obj in await fill(ctx, cgroups[-1], cache, 1):
                    await kmem_cache_free(ctx, cache, obj)

    stage.set_up(leave_cpu_slabs)
    stage.task("rmdir0", lambda ctx: rmdir(ctx, cgroups[0]))
    stage.task("rmdir1", lambda ctx: rmdir(ctx, cgroups[1]), cpu=1)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("a CPU is in a hard IRQ", lambda: any(cpu.in_hardirq for cpu in machine.cpus))
    stage.eventually("every cgroup is gone", stage.only_session_left)
    stage.eventually("no child cache is left", lambda: not machine.child_caches)
