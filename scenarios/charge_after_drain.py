"""A task charges pages to a cgroup after it was moved out of that cgroup, while the cgroup is removed.

A page fault holds a reference to the memcg that it found; this reference does not keep the cgroup online. While the
fault waits for a page, the cgroup may go offline, and the offlining runs drain_all_stock(). If the charge then leaves
pages in the stock of its CPU, no later drain takes them out. The scenario charges nothing else afterwards, so pages
that are left in a stock stay there (KERNEL.md 9.3).
"""

from __future__ import annotations

import attrs

from actors.api import Cgroup, Context, Machine
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task, css_put
from actors.linux.mm.memcontrol import (
    get_mem_cgroup_from_current,
    get_mem_cgroup_from_mm,
    mem_cgroup_try_charge,
    mem_cgroup_uncharge,
)
from actors.oracles.stocks import page_slots
from actors.versions.profiles import WITHOUT_CHILD_CACHES
from scenarios.api import MACHINE, MEMORY, Knob, Stage, mkdir, rmdir, scenario, small_cache


@scenario(
    "charge-after-drain",
    "pages are charged late to a cgroup that is removed, and nothing is charged afterwards",
    attrs.evolve(MEMORY, default="short"),
    Knob("pages", "pages that the task touches", 2, least=1),
    *MACHINE,
)
def charge_after_drain(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cgroups: list[Cgroup] = []
    is_today = machine.config.kernel in WITHOUT_CHILD_CACHES
    look_up = get_mem_cgroup_from_mm if is_today else get_mem_cgroup_from_current

    async def make_cgroup(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await cgroup_attach_task(ctx, cgroups[0], worker)

    async def touch_pages(ctx: Context) -> None:
        """Page faults: each one holds a reference to its memcg from the lookup until the page is charged."""
        for _ in range(stage.knobs["pages"]):
            memcg = await look_up(ctx)
            if await mem_cgroup_try_charge(ctx, memcg):
                await mem_cgroup_uncharge(ctx, memcg)
            if not memcg.is_root:
                await css_put(ctx, memcg.css)

    async def remove(ctx: Context) -> None:
        await cgroup_attach_task(ctx, machine.root_cgroup, worker)
        await rmdir(ctx, cgroups[0])

    stage.set_up(make_cgroup)
    worker = stage.task("touch", touch_pages)
    stage.task("rmdir", remove, cpu=1)
    stage.sometimes("a page is charged to a dead cgroup", lambda: keeps_drained_cgroup(machine))
    stage.eventually("no stock keeps a cgroup that is gone", lambda: not keeps_drained_cgroup(machine))


def keeps_drained_cgroup(machine: Machine) -> bool:
    """Whether a stock has pages of a memcg that is offline, its drain is over, and no other drain is under way."""
    return any(slot.nr > 0 and not (slot.memcg.id_ref or slot.is_flushing) for slot in page_slots(machine))
