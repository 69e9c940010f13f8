"""Csses of 7.2: a cgroup is removed while its last tasks still run, and its css dies after them (KERNEL-7.2 N3)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable
from functools import partial

import attrs
import pytest

from actors.files.crash_reader import look
from actors.fixes_7_2 import FIXES_7_2
from actors.linux.kernel.cgroup.cgroup import (
    Cgroup,
    Css,
    CssFlags,
    cgroup_attach_task,
    cgroup_mkdir,
    cgroup_rmdir,
    css_get,
    css_put,
    css_tryget_online,
)
from actors.linux.kernel.locking.locks import Completion
from actors.machine.context import Context
from actors.oracles.lifecycle import check_populated
from actors.system.flow import Flow
from actors.system.world import World
from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign
from protocol.formats.cgroup_files import parse_flat_keyed
from scenarios.stage import Stage, mkdir, rmdir
from tests.today.memcontrol_stub import Stub, perform

each_seed = pytest.mark.parametrize("seed", range(20))

act = partial(perform, kernel="7.2")


def is_killed(css: Css) -> bool:
    return css.refcnt is not None and css.refcnt.is_dying


# -- a task that is exiting -------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Exits:
    """A cgroup of two levels; the task that is named after a level stops in the exit callback until `go` has it."""

    levels: dict[str, Cgroup] = attrs.field(factory=dict)
    stands: dict[str, Completion] = attrs.field(factory=dict)
    go: dict[str, Completion] = attrs.field(factory=dict)
    stub: Stub = attrs.field(factory=Stub)

    def build(self, stage: Stage, body: Callable[[Context], object]) -> None:
        machine = stage.machine

        async def see(ctx: Context, callback: str, name: str) -> None:
            if callback == "exit" and name in self.go:
                await ctx.ask(self.stands[name].complete)
                await ctx.ask(self.go[name].wait_for_completion)

        async def make(ctx: Context) -> None:
            above = machine.root_cgroup
            for name in ("outer", "inner"):
                above = self.levels[name] = await mkdir(ctx, above, name)
                self.stands[name] = Completion(machine.cgroup_tree.actor, remaining=1)
                self.go[name] = Completion(machine.cgroup_tree.actor, remaining=1)

        self.stub.seen = see
        stage.set_up(make)
        stage.task("remover", body)  # type: ignore[arg-type]  # a coroutine function

    async def start(self, ctx: Context, name: str) -> None:
        """Start the task of a level, and wait until it stands in its exit, after PF_EXITING."""
        task = ctx.machine.new_task(name, 1)
        await ctx.ask(ctx.machine.cgroup_tree.move_task, task, self.levels[name])

        async def live(ctx: Context) -> None:
            await ctx.sleep(1000)

        ctx.machine.start(task, live)
        assert not await cgroup_rmdir(ctx, self.levels[name]), "EBUSY: the task lives"
        await ctx.ask(self.stands[name].wait_for_completion)


def test_rmdir_does_not_see_a_task_that_is_exiting_and_the_css_dies_after_it() -> None:
    """KERNEL-7.2 N3.1, N3.2: until the last context switch css_tryget_online() succeeds on a css that is dying."""
    exits = Exits()
    seen: dict[str, object] = {}

    def build(stage: Stage) -> None:
        async def work(ctx: Context) -> None:
            css = exits.levels["inner"].css
            await exits.start(ctx, "inner")
            assert await cgroup_rmdir(ctx, exits.levels["inner"])
            await ctx.sleep(100_000_000)
            seen["flags"] = css.flags
            seen["killed"] = is_killed(css)
            seen["tasks"] = exits.levels["inner"].tasks
            seen["tryget"] = await css_tryget_online(ctx, css)
            seen["stat"] = parse_flat_keyed(look(ctx.machine, "cgroup.stat").decode(), source="x")
            await ctx.ask(exits.go["inner"].complete)
            await ctx.sleep(100_000_000)
            seen["killed at last"] = is_killed(css)
            seen["tryget at last"] = await css_tryget_online(ctx, css)
            await css_put(ctx, css)

        exits.build(stage, work)

    stage = act(exits.stub, build)

    assert seen["flags"] == CssFlags.ONLINE | CssFlags.DYING
    assert (seen["killed"], seen["tasks"], seen["tryget"]) == (False, 1, True)
    assert (seen["killed at last"], seen["tryget at last"]) == (True, False)
    stat = seen["stat"]
    assert isinstance(stat, dict)
    assert stat["nr_dying_subsys_memory"] == 1, "N12.3: the count rises at rmdir"
    assert stat["nr_dying_descendants"] == 1
    assert ("free", "inner") in exits.stub.events
    assert stage.machine.cgroup_tree.nr_cgrps == 2, "the outer one is left"


def test_a_task_of_the_child_delays_the_parent() -> None:
    """KERNEL-7.2 N3.4: parent and child are removed in turn; both csses live until the child's last task has gone."""
    exits = Exits()
    killed: list[tuple[bool, bool]] = []

    def build(stage: Stage) -> None:
        async def work(ctx: Context) -> None:
            csses = [exits.levels[name].css for name in ("inner", "outer")]
            await exits.start(ctx, "inner")
            for name in ("inner", "outer"):
                assert await cgroup_rmdir(ctx, exits.levels[name])
            await ctx.sleep(100_000_000)
            assert csses[1].nr_populated_children == 1
            killed.append((is_killed(csses[0]), is_killed(csses[1])))
            await ctx.ask(exits.go["inner"].complete)
            await ctx.sleep(10_000)
            killed.append((is_killed(csses[0]), is_killed(csses[1])))

        exits.build(stage, work)

    stage = act(exits.stub, build)

    assert killed == [(False, False), (True, True)]
    assert [name for callback, name in exits.stub.events if callback == "offline"] == ["inner", "outer"]
    assert stage.machine.cgroup_tree.nr_cgrps == 1


def test_the_controller_hears_of_the_exit_while_the_task_is_in_its_cgroup() -> None:
    """D 6.4 in KERNEL-7.2; 6.12 is the other way round (test_cgroup)."""
    told: list[tuple[str, str, int]] = []
    stub = Stub()

    def build(stage: Stage) -> None:
        machine = stage.machine
        cgroups: list[Cgroup] = []

        async def see(_ctx: Context, callback: str, name: str) -> None:
            if name == "t":
                told.append((callback, name, cgroups[0].tasks))

        async def make(ctx: Context) -> None:
            cgroups.append(await mkdir(ctx, machine.root_cgroup, "a"))

        async def work(ctx: Context) -> None:
            await cgroup_attach_task(ctx, cgroups[0], ctx)

        stub.seen = see
        stage.set_up(make)
        stage.task("t", work)

    act(stub, build)

    assert told == [("fork", "t", 0), ("attach", "t", 1), ("exit", "t", 1)]


@each_seed
def test_a_task_hears_of_no_move_after_its_exit(seed: int) -> None:
    """D 3.7 in KERNEL-7.2: PF_EXITING is set before the move or after it; then the task stays where it is."""
    stub = Stub()

    def build(stage: Stage) -> None:
        cgroups: list[Cgroup] = []

        async def make(ctx: Context) -> None:
            cgroups.extend([await mkdir(ctx, stage.machine.root_cgroup, name) for name in "ab"])

        async def live(_ctx: Context) -> None:
            return

        async def move(ctx: Context) -> None:
            for cgroup, task in itertools.product(cgroups, tasks):
                await cgroup_attach_task(ctx, cgroup, task)

        async def remove(ctx: Context) -> None:
            for cgroup in cgroups:
                await rmdir(ctx, cgroup)

        stage.set_up(make)
        tasks = [stage.task(f"t{number}", live, cpu=number) for number in range(3)]
        stage.task("mover", move, cpu=1)
        stage.wind_up(remove)

    stage = act(stub, build, seed=seed)

    for task in ("t0", "t1", "t2"):
        callbacks = [callback for callback, name in stub.events if name == task and callback != "fork"]
        assert callbacks == ["attach"] * (len(callbacks) - 1) + ["exit"]
    assert stage.machine.cgroup_tree.nr_cgrps == 1


def test_no_task_goes_into_a_cgroup_that_is_removed() -> None:
    """cgroup_kn_lock_live(): its css would be populated again after the kill, and be killed a second time."""
    stub = Stub()
    tasks: list[int] = []

    def build(stage: Stage) -> None:
        async def work(ctx: Context) -> None:
            a = await mkdir(ctx, stage.machine.root_cgroup, "a")
            await css_get(ctx, a.css)
            await rmdir(ctx, a)
            await cgroup_attach_task(ctx, a, ctx)
            tasks.append(a.tasks)
            await css_put(ctx, a.css)

        stage.task("t", work)

    act(stub, build)

    assert tasks == [0]
    assert ("attach", "t") not in stub.events


# -- any order --------------------------------------------------------------------------------------------------------

TREE = {"a": "/", "b": "a", "c": "a"}


@attrs.define(eq=False)
class Ends:
    """Tasks of three csses end; a cgroup is removed, leaf first, as soon as the parent has heard of all its tasks."""

    seed: int
    cgroups: dict[str, Cgroup] = attrs.field(factory=dict)
    ended: dict[str, Completion] = attrs.field(factory=dict)
    delayed: int = 0

    def build(self, stage: Stage) -> None:
        machine, rng = stage.machine, random.Random(self.seed)
        self.cgroups["/"] = machine.root_cgroup

        async def make(ctx: Context) -> None:
            for name, above in TREE.items():
                self.cgroups[name] = await mkdir(ctx, self.cgroups[above], name)
                self.ended[name] = Completion(machine.cgroup_tree.actor, remaining=0)

        async def run_and_remove(ctx: Context) -> None:
            for number in range(6):
                await self.fork(ctx, rng.choice([*TREE]), number, rng.randrange(20_000))
            for name in rng.choice(["bca", "cba"]):
                await ctx.ask(self.ended[name].wait_for_completion)
                await rmdir(ctx, self.cgroups[name])

        stage.set_up(make)
        stage.task("remover", run_and_remove)
        stage.world.checks.append(self.look_at)

    async def fork(self, ctx: Context, name: str, number: int, pause: int) -> None:
        async def live(ctx: Context) -> None:
            await ctx.stall(pause)

        task = ctx.machine.new_task(f"t{number}", number % 2)
        await ctx.ask(ctx.machine.cgroup_tree.move_task, task, self.cgroups[name])
        await ctx.ask(self.ended[name].expect_one_more)
        ctx.machine.start(task, live, self.ended[name])

    def look_at(self, _flow: Flow) -> None:
        """A css that is killed was marked before, and has no task below it any more."""
        for name in TREE:
            cgroup = self.cgroups.get(name)
            if cgroup is None or not cgroup.has_css or cgroup.css.freed is not None:
                continue
            css = cgroup.css
            if is_killed(css):
                assert CssFlags.DYING in css.flags
                assert not css.is_populated
                assert not any(below.tasks for below in (cgroup, *cgroup.descendants()))
            self.delayed += CssFlags.DYING in css.flags and css.is_populated


def test_each_css_dies_once_after_its_tasks_whatever_the_order() -> None:
    delayed = 0
    for seed in range(40):
        ends, stub = Ends(seed), Stub()
        stage = act(stub, ends.build, seed=seed, strategy=("pct:2", "random")[seed % 4 == 3])
        delayed += bool(ends.delayed)
        machine = stage.machine
        for callback in ("offline", "released", "free"):
            order = [name for each, name in stub.events if each == callback]
            assert sorted(order) == [*TREE]
            assert order[-1] == "a"
        assert machine.cgroup_tree.nr_cgrps == 1
        assert (machine.root_cgroup.nr_dying_subsys, machine.root_cgroup.css.online_cnt) == (0, 1)
    assert delayed > 5, "the kill was left to the last task often enough"


DEEPER = TREE | {"d": "b"}


def counts_by(homes: Iterable[str]) -> dict[str, tuple[int, int]]:
    """The two counts of each css, by its definition: css_sets with tasks, and children with any task below."""
    above = {home: {home} for home in DEEPER}
    for name, parent in DEEPER.items():
        above[name] |= above.get(parent, set())
    busy = set().union(*(above.get(home, set()) for home in homes))
    return {
        name: (int(name in homes), sum(child in busy for child, parent in DEEPER.items() if parent == name))
        for name in DEEPER
    }


@each_seed
def test_the_populated_counts_are_those_of_the_tasks(seed: int) -> None:
    """KERNEL-7.2 N3.0, against the definition, after each of some moves; and the oracle finds a count that is wrong."""
    counted: list[tuple[dict[str, tuple[int, int]], dict[str, tuple[int, int]]]] = []

    def build(stage: Stage) -> None:
        machine, rng = stage.machine, random.Random(seed)
        cgroups: dict[str, Cgroup] = {"/": machine.root_cgroup}
        homes: dict[Context, str] = {}
        end = Completion(machine.cgroup_tree.actor, remaining=1)

        async def make(ctx: Context) -> None:
            for name, above in DEEPER.items():
                cgroups[name] = await mkdir(ctx, cgroups[above], name)

        async def move(ctx: Context) -> None:
            tasks = [machine.new_task(f"t{number}", number % 2) for number in range(3)]
            for task in tasks:
                machine.start(task, lambda ctx: ctx.ask(end.wait_for_completion))
            for _ in range(10):
                task, name = rng.choice(tasks), rng.choice([*cgroups])
                await cgroup_attach_task(ctx, cgroups[name], task)
                homes[task] = name
                csses = {name: cgroups[name].css for name in DEEPER}
                now = {name: (css.nr_populated_csets, css.nr_populated_children) for name, css in csses.items()}
                counted.append((now, counts_by({*homes.values()})))
                assert not [*check_populated(machine)]
            await ctx.ask(end.complete)

        async def remove(ctx: Context) -> None:
            cgroups["d"].css.nr_populated_children += 1
            assert [name for name, _ in check_populated(machine)] == ["populated", "populated"]
            cgroups["d"].css.nr_populated_children -= 1
            for name in "dbca":
                await rmdir(ctx, cgroups[name])

        stage.set_up(make)
        stage.task("mover", move)
        stage.wind_up(remove)

    act(Stub(), build, seed=seed)

    assert len(counted) == 10
    assert all(now == wanted for now, wanted in counted)


# -- a css that cannot go online --------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", range(1, 5))
def test_a_css_that_cannot_be_made_leaves_nothing(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 3.1: references and statistics of the cgroup's own css, then of the memory css; each of the four may fail."""
    made: list[Cgroup | None] = []
    stub = Stub()
    calls = itertools.count(1)

    def should_fail(_world: World, site: str) -> bool:
        return site == "percpu" and next(calls) == failing

    def build(stage: Stage) -> None:
        async def work(ctx: Context) -> None:
            made.append(await cgroup_mkdir(ctx, stage.machine.root_cgroup, "a"))
            await ctx.settle()
            made.append(await cgroup_mkdir(ctx, stage.machine.root_cgroup, "b"))

        stage.task("t", work)

    monkeypatch.setattr(World, "should_fail", should_fail)
    root = act(stub, build).machine.root_cgroup

    assert made[0] is None
    assert made[1] is not None
    had_css = failing > 2
    assert [event for event in stub.events if event[1] == "a"] == [("alloc", "a"), ("free", "a")] * had_css
    assert (root.nr_dying_subsys, root.nr_dying_descendants, root.css.nr_descendants) == (0, 0, 1)
    assert [*root.css.children] == [made[1].css]


@pytest.mark.parametrize("kernel", ["6.12", "7.2"])
def test_a_css_that_fails_to_go_online_is_freed(kernel: str) -> None:
    stub = Stub(fails=("a",))

    def build(stage: Stage) -> None:
        async def work(ctx: Context) -> None:
            assert await cgroup_mkdir(ctx, stage.machine.root_cgroup, "a") is None

        stage.task("t", work)

    stage = perform(stub, build, kernel=kernel)

    assert [callback for callback, name in stub.events if name == "a"] == ["alloc", "online", "free"]
    assert stage.machine.cgroup_tree.nr_cgrps == 1


# -- weaker forms -----------------------------------------------------------------------------------------------------

WEAKER = {
    "exit-without-dying-look": "leak:mem_cgroup held by nobody:",
    "populated-before-dying": "leak:mem_cgroup held by nobody:",
    "kill-finish-twice": "warn:percpu_ref_kill_and_confirm called more than once:percpu_ref_kill_and_confirm",
}
"""The variations of N3.4's pairing, with what exit-vs-rmdir must report."""


def found_by(budget: int, *patches: str) -> list[str]:
    options = RunOptions(
        scenario="exit-vs-rmdir", kernel="7.2", strategy="portfolio", driver="stepper", patches=patches
    )
    campaign = Campaign(Experiment.of(options), options, budget=budget)
    campaign.run()
    return [*campaign.found]


@pytest.mark.parametrize("slug", WEAKER)
def test_a_weaker_form_is_found(slug: str) -> None:
    """A css that nobody kills, or that two kill."""
    assert {each.slug for each in FIXES_7_2} >= {slug}
    assert WEAKER[slug] in found_by(120, slug)


def test_the_kernel_as_it_is_has_none_of_these() -> None:
    assert not {*WEAKER.values(), "property:eventually: every cgroup is gone:"} & {*found_by(120)}
