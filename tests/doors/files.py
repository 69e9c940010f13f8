"""The texts of the user's files in these tests."""

from __future__ import annotations

SCENARIO = """\
from pathlib import Path

from actors.api import Context, kmem_cache_alloc
from scenarios.api import MACHINE, Knob, Stage, fill, mkdir, rmdir, scenario, small_cache, warm_up

Path("scenario-ran").touch()


@scenario("late-job", "a task allocates in a cgroup while that is removed", Knob("jobs", "tasks", 1, least=1), *MACHINE)
def job_is_late(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    root = machine.root_cache("alpha")
    cgroups = []

    async def prepare(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await warm_up(ctx, cgroups[0], root)
        await fill(ctx, cgroups[0], root, 1)

    async def allocate(ctx: Context) -> None:
        await kmem_cache_alloc(ctx, root)

    stage.set_up(prepare)
    for number in range(stage.knobs["jobs"]):
        stage.task(f"job{number}", allocate, cpu=number)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
"""

TWO_SCENARIOS = """\
from scenarios.api import MACHINE, Stage, scenario


@scenario("one", "boots", *MACHINE)
def first(stage: Stage) -> None:
    stage.boot("kmalloc-8")


@scenario("two", "boots, too", *MACHINE)
def second(stage: Stage) -> None:
    stage.boot("kmalloc-8")
"""

ORACLE = """\
from collections.abc import Iterator
from pathlib import Path

from actors.api import Machine, oracle

Path("oracle-ran").touch()


@oracle("no-dying", "no removed cgroup is there while tasks run", when="step")
def no_dying(machine: Machine) -> Iterator[str]:
    dying = machine.root_cgroup.nr_dying_descendants
    if dying:
        yield f"{dying} dying"
        yield "and that is a detail"


@oracle("left-over", "nothing is left at the end")
def left_over(machine: Machine) -> Iterator[str]:
    if len(machine.child_caches) > 100:
        yield "a hundred caches"
"""

STRATEGY = """\
import random

from explorer.api import Knowledge, Lane, Strategy, strategy


@strategy("stubborn", "stays with a lane for N steps", argument="N")
class Stubborn(Strategy):
    def __init__(self, seed: int, argument: str, known: Knowledge) -> None:
        self.random = random.Random(seed)
        self.most = int(argument or 3)
        self.left, self.lane = 0, ""

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        names = [lane.name for lane in lanes]
        if not self.left or self.lane not in names:
            self.left, self.lane = self.most, self.random.choice(names)
        self.left -= 1
        return names.index(self.lane)

    def choose_value(self, count: int) -> int:
        return self.random.randrange(count)
"""
