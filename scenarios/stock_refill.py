"""A CPU's stock is drained while its cgroup goes offline, and other drains run at the same time (KERNEL.md 9.3).

drain_all_stock() returns at once if another drain is running, and does not wait for the works that it queues on other
CPUs. A page that stays in a stock keeps the memcg until this CPU charges to another memcg.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, Machine
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task, memcg_of
from actors.linux.mm.memcontrol import mem_cgroup_try_charge, mem_cgroup_uncharge
from actors.oracles.stocks import page_slots
from scenarios.api import Knob, Stage, charge_elsewhere, machine, mkdir, rmdir, scenario, small_cache


@scenario(
    "stock-refill",
    "tasks on every CPU charge pages and exit; their cgroups are removed and the stocks drained",
    Knob("pages", "pages that each task touches", 3, least=1),
    *machine(),
)
def stock_refill(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cgroups: list[Cgroup] = []

    async def make_cgroups(ctx: Context) -> None:
        for number, worker in enumerate(workers):
            cgroups.append(await mkdir(ctx, machine.root_cgroup, f"job{number}"))
            await cgroup_attach_task(ctx, cgroups[number], worker)

    def add_worker(cpu: int) -> Context:
        async def touch_pages(ctx: Context) -> None:
            memcg = memcg_of(cgroups[cpu].css)
            for _ in range(stage.knobs["pages"]):
                if await mem_cgroup_try_charge(ctx, memcg):
                    await mem_cgroup_uncharge(ctx, memcg)

        return stage.task(f"touch{cpu}", touch_pages, cpu=cpu)

    def add_remover(number: int) -> None:
        stage.task(f"rmdir{number}", lambda ctx: rmdir(ctx, cgroups[number]), cpu=number + 1)

    stage.set_up(make_cgroups)
    workers = [add_worker(cpu) for cpu in range(len(machine.cpus))]
    for number in range(len(workers)):
        add_remover(number)
    stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
    stage.sometimes("a stock keeps a dead cgroup", lambda: keeps_dead_cgroup(machine))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def keeps_dead_cgroup(machine: Machine) -> bool:
    """Whether pages in a stock are charged to a dead cgroup."""
    return any(slot.nr > 0 and slot.memcg.css.cgroup.is_dead for slot in page_slots(machine))
