"""Statistics by cgroup and CPU: nothing is lost or counted twice, whoever flushes, and though cgroups go meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import pytest

from actors.files.crash_reader import look
from actors.files.kernel_files import FILES, find_file, locate
from actors.linux.include.rstat import __mod_memcg_state as mod_memcg_state
from actors.linux.include.rstat import cgroup_rstat_flush, cgroup_rstat_updated
from actors.linux.kernel.cgroup.cgroup import Cgroup, css_put, css_tryget, memcg_of
from actors.linux.kernel.cgroup.rstat import ITEMS, Key, MemcgStats, cgroup_rstat_flush_6_12, rstat_of
from actors.linux.kernel.locking.locks import Completion
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.vmstat import FLUSH_TIME, THIS_CPU_STAT, stats_of
from actors.machine.context import Context
from protocol.errors import UsageError
from protocol.formats.cgroup_files import parse_flat_keyed, parse_u64
from scenarios.stage import Stage, mkdir, rmdir
from tests.today.memcontrol_stub import Stub, add, perform

each_seed = pytest.mark.parametrize("seed", range(30))
TREE = {"a": "/", "b": "a", "c": "b", "d": "/", "e": "d"}
GOES = "cba"


def stats(cgroup: Cgroup) -> MemcgStats:
    return stats_of(memcg_of(cgroup.css))


@attrs.define(eq=False)
class Race:
    """Updaters on two CPUs and flushers, while the cgroups `GOES` are removed; at the end all are.

    `counted` is the reference: the sum of all updates by cgroup, node and item. `stays` is what d, which has stayed,
    counts after a flush: of its subtree, and alone.
    """

    seed: int
    stays: tuple[dict[Key, int], dict[Key, int]] = ({}, {})
    counted: dict[str, Counter[Key]] = attrs.field(factory=dict)
    cgroups: dict[str, Cgroup] = attrs.field(factory=dict)

    def build(self, stage: Stage) -> None:
        machine, rng = stage.machine, random.Random(self.seed)
        self.cgroups["/"] = machine.root_cgroup
        self.counted = {name: Counter() for name in ("/", *TREE)}

        stage.set_up(self.make, settles=rng.random() < 0.5)
        for number in range(4):
            names = rng.choices(["/", *TREE], k=5)
            numbers = [rng.choice([-5000, -1, 1, 7, 300_000]) for _ in names]
            stage.task(f"updater{number}", partial(self.update_all, names=names, numbers=numbers), cpu=number)
        for number in range(2):
            names = rng.choices(["/", *TREE], k=3)
            stage.task(f"flusher{number}", partial(self.flush_all, names=names), cpu=number)
        stage.task("remover", partial(self.remove, names=GOES), cpu=1)
        stage.wind_up(self.judge)

    async def make(self, ctx: Context) -> None:
        for name, above in TREE.items():
            self.cgroups[name] = await mkdir(ctx, self.cgroups[above], name)

    async def update_all(self, ctx: Context, names: list[str], numbers: list[int]) -> None:
        for name, nr in zip(names, numbers, strict=True):
            await self.update(ctx, name, nr)

    async def flush_all(self, ctx: Context, names: list[str]) -> None:
        """Flush some cgroups, which are pinned as by an open file."""
        for name in names:
            cgroup = self.cgroups[name]
            if await css_tryget(ctx, cgroup.css):
                await cgroup_rstat_flush(ctx, cgroup)
                await css_put(ctx, cgroup.css)

    async def remove(self, ctx: Context, names: str) -> None:
        for name in names:
            await rmdir(ctx, self.cgroups[name])

    async def judge(self, ctx: Context) -> None:
        await cgroup_rstat_flush(ctx, ctx.machine.root_cgroup)
        self.stays = some(stats(self.cgroups["d"]).state), some(stats(self.cgroups["d"]).state_local)
        await self.remove(ctx, "ed")
        await ctx.settle()
        await cgroup_rstat_flush(ctx, ctx.machine.root_cgroup)

    async def update(self, ctx: Context, name: str, nr: int) -> None:
        """Count for a cgroup that is pinned; an obj_cgroup's memcg is not, where it is read under RCU."""
        css = self.cgroups[name].css
        if not await css_tryget(ctx, css):
            return
        await add(ctx, self.cgroups[name], "slab_reclaimable", nr)
        self.counted[name].update({(None, "slab_reclaimable"): nr, (0, "slab_reclaimable"): nr})
        with ctx.preempt_section:
            await mod_memcg_state(ctx, memcg_of(css), "kernel", nr % 9)
        self.counted[name][None, "kernel"] += nr % 9
        await css_put(ctx, css)

    def expected(self, *names: str) -> dict[Key, int]:
        total: Counter[Key] = Counter()
        for name in names:
            for key, nr in self.counted[name].items():
                total[key] += nr
        return some(total)


def some(counter: Counter[Key]) -> dict[Key, int]:
    """The counters that are not zero."""
    return {key: nr for key, nr in counter.items() if nr}


# -- nothing is lost --------------------------------------------------------------------------------------------------


@each_seed
def test_the_sums_are_those_of_all_updates_whoever_flushes_and_goes(seed: int) -> None:
    race = Race(seed)

    stage = perform(Stub(), race.build, seed=seed)

    root = stage.machine.root_cgroup
    assert some(stats(root).state) == race.expected("/", *TREE)
    assert some(stats(root).state_local) == race.expected("/")
    assert race.stays == (race.expected("d", "e"), race.expected("d"))
    assert not rstat_of(root).linked
    assert not root.children


def loses(**bodies: Callable[..., Awaitable[None]]) -> int:
    """The number of seeds, of 15, with which the root's sums are wrong if these functions have other bodies."""
    lost = 0
    for seed in range(15):
        race = Race(seed)
        stage = perform(Stub(others=bodies), race.build, seed=seed)
        lost += some(stats(stage.machine.root_cgroup).state) != race.expected("/", *TREE)
    return lost


def test_without_the_flush_at_the_release_the_last_changes_are_lost() -> None:
    """KERNEL-today 15.4: the test above can fail."""

    async def flush(ctx: Context, cgroup: Cgroup) -> None:
        if ctx.machine.cgroup_mutex.holder is not ctx:
            await ctx.machine.functions.below(cgroup_rstat_flush_6_12, flush)(ctx, cgroup)

    assert loses(cgroup_rstat_flush=flush) > 5


def test_a_counter_that_is_linked_before_it_counts_is_lost_to_a_flush_in_between() -> None:
    """KERNEL-today 15.2: the order of the two decides."""

    async def mod(ctx: Context, memcg: Memcg, nid: int, item: str, nr: int) -> None:
        await count(ctx, memcg, ((None, item), (nid, item)), nr)

    async def mod_whole(ctx: Context, memcg: Memcg, item: str, nr: int) -> None:
        await count(ctx, memcg, ((None, item),), nr)

    async def count(ctx: Context, memcg: Memcg, keys: tuple[Key, ...], nr: int) -> None:
        await cgroup_rstat_updated(ctx, memcg.css.cgroup, ctx.smp_processor_id)
        await ctx.stall(10_000)
        await ctx.this_cpu(stats_of(memcg), THIS_CPU_STAT)
        stats_of(memcg).count(ctx, keys, nr)

    assert loses(__mod_memcg_lruvec_state=mod, __mod_memcg_state=mod_whole) > 0


def test_an_update_under_rcu_alone_may_come_after_the_flush_at_the_release_and_be_lost() -> None:
    """An obj_cgroup's memcg is read under RCU, without a reference; RCU keeps its memory, but not its place in a flush.

    (inf) 15.4 says that nothing is lost at removal. That holds for those who pin the css.
    """
    stub = Stub()

    def build(stage: Stage) -> None:
        machine = stage.machine
        cgroups: list[Cgroup] = []
        offline = Completion(machine.cgroup_tree.actor, remaining=1)
        found = Completion(machine.cgroup_tree.actor, remaining=1)

        async def see(ctx: Context, callback: str, _name: str) -> None:
            if callback == "offline":  # just before the obj_cgroup goes to the parent
                await ctx.ask(offline.complete)
                await ctx.ask(found.wait_for_completion)

        async def make(ctx: Context) -> None:
            cgroups.append(await mkdir(ctx, machine.root_cgroup, "a"))

        async def update(ctx: Context) -> None:
            await ctx.ask(offline.wait_for_completion)
            with ctx.rcu_read_section:
                await ctx.ask(found.complete)
                await ctx.stall(1_000_000)
                assert ("released", "a") in stub.events
                await add(ctx, cgroups[0], "slab_reclaimable", 100)

        async def remove(ctx: Context) -> None:
            await rmdir(ctx, cgroups[0])

        async def judge(ctx: Context) -> None:
            await cgroup_rstat_flush(ctx, machine.root_cgroup)

        stub.seen = see
        stage.set_up(make)
        stage.task("updater", update, cpu=1)
        stage.task("remover", remove)
        stage.wind_up(judge)

    stage = perform(stub, build)

    assert stats(stage.machine.root_cgroup).state[None, "slab_reclaimable"] == 0


# -- when a reader sees it --------------------------------------------------------------------------------------------


def files_after(nr: int, *, times: int = 1, sleep: int = 0) -> dict[str, dict[str, int]]:
    """memory.stat of a cgroup and of the root, after some updates of slab_unreclaimable below the cgroup."""
    files: dict[str, dict[str, int]] = {}

    def build(stage: Stage) -> None:
        machine = stage.machine

        async def work(ctx: Context) -> None:
            a = await mkdir(ctx, machine.root_cgroup, "a")
            b = await mkdir(ctx, a, "b")
            for _ in range(times):
                await add(ctx, b, "slab_unreclaimable", nr)
            await ctx.sleep(sleep)
            for name in ("a/memory.stat", "memory.stat"):
                file, cgroup = locate(machine, name)
                data = await file.read(ctx, cgroup)
                assert data is not None
                files[name] = parse_flat_keyed(data.decode(), source="x")

        stage.task("t", work)

    perform(Stub(), build)
    return files


def test_memory_stat_lags_behind_until_enough_has_changed() -> None:
    """KERNEL-today 15.3: 64 pages for each CPU; a change of a few bytes counts as a page."""
    assert files_after(8)["a/memory.stat"]["slab_unreclaimable"] == 0
    assert files_after(8, times=2 * 64)["a/memory.stat"]["slab_unreclaimable"] == 0
    assert files_after(8, times=3 * 64)["a/memory.stat"]["slab_unreclaimable"] == 3 * 64 * 8
    assert files_after(4096 * 129)["a/memory.stat"]["slab_unreclaimable"] == 4096 * 129


def test_memory_stat_is_two_seconds_old_at_most() -> None:
    assert files_after(8, sleep=FLUSH_TIME // 2)["a/memory.stat"]["slab"] == 0
    assert files_after(8, sleep=2 * FLUSH_TIME)["a/memory.stat"]["slab"] == 8


def test_the_periodic_flush_does_not_keep_the_machine_awake() -> None:
    """Quiescence does not wait for it, and without an update it does not run."""
    times: list[int] = []

    def build(stage: Stage) -> None:
        async def work(ctx: Context) -> None:
            a = await mkdir(ctx, stage.machine.root_cgroup, "a")
            await add(ctx, a, "file", 1)
            await ctx.settle()
            times.append(stage.world.now)
            await ctx.sleep(2 * FLUSH_TIME)
            times.append(stage.world.steps)
            await ctx.sleep(100 * FLUSH_TIME)
            times.append(stage.world.steps)

        stage.task("t", work)

    stage = perform(Stub(), build)

    assert times[0] < FLUSH_TIME
    assert stats(stage.machine.root_cgroup).state[None, "file"] == 1
    assert times[2] - times[1] < 3


# -- the files --------------------------------------------------------------------------------------------------------


def test_the_crash_reader_flushes_nothing() -> None:
    """It looks at a stopped machine, from outside."""

    def build(stage: Stage) -> None:
        async def work(ctx: Context) -> None:
            a = await mkdir(ctx, stage.machine.root_cgroup, "a")
            await add(ctx, a, "file", 500)
            assert parse_flat_keyed(look(stage.machine, "a/memory.stat").decode(), source="x")["file"] == 0
            assert stats(a).needs_flush()
            assert rstat_of(a).linked

        stage.task("t", work)

    perform(Stub(), build)


def test_memory_stat_has_bytes_and_the_slab_lines_sum_up() -> None:
    values = files_after(4096 * 200, sleep=2 * FLUSH_TIME)

    assert list(values["a/memory.stat"]) == [*ITEMS, "slab"]
    assert values["a/memory.stat"] == values["memory.stat"], "the root has the file since 5.8"
    assert values["memory.stat"]["slab"] == values["memory.stat"]["slab_unreclaimable"] == 4096 * 200


def test_pages_are_shown_as_bytes_and_a_sum_below_zero_as_zero() -> None:
    def build(stage: Stage) -> None:
        async def work(ctx: Context) -> None:
            a = await mkdir(ctx, stage.machine.root_cgroup, "a")
            memcg_of(a.css).memory.usage = 5
            await add(ctx, a, "file", 3)
            await add(ctx, a, "slab_reclaimable", -9)
            await cgroup_rstat_flush(ctx, a)

        stage.task("t", work)

    machine = perform(Stub(), build).machine
    values = parse_flat_keyed(look(machine, "a/memory.stat").decode(), source="x")

    assert (values["file"], values["slab_reclaimable"], values["slab"]) == (3 * 4096, 0, 0)
    assert parse_u64(look(machine, "a/memory.current").decode(), source="x") == 5 * 4096


@pytest.mark.parametrize("name", ["memcg_slabinfo", "memory.kmem.slabinfo", "memory.current"])
@pytest.mark.parametrize("cgroup", ["v1", "v2"])
def test_files_that_this_kernel_does_not_have(name: str, cgroup: str) -> None:
    def build(stage: Stage) -> None:
        async def work(ctx: Context) -> None:
            await mkdir(ctx, stage.machine.root_cgroup, "a")

        stage.task("t", work)

    machine = perform(Stub(), build, cgroup=cgroup).machine
    assert find_file(name) in FILES
    if (name, cgroup) == ("memory.current", "v2"):
        assert look(machine, "a/memory.current") == b"0\n"
        name = "memory.current"  # the root's
    with pytest.raises(UsageError):
        look(machine, name if cgroup == "v2" else f"a/{name}")
