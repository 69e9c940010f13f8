"""SLUB of 7.2: sheaves, barns, kfree_rcu() through them, barriers. KERNEL-7.2 N1, N2 and N12."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar

import attrs
import pytest

from actors.files.seq_file import read_whole
from actors.files.slabinfo import slabinfo_open
from actors.fixes import FIXES
from actors.fixes_7_2 import destroy_without_rcu_barrier
from actors.linux.include.rcupdate import kfree_rcu_object, kvfree_rcu_barrier
from actors.linux.include.slab import (
    SlabFlags,
    kmem_cache_alloc,
    kmem_cache_alloc_bulk,
    kmem_cache_destroy,
    kmem_cache_free,
    kmem_cache_shrink,
)
from actors.linux.mm.kmem_cache import KmemCache, Slab, SlabObject
from actors.linux.mm.new_cache import calculate_sheaf_capacity
from actors.linux.mm.sheaves import MAX_FULL_SHEAVES
from actors.linux.mm.slub import indices
from actors.linux.mm.slub_sysfs import cpu_slabs_show, kernfs_seq_show, kobject_of, sheaf_capacity_show
from actors.machine.context import Context
from actors.oracles.ledger import free_objects
from actors.oracles.objcg import slots_of
from actors.system.flow import Flow
from actors.system.stepper import run_stepper
from actors.system.world import World
from actors.versions.kernel_fn import make_body
from actors.versions.patching import Patch
from explorer.assertions import explored
from explorer.search.registry import make_strategy
from protocol.formats.slabinfo import SlabinfoRow
from protocol.records import PatchRecord
from scenarios.registry import MACHINE, default_value
from scenarios.stage import Stage, mkdir, run_in, small_cache
from tests.today.sheaf_reference import Obj, Reference
from tests.today.slab_users import Users

ByStage = Callable[[Context, Stage, KmemCache], Awaitable[None]]
ROW = small_cache("module")


def perform(
    build: Callable[[Stage], None], *, seed: int = 0, kernel: str = "7.2", patches: tuple[Patch, ...] = (), **knobs: Any
) -> World:
    """Run the stage that *build* sets."""
    values = {knob.name: knobs.get(knob.name, default_value(knob)) for knob in MACHINE}
    world = World(make_strategy("random", seed))
    stage = Stage(world, kernel, values, patches=patches)
    stage.has_session = False
    build(stage)
    stage.start()
    run_stepper(world)
    return world


def alone(body: ByStage, *, row: SlabinfoRow = ROW, capacity: int = 0, **options: Any) -> None:
    """One task, on CPU 0 at first, with a cache; sheaves have another *capacity* if it is given. Nothing is found."""

    def build(stage: Stage) -> None:
        s = stage.boot(caches=[row]).root_cache(row.name)
        s.sheaf_capacity = capacity or s.sheaf_capacity

        async def work(ctx: Context) -> None:
            await body(ctx, stage, s)
            ends.append(1)

        stage.task("user", work)

    ends: list[int] = []
    world = perform(build, **options)
    assert not world.findings
    assert ends


async def taken(ctx: Context, s: KmemCache, count: int) -> list[SlabObject]:
    """*count* objects, allocated one by one."""
    objects = [await kmem_cache_alloc(ctx, s) for _ in range(count)]
    return [obj for obj in objects if obj is not None]


# -- sizes ------------------------------------------------------------------------------------------------------------

MEASURED = (
    ("kmalloc-64", 64, 60),
    ("dentry", 192, 60),
    ("filp", 192, 60),
    ("vm_area_struct", 192, 60),
    ("inode_cache", 560, 28),
    ("mem_cgroup", 1728, 12),
    ("mem_cgroup_per_node", 1920, 12),
    ("kmalloc-1k", 1024, 12),
    ("kmalloc-4k", 4096, 4),
    ("kmem_cache", 224, 0),
)
"""sheaf_capacity as 7.2.12 prints it (KERNEL-7.2 N12.0)."""


@pytest.mark.parametrize(("name", "size", "capacity"), MEASURED)
def test_the_capacity_is_the_measured_one(name: str, size: int, capacity: int) -> None:
    assert calculate_sheaf_capacity(name, size) == capacity


def test_a_sheaf_fills_a_bucket_of_kmalloc() -> None:
    sizes = {32 + 8 * calculate_sheaf_capacity("x", size) for size in range(8, 9000, 8)}

    assert sizes == {64, 128, 256, 512}


# -- which object comes next ------------------------------------------------------------------------------------------


def partial_of(s: KmemCache) -> dict[int, list[int]]:
    """The slabs on the list, in order, with their free objects in order."""
    return {slab.serial: list(indices(slab.freelist)) for slab in s.node[0].partial}


def seen(s: KmemCache) -> tuple[object, ...]:
    """The sheaves of the only CPU, and its barn."""
    pcs, barn = s.cpu_sheaves[0], s.node[0].barn
    assert barn is not None
    sheaves = [None if sheaf is None else pairs(sheaf.objects) for sheaf in (pcs.main, pcs.spare, pcs.rcu_free)]
    return *sheaves, [pairs(sheaf.objects) for sheaf in barn.full], len(barn.empty)


def pairs(objects: list[SlabObject]) -> list[Obj]:
    return [(slab.serial, at) for slab, at in objects]


@attrs.define(eq=False)
class Run:
    """One CPU's sheaves beside the reference; `lost` counts the steps after which the reference learns the slabs."""

    ctx: Context
    stage: Stage
    s: KmemCache
    reference: Reference
    held: list[SlabObject] = attrs.field(factory=list)
    lost: Counter[str] = attrs.field(factory=Counter)

    async def act(self, what: str, index: int = -1) -> None:
        """Do one thing on both sides, and compare them."""
        if what == "shrink":
            await kmem_cache_shrink(self.ctx, self.s)
            await self.ctx.settle()
            self.reference.shrink()
        elif what == "alloc" or not self.held:
            obj = await kmem_cache_alloc(self.ctx, self.s)
            assert obj is not None
            assert pairs([obj]) == [self.reference.alloc()]
            self.held.append(obj)
        else:
            await self.give(what, self.held.pop(index))
        self.compare(what)

    async def give(self, what: str, obj: SlabObject) -> None:
        if what == "free":
            await kmem_cache_free(self.ctx, self.s, obj)
            self.reference.give((obj.slab.serial, obj.at))
        else:
            await kfree_rcu_object(self.ctx, self.s, obj)
            await self.ctx.settle()
            self.reference.give_by_rcu((obj.slab.serial, obj.at))

    def compare(self, what: str) -> None:
        told = self.reference
        assert seen(self.s) == (told.main, told.spare, told.rcu, told.full, told.empty), what
        if told.is_lost:
            self.lost[what] += 1
            told.learn(partial_of(self.s), self.stage.machine.next_slab_serial() + 1)
        else:
            assert list(partial_of(self.s).items()) == [(slab, told.free[slab]) for slab in told.partial], what


def beside_the_reference(body: Callable[[Run], Awaitable[None]], capacity: int, objects: int) -> Counter[str]:
    """Run *body* on a machine with one CPU, and caches of that geometry."""
    runs: list[Run] = []

    async def work(ctx: Context, stage: Stage, s: KmemCache) -> None:
        runs.append(Run(ctx, stage, s, Reference(capacity, objects, stage.machine.next_slab_serial() + 1)))
        await body(runs[0])

    alone(work, row=small_cache("module", objects=objects), capacity=capacity, cpus=1)
    return runs[0].lost


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("capacity", "objects"), [(3, 4), (4, 2), (12, 4)])
def test_one_cpu_behaves_as_the_reference(capacity: int, objects: int, seed: int) -> None:
    """Phases in which a CPU mostly allocates, frees, or gives objects to kfree_rcu(); after some it shrinks."""
    dice = random.Random(seed)

    async def body(run: Run) -> None:
        for phase in range(12):
            weights = dice.choice([(9, 2, 1), (2, 9, 1), (3, 1, 9), (1, 1, 1)])
            for _ in range(dice.randrange(1, 6 * capacity)):
                await run.act(dice.choices(["alloc", "free", "rcu"], weights)[0], dice.randrange(len(run.held) or 1))
            if phase % 5 == 4:
                await run.act("shrink")

    assert beside_the_reference(body, capacity, objects)["shrink"] == 2


def test_a_barn_takes_no_more_full_sheaves_than_its_limit() -> None:
    """With ten of them there, the spare sheaf goes back to the slabs, and a sheaf that RCU returns, too."""

    async def body(run: Run) -> None:
        for _ in range(17 * 3):
            await run.act("alloc")
        for _ in range(13 * 3):
            await run.act("free")
        assert len(run.reference.full) == MAX_FULL_SHEAVES
        for _ in range(3):
            await run.act("rcu")

    assert beside_the_reference(body, 3, 4) == {"free": 1, "rcu": 1}


# -- every object is in one place -------------------------------------------------------------------------------------


def parked(s: KmemCache) -> Iterator[SlabObject]:
    """The objects in sheaves. A main sheaf that is being replaced is in the barn already."""
    sheaves = [sheaf for pcs in s.cpu_sheaves for sheaf in (pcs.main, pcs.spare) if sheaf is not None]
    sheaves += [sheaf for n in s.node if n.barn is not None for sheaf in n.barn.full]
    for sheaf in dict.fromkeys(sheaves):
        yield from sheaf.objects


def wrongs(s: KmemCache, *, is_at_rest: bool) -> Iterator[str]:
    """T17: an object that is in two places, or in use and in a sheaf; a slab whose flag does not tell where it is."""
    places = Counter(parked(s))
    for slab in s.slabs:
        if not slab.frozen:  # a new one, which only its maker knows
            places.update(SlabObject(slab, at) for at in free_objects(s, slab))
            yield from slab_wrongs(s, slab, is_at_rest=is_at_rest)
    for obj, count in places.items():
        if count > 1 or obj.slab.live >> obj.at & 1 or obj.slab not in s.slabs:
            yield f"{obj.label} is in {count} places as free"
    total = sum(slab.objects for slab in s.slabs)
    if is_at_rest and total != len(places) + s.live_objects:
        yield f"{total} objects: {len(places)} free, {s.live_objects} in use"


def slab_wrongs(s: KmemCache, slab: Slab, *, is_at_rest: bool) -> Iterator[str]:
    """What is wrong with one slab."""
    free = len(list(free_objects(s, slab)))
    listed = [n.nid for n in s.node if slab in n.partial]
    if listed not in ([], [slab.nid]) or bool(listed) != (slab.slab_list is not None):
        yield f"{slab.label} is on the lists of {listed}, flag {slab.slab_list is not None}"
    if listed and not free and not s.node[slab.nid].list_lock.holder:
        yield f"{slab.label} is full, and listed"
    if slab.inuse != slab.objects - free:
        yield f"{slab.label} counts {slab.inuse}; {free} are free there"
    if is_at_rest and free and not listed:
        yield f"{slab.label} is lost with {free} free objects"


class SheafUsers(Users):
    """Users of a cache of 7.2; `seen` has the kinds of sheaves, and interrupts at their lock."""

    acts: ClassVar[int] = 9

    def find_wrongs(self, *, is_at_rest: bool) -> Iterator[str]:
        return wrongs(self.s, is_at_rest=is_at_rest)

    async def shrink(self, ctx: Context) -> int:
        return await kmem_cache_shrink(ctx, self.s)

    async def free_later(self, ctx: Context, what: int, obj: SlabObject) -> None:
        if what == 6:
            await kfree_rcu_object(ctx, self.s, obj)
        else:
            await super().free_later(ctx, what, obj)

    async def wait_for_frees(self, ctx: Context) -> None:
        await kvfree_rcu_barrier(ctx)
        await super().wait_for_frees(ctx)

    def look(self, flow: Flow) -> None:
        super().look(flow)
        cpus = self.stage.machine.cpus
        for pcs in self.s.cpu_sheaves:
            names = {
                "spare": pcs.spare,
                "rcu": pcs.rcu_free,
                "irq": pcs.lock.holder is not None and cpus[pcs.cpu].in_softirq,
            }
            self.seen.update(name for name, there in names.items() if there)


def race(seed: int, *, cpus: int, nodes: int, capacity: int, min_partial: int) -> tuple[SheafUsers, World]:
    """A race of tasks, interrupts and shrinks; with some seeds memory is scarce, or RCU frees the slabs."""

    def build(stage: Stage) -> None:
        s = stage.boot(caches=[small_cache("module", objects=3)]).root_cache("module")
        s.sheaf_capacity, s.min_partial.value = capacity, min_partial
        if seed % 3 == 1:
            stage.make_scarce(20, "page", "cache_parts")
        elif seed % 3 == 2:
            s.flags |= SlabFlags.TYPESAFE_BY_RCU
        users.append(SheafUsers(stage, s, random.Random(seed)))
        users[0].start(tasks=2 * cpus, rounds=10)

    users: list[SheafUsers] = []
    world = perform(build, seed=seed, cpus=cpus, nodes=nodes)
    return users[0], world


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("cpus", "nodes"), [(2, 1), (3, 2)])
@pytest.mark.parametrize(("capacity", "min_partial"), [(2, 0), (5, 1)])
def test_every_object_is_in_one_place_and_none_is_lost(
    capacity: int, min_partial: int, cpus: int, nodes: int, seed: int
) -> None:
    """T17 after each step."""
    users, world = race(seed, cpus=cpus, nodes=nodes, capacity=capacity, min_partial=min_partial)

    assert not users.wrongs
    assert not world.findings


def test_the_race_has_all_kinds_of_sheaves_and_interrupts() -> None:
    seen = [race(seed, cpus=2, nodes=1, capacity=2, min_partial=0)[0].seen for seed in range(6)]

    assert set.union(*seen) == {"spare", "rcu", "irq"}


# -- what was measured ------------------------------------------------------------------------------------------------

EPI = SlabinfoRow("eventpoll_epi", 0, 0, 128, 32, 1)
CHARGE = 128 + 8
"""The bytes that an item of epoll is charged with."""


def charged_bytes(s: KmemCache) -> int:
    """By the vectors of the slabs."""
    return CHARGE * sum(objcg is not None for slab in s.slabs for objcg in slots_of(slab))


def close_items(kernel: str) -> list[int]:
    """The bytes charged for items of epoll: 59 are closed, half a minute later; 10 more, half a minute later."""
    figures: list[int] = []

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[EPI])
        s = machine.root_cache(EPI.name)

        async def open_and_close(ctx: Context) -> None:
            await ctx.migrate(machine.cpus[1])
            for count in (59, 10):
                for obj in await taken(ctx, s, count):
                    await kfree_rcu_object(ctx, s, obj)
                figures.append(charged_bytes(s))
                await ctx.sleep(30_000_000_000)
                figures.append(charged_bytes(s))

        async def in_cgroup(ctx: Context) -> None:
            cgroup = await mkdir(ctx, machine.root_cgroup, "m")
            await run_in(ctx, cgroup, open_and_close)
            await ctx.settle()
            figures.append(charged_bytes(s))
            await kvfree_rcu_barrier(ctx)
            figures.append(charged_bytes(s))

        stage.task("stage", in_cgroup)

    assert not perform(build, kernel=kernel).findings
    return figures


def test_objects_of_kfree_rcu_stay_charged_until_their_sheaf_is_full() -> None:
    """KERNEL-7.2 N2.3, measured on 7.2.12: 59 x 136 for ever; after 10 more the first 60 go, 9 x 136 stay for ever."""
    given, later, more, later_still, at_rest, after_the_barrier = close_items("7.2")

    assert (given, later) == (59 * CHARGE, 59 * CHARGE)
    assert more in (69 * CHARGE, 9 * CHARGE)
    assert (later_still, at_rest, after_the_barrier) == (9 * CHARGE, 9 * CHARGE, 0)


def test_on_6_12_they_go_within_half_a_minute() -> None:
    assert close_items("6.12") == [59 * CHARGE, 0, 10 * CHARGE, 0, 0, 0]


def test_the_row_of_mem_cgroup_is_the_measured_one() -> None:
    """KERNEL-7.2 N12.0: 12 active with the root alone, 12 with one more, 24 with 13; still 24 after 11 have gone.

    After a shrink there are 2.
    """
    active: list[int] = []

    async def body(ctx: Context, _stage: Stage, s: KmemCache) -> None:
        async def sample() -> None:
            text = (await read_whole(ctx, slabinfo_open())).decode()
            (row,) = [line.split() for line in text.splitlines() if line.startswith("mem_cgroup")]
            active.append(int(row[1]))

        memcgs = await taken(ctx, s, 1)
        await sample()
        memcgs += await taken(ctx, s, 1)
        await sample()
        memcgs += await taken(ctx, s, 11)
        await sample()
        for obj in memcgs[2:]:
            await kmem_cache_free(ctx, s, obj)
        await sample()
        await kmem_cache_shrink(ctx, s)
        await sample()

    alone(body, row=SlabinfoRow("mem_cgroup", 0, 0, 1728, 18, 8))

    assert active == [12, 12, 24, 24, 2]


def test_the_files_in_sysfs() -> None:
    async def body(ctx: Context, _stage: Stage, s: KmemCache) -> None:
        assert await kernfs_seq_show(ctx, kobject_of(s), sheaf_capacity_show) == 12
        assert await kernfs_seq_show(ctx, kobject_of(s), cpu_slabs_show) == 0
        await kmem_cache_alloc(ctx, s)
        assert await kernfs_seq_show(ctx, kobject_of(s)) == 3

    alone(body)


# -- special ways -----------------------------------------------------------------------------------------------------


def test_lockdep_knows_the_lock_of_sheaves() -> None:
    """It is held with interrupts on, and the lock of the barn is taken under it."""

    async def body(ctx: Context, stage: Stage, s: KmemCache) -> None:
        for obj in await taken(ctx, s, 4 * s.sheaf_capacity):
            await kmem_cache_free(ctx, s, obj)
        graph = stage.machine.lockdep.graph
        assert "hardirq-on" in graph.usage["&pcs->lock"]
        assert "&barn->lock" in graph.after["&pcs->lock"]

    alone(body)


def test_an_object_of_another_node_goes_to_its_slab() -> None:
    async def body(ctx: Context, stage: Stage, s: KmemCache) -> None:
        (obj,) = await taken(ctx, s, 1)
        await ctx.migrate(stage.machine.cpus[1])
        await kmem_cache_free(ctx, s, obj)
        assert not list(s.cpu_sheaves[1].parked)
        assert obj.at in free_objects(s, obj.slab)

    alone(body, nodes=2)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_refill_takes_from_another_node_only_what_that_may_give_up(kept: int) -> None:
    """A node keeps min_partial slabs for its own CPUs, though they have free objects."""
    nodes: set[int] = set()

    async def body(ctx: Context, stage: Stage, s: KmemCache) -> None:
        s.min_partial.value = kept
        await ctx.migrate(stage.machine.cpus[1])
        await taken(ctx, s, 1)
        assert await ctx.ask(s.node[1].read_nr_partial) == 1
        await ctx.migrate(stage.machine.cpus[0])
        nodes.update(obj.slab.nid for obj in await taken(ctx, s, 1))

    for seed in range(8):
        alone(body, nodes=2, capacity=2, seed=seed)

    assert nodes == ({0} if kept else {0, 1})


def test_an_object_of_another_node_waits_for_the_monitor() -> None:
    async def body(ctx: Context, stage: Stage, s: KmemCache) -> None:
        (obj,) = await taken(ctx, s, 1)
        await ctx.migrate(stage.machine.cpus[1])
        await kfree_rcu_object(ctx, s, obj)
        assert s.cpu_sheaves[1].rcu_free is None
        assert not stage.machine.krc.is_at_rest
        await ctx.sleep(30_000_000_000)
        assert not s.live_objects

    alone(body, nodes=2)


def test_without_memory_for_a_sheaf_objects_come_from_slabs_and_go_back_there() -> None:
    async def body(ctx: Context, stage: Stage, s: KmemCache) -> None:
        s.cpu_sheaves[0].spare = None
        stage.world.faults = {"cache_parts": 1.0}
        objects = await taken(ctx, s, 5)
        assert not list(parked(s))
        assert len({obj.slab for obj in objects}) == 2
        for obj in objects:
            await kmem_cache_free(ctx, s, obj)
        assert len(list(parked(s))) == 5
        assert not await kmem_cache_shrink(ctx, s)

    alone(body)


def test_without_a_page_there_is_no_object() -> None:
    async def body(ctx: Context, stage: Stage, s: KmemCache) -> None:
        stage.world.faults = {"page": 1.0}
        assert await kmem_cache_alloc(ctx, s) is None
        assert await kmem_cache_alloc_bulk(ctx, s, 20) == []
        assert not ctx.owns_cpu
        stage.world.faults = {}

    alone(body)


def test_an_object_that_is_freed_to_another_cache_is_lost() -> None:
    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[ROW, small_cache("other")])

        async def confuse(ctx: Context) -> None:
            obj = await kmem_cache_alloc(ctx, machine.root_cache("other"))
            assert obj is not None
            await kmem_cache_free(ctx, machine.root_cache("module"), obj)

        stage.task("user", confuse)

    kinds = {finding.kind for finding in perform(build).findings.values()}

    assert kinds == {"warn", "leak"}


# -- shutdown ---------------------------------------------------------------------------------------------------------


async def shut_down_without_a_flush(_ctx: Context, _s: KmemCache) -> bool:
    return False


def test_an_object_in_a_sheaf_when_its_cache_is_released_is_reported() -> None:
    """T18, and the warnings of pcs_destroy()."""
    body = make_body(shut_down_without_a_flush, "__kmem_cache_shutdown", "mm/slub.c", ("7.2",))
    patch = Patch(PatchRecord("no flush"), {"__kmem_cache_shutdown": body})

    def build(stage: Stage) -> None:
        s = stage.boot(caches=[ROW]).root_cache("module")

        async def unload(ctx: Context) -> None:
            objects = await taken(ctx, s, 12)
            await kmem_cache_free(ctx, s, objects[0])
            await kfree_rcu_object(ctx, s, objects[1])
            await kmem_cache_destroy(ctx, s)

        stage.task("rmmod", unload)

    names = {finding.name for finding in perform(build, patches=(patch,)).findings.values()}

    assert {"T18", "pcs_destroy: pcs->main->size"} <= names


def test_slab_mutex_is_held_while_the_shutdown_waits_for_rcu() -> None:
    """KERNEL-7.2 N2.5: a reader of /proc/slabinfo waits for a grace period."""
    held: list[bool] = []

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[ROW])
        s = machine.root_cache("module")

        def look(flow: Flow) -> None:
            if flow.name == "rmmod" and flow.request.info.name == "wait_for_completion":
                held.append(machine.slab_mutex.holder is flow)

        async def unload(ctx: Context) -> None:
            await kmem_cache_destroy(ctx, s)

        stage.task("rmmod", unload)
        stage.world.checks.append(look)

    assert not perform(build).findings
    assert {*held} == {False, True}


# -- stages and flaws -------------------------------------------------------------------------------------------------

MANY = "warn:kmem_cache_destroy module: Slab cache still has objects when called from"
FOREIGN: dict[str, object] = {"nodes": 2, "cpu": 1}
"""The module's objects are of another node than the CPU that gives them to kfree_rcu()."""

FLAWS: tuple[tuple[str, str, str, dict[str, object]], ...] = (
    ("no-kvfree-barrier", "destroy-vs-kfree-rcu", MANY, FOREIGN),
    ("barrier-without-monitor", "destroy-vs-kfree-rcu", MANY, FOREIGN),
    ("kobject-under-slab-mutex", "destroy-vs-shrink", "lockdep:cpu_hotplug_lock", {}),
    ("bulk-free-uncharges-one", "bulk-allocation", "invariant:T6", {}),
    ("destroy-without-rcu-barrier", "destroy-vs-kfree-rcu", MANY, {}),
    ("barrier-skips-cpus", "destroy-vs-full-sheaf", MANY, {}),
)


@pytest.mark.parametrize(("slug", "stage", "signature", "settings"), FLAWS, ids=[flaw[0] for flaw in FLAWS])
def test_a_flaw_is_found(slug: str, stage: str, signature: str, settings: dict[str, object]) -> None:
    has_fix = "7.2" in FIXES[slug].built_into
    flaw: dict[str, Any] = {"without": (slug,)} if has_fix else {"patches": (slug,)}
    explored(stage, kernel="7.2", budget=1_000, settings=settings, expect=signature, must_reach=False, **flaw)


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("destroy-vs-kfree-rcu", FOREIGN),
        ("destroy-vs-kfree-rcu", {}),
        ("destroy-vs-shrink", {}),
        ("destroy-vs-full-sheaf", {}),
        ("sheaf-moves", {}),
        ("sheaf-moves", {"nodes": 2}),
        ("shared-partials", {}),
        ("free-migrates", {}),
    ],
    ids=str,
)
def test_nothing_is_found_without_a_flaw(stage: str, settings: dict[str, object]) -> None:
    explored(stage, kernel="7.2", budget=60, settings=settings, must_reach=False)


def test_the_moments_that_matter_are_reached() -> None:
    explored("sheaf-moves", kernel="7.2", budget=150)
    explored("destroy-vs-full-sheaf", kernel="7.2", budget=60)


@pytest.mark.parametrize("only", ["kvfree_rcu_barrier_on_cache", "__kmem_cache_shutdown"])
def test_one_of_the_two_waits_for_callbacks_is_enough(only: str) -> None:
    """Each rcu_barrier() of the destruction makes up for the other, as far as objects go."""
    bodies = {name: body for name, body in destroy_without_rcu_barrier.added_to("7.2").bodies.items() if name != only}

    def build(stage: Stage) -> None:
        s = stage.boot(caches=[ROW]).root_cache("module")

        async def unload(ctx: Context) -> None:
            for obj in await taken(ctx, s, 14):
                await kfree_rcu_object(ctx, s, obj)
            await kmem_cache_destroy(ctx, s)

        stage.task("rmmod", unload, cpu=1)

    for seed in range(20):
        assert not perform(build, seed=seed, patches=(Patch(PatchRecord("half"), bodies),)).findings
