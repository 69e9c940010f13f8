"""The stocks of 7.2: against a reference, with a handler in the middle, in races, and as seen on a real machine.

The captures of 7.2.12 show what drain_all_stock() empties, and how long a CPU keeps the obj_cgroup of a removed cgroup.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable

import attrs
import pytest

from actors.api import GFP_KERNEL, Cgroup, Context, kmem_cache_free
from actors.fixes_7_2 import FIXES_7_2
from actors.fixes_today import FIXES_TODAY
from actors.linux.kernel.cgroup.cgroup import memcg_of
from actors.linux.kernel.locking.locks import Completion, LocalLockHeld
from actors.linux.mm.memcontrol import (
    NR_OBJ_STOCK,
    drain_all_stock,
    drain_local_memcg_stock,
    refill_stock,
    try_charge_memcg,
)
from actors.linux.mm.obj_cgroup import (
    ObjCgroup,
    charge_object,
    drain_local_obj_stock,
    obj_cgroup_charge,
    obj_cgroup_get,
    obj_cgroup_uncharge,
    uncharge_object,
)
from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign
from scenarios.stage import fill, mkdir, rmdir, run_in
from tests.today.lone_task import Body, alone
from tests.today.stock_reference import ITEMS, PAGE, Actual, Reference

UNRECLAIMABLE = (0, "slab_unreclaimable")


# -- against the reference --------------------------------------------------------------------------------------------

CGROUPS = tuple("abcdefghi")
"""More than there are slots of either kind."""

GONE = frozenset("hi")

SIZES = (8, 104, 1000, 2008, PAGE, PAGE + 8, 3 * PAGE + 100, 20_000, 40_000)
PAGES = (1, 1, 2, 7, 30, 64, 65, 100)

OPERATIONS = {"object": 6, "free": 5, "charge": 2, "uncharge": 2, "pages": 2, "refill": 2, "drain": 1}


@attrs.define
class Walk:
    """Random operations on the stocks of one CPU; after each, the machine is what the reference says.

    `objects`, `others` and `pages` are charged, and not uncharged yet. `done` counts the operations.
    """

    seed: int
    done: Counter[str] = attrs.field(factory=Counter)
    objects: list[tuple[str, int, tuple[int, str]]] = attrs.field(factory=list)
    others: list[tuple[str, int]] = attrs.field(factory=list)
    pages: list[tuple[str, int]] = attrs.field(factory=list)
    rng: random.Random = attrs.field(init=False)
    ours: Actual = attrs.field(init=False)
    theirs: Reference = attrs.field(init=False)

    async def run(self, ctx: Context) -> None:
        self.rng = random.Random(self.seed)
        await self.prepare(ctx)
        names, weights = list(OPERATIONS), list(OPERATIONS.values())
        for _ in range(300):
            await self.step(ctx, self.rng.choices(names, weights)[0])
            assert self.ours.state() == self.theirs.state()
        await self.end(ctx)

    async def prepare(self, ctx: Context) -> None:
        """Make the cgroups, and remove some whose obj_cgroups stay, as with objects in use."""
        root = ctx.machine.root_cgroup
        made = {name: await mkdir(ctx, root, name) for name in CGROUPS}
        memcgs = {name: memcg_of(cgroup.css) for name, cgroup in made.items()}
        objcgs = {name: objcg_of(cgroup) for name, cgroup in made.items()}
        for name in sorted(GONE):
            await obj_cgroup_get(ctx, objcgs[name])
            await rmdir(ctx, made[name])
            del memcgs[name]
        await ctx.settle()
        self.ours, self.theirs = Actual(ctx.machine, memcgs, objcgs), Reference(GONE)
        self.ours.begin()

    async def step(self, ctx: Context, what: str) -> None:
        self.done[what] += 1
        name, size = self.rng.choice(CGROUPS), self.rng.choice(SIZES)
        if what == "object":
            await self.allocate(ctx, name, size, (self.rng.randrange(2), self.rng.choice(ITEMS)))
        elif what == "free" and self.objects:
            await self.free(ctx)
        elif what == "charge":
            self.others.append((name, size))
            assert await obj_cgroup_charge(ctx, self.ours.objcgs[name], GFP_KERNEL, size)
            self.theirs.charge_bytes(name, size)
        elif what == "uncharge" and self.others:
            name, size = self.others.pop(self.rng.randrange(len(self.others)))
            await obj_cgroup_uncharge(ctx, self.ours.objcgs[name], size)
            self.theirs.refill_bytes(name, size, allow=True)
        elif what == "drain":
            await self.drain(ctx, self.rng.choice(("pages", "bytes", "all", "all")))
        else:
            await self.move_pages(ctx, what)

    async def allocate(self, ctx: Context, name: str, size: int, counter: tuple[int, str]) -> None:
        self.objects.append((name, size, counter))
        assert await charge_object(ctx, self.ours.objcgs[name], GFP_KERNEL, size, counter)
        self.theirs.charge_bytes(name, size)
        self.theirs.count(name, *counter, size)

    async def free(self, ctx: Context) -> None:
        name, size, counter = self.objects.pop(self.rng.randrange(len(self.objects)))
        await uncharge_object(ctx, self.ours.objcgs[name], size, counter)
        self.theirs.refill_bytes(name, size, allow=True)
        self.theirs.count(name, *counter, -size)

    async def move_pages(self, ctx: Context, what: str) -> None:
        """Charge pages, or give some back into the stock."""
        if what == "pages":
            name, nr = self.rng.choice(sorted(self.ours.memcgs)), self.rng.choice(PAGES)
            self.pages.append((name, nr))
            assert await try_charge_memcg(ctx, self.ours.memcgs[name], GFP_KERNEL, nr)
            self.theirs.charge(name, nr)
        elif self.pages:
            name, nr = self.pages.pop(self.rng.randrange(len(self.pages)))
            await refill_stock(ctx, self.ours.memcgs[name], nr)
            self.theirs.refill(name, nr)

    async def drain(self, ctx: Context, what: str) -> None:
        if what == "pages":
            await drain_local_memcg_stock(ctx)
            self.theirs.drain_pages()
        elif what == "bytes":
            await drain_local_obj_stock(ctx)
            self.theirs.drain_bytes()
        else:
            name = self.rng.choice(sorted(self.ours.memcgs))
            await drain_all_stock(ctx, self.ours.memcgs[name])
            self.theirs.drain_all(name)

    async def end(self, ctx: Context) -> None:
        """Give everything back: what remains charged are the whole pages that the obj_cgroups keep for themselves."""
        while self.objects:
            await self.free(ctx)
        while self.others:
            await self.step(ctx, "uncharge")
        while self.pages:
            await self.step(ctx, "refill")
        await self.drain(ctx, "bytes")
        await self.drain(ctx, "pages")
        last = self.ours.state()
        assert last == self.theirs.state()
        assert not last["shown"]
        assert all(nr % PAGE == 0 for nr in last["rest"].values())
        assert last["usage"] == {name: nr // PAGE for name, nr in last["rest"].items() if name not in GONE}
        assert sum(last["kernel"].values()) == sum(last["rest"].values()) // PAGE


def objcg_of(cgroup: Cgroup) -> ObjCgroup:
    """The obj_cgroup of a cgroup that is online, for node 0."""
    objcg = memcg_of(cgroup.css).nodeinfo[0].objcg
    assert objcg is not None
    return objcg


@pytest.mark.parametrize("seed", range(12))
def test_any_sequence_on_one_cpu_does_what_the_reference_says(seed: int) -> None:
    """Slots and turns, references, counters, rests, and what is counted at once or later."""
    walk = Walk(seed)

    alone(walk.run)

    assert min(walk.done[what] for what in OPERATIONS) > 3


def test_a_slot_gives_pages_back_before_its_bytes_exceed_16_bits() -> None:
    """Each charge is larger than what the slot may have, so the rests of their last pages come together."""
    held: list[int] = []

    async def charge(ctx: Context) -> None:
        objcg = objcg_of(await mkdir(ctx, ctx.machine.root_cgroup, "job"))
        for _ in range(20):
            assert await obj_cgroup_charge(ctx, objcg, GFP_KERNEL, 70_000)
            held.append(ctx.machine.obj_stocks[0].nr_bytes[0])

    alone(charge)

    rest = -70_000 % PAGE
    before = 65_535 // rest
    assert held[:before] == [rest * number for number in range(1, before + 1)]
    assert held[before] == rest * (before + 1) % PAGE


# -- a handler in the middle ------------------------------------------------------------------------------------------


async def interrupt(ctx: Context, handler: Body) -> None:
    """Let *handler* run on this CPU, now: as a hard IRQ that comes before the next access."""
    done = Completion(ctx.machine.cgroup_tree.actor, remaining=1)
    await ctx.ask(ctx.machine.call_queues[ctx.smp_processor_id].send, handler, done)
    await ctx.ask(done.spin_until_done)


def in_the_middle(handler: Callable[[Context, Cgroup], Awaitable[None]], *, of: str) -> Actual:
    """What is left if *handler* runs while its CPU holds the lock of an empty stock, *of* pages or of bytes."""
    left: list[Actual] = []

    async def body(ctx: Context) -> None:
        machine = ctx.machine
        cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        assert await charge_object(ctx, objcg_of(cgroup), GFP_KERNEL, 2 * PAGE + 100, UNRECLAIMABLE)
        await drain_local_obj_stock(ctx)
        await drain_local_memcg_stock(ctx)
        left.append(Actual(machine, {"job": memcg_of(cgroup.css)}, {"job": objcg_of(cgroup)}))
        left[0].begin()

        async def handle(irq: Context) -> None:
            assert irq.in_handler
            await handler(irq, cgroup)

        async with LocalLockHeld(ctx, machine.obj_stock_locks if of == "bytes" else machine.memcg_stock_locks):
            await interrupt(ctx, handle)

    alone(body)
    return left[0]


def test_a_free_in_a_handler_does_without_a_stock_that_its_cpu_uses() -> None:
    """KERNEL-7.2 N5.4, N5.8: whole pages go, the rest to the obj_cgroup, and the bytes are counted at once."""

    async def free(ctx: Context, cgroup: Cgroup) -> None:
        await uncharge_object(ctx, objcg_of(cgroup), 2 * PAGE + 100, UNRECLAIMABLE)

    state = in_the_middle(free, of="bytes").state()

    assert state["bytes"] == [None] * 5
    assert state["rest"] == {"job": PAGE}  # 3996 bytes of before, and 100
    assert state["pages"][0] == ("job", 2)
    assert state["usage"] == {"job": 3}
    assert state["kernel"] == {"job": 1}
    assert state["shown"] == {}


def test_a_charge_in_a_handler_finds_nothing_in_a_stock_that_its_cpu_uses() -> None:
    """A whole page is charged, and the rest of it is the obj_cgroup's own."""

    async def allocate(ctx: Context, cgroup: Cgroup) -> None:
        assert await charge_object(ctx, objcg_of(cgroup), GFP_KERNEL, 1000, UNRECLAIMABLE)

    state = in_the_middle(allocate, of="bytes").state()

    assert state["bytes"] == [None] * 5
    assert state["rest"] == {"job": 2 * (PAGE - 100) - 900}
    assert state["usage"] == {"job": 3 + 64}
    assert state["shown"] == {("job", 0, "slab_unreclaimable"): 2 * PAGE + 1100}


def test_pages_that_a_handler_gives_back_go_to_the_counters_if_the_stock_is_in_use() -> None:
    """KERNEL-7.2 N5.2; with the stock of bytes free, the slot there is as ever."""

    async def free(ctx: Context, cgroup: Cgroup) -> None:
        await uncharge_object(ctx, objcg_of(cgroup), 2 * PAGE + 100, UNRECLAIMABLE)

    state = in_the_middle(free, of="pages").state()

    assert state["pages"] == [None] * 7
    assert state["usage"] == {}
    assert state["bytes"][0] == ("job", 0)
    assert state["rest"] == {}


def test_lockdep_knows_that_such_a_handler_cannot_deadlock() -> None:
    """The locks are taken in handlers and held with interrupts on; the handler takes page counters, and no lock."""

    async def both(ctx: Context) -> None:
        cgroup = await mkdir(ctx, ctx.machine.root_cgroup, "job")
        assert await charge_object(ctx, objcg_of(cgroup), GFP_KERNEL, 5000, UNRECLAIMABLE)

        async def handle(irq: Context) -> None:
            await uncharge_object(irq, objcg_of(cgroup), 5000, UNRECLAIMABLE)

        await interrupt(ctx, handle)
        usage = ctx.machine.lockdep.graph.usage
        assert set(usage["obj_stock.lock"]) == set(usage["memcg_stock.lock"]) == {"hardirq-on", "softirq-on"}

    alone(both)


# -- in races ---------------------------------------------------------------------------------------------------------

LARGE = (("size", "4096"),)
BOTH = (*LARGE, ("context", "both"), ("objects", "4"))


def search(stage: str, slug: str = "", budget: int = 60, settings: tuple[tuple[str, str], ...] = ()) -> dict[str, int]:
    """The signatures that a search on 7.2 finds, with the schedule of each, without a fix or with a weaker form."""
    is_fix = any(each.slug == slug and each.built_into for each in (*FIXES_TODAY, *FIXES_7_2))
    options = RunOptions(
        scenario=stage,
        kernel="7.2",
        strategy="portfolio",
        driver="stepper",
        settings=settings,
        without=(slug,) if is_fix else (),
        patches=(slug,) if slug and not is_fix else (),
    )
    campaign = Campaign(Experiment.of(options), options, budget=budget, first_only=True)
    campaign.run()
    return {signature: found.first_schedule for signature, found in campaign.found.items()}


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("last-object-vs-rmdir", BOTH),
        ("objcg-handover", ()),
        pytest.param("last-object-vs-rmdir", (*BOTH, ("below", "root"), ("nodes", "2")), marks=pytest.mark.slow),
        pytest.param("drain-vs-release", (("rounds", "6"),), marks=pytest.mark.slow),
        pytest.param("late-charge", (("nodes", "2"),), marks=pytest.mark.slow),
        pytest.param("charge-vs-drain", (), marks=pytest.mark.slow),
        pytest.param("fork-exit-vs-rmdir", (("nodes", "2"),), marks=pytest.mark.slow),
    ],
)
def test_nothing_is_lost_in_a_race(stage: str, settings: tuple[tuple[str, str], ...]) -> None:
    """Bytes, pages, references and statistics are all there at the end, in whichever stock (T3, T7, T8, T9, U3)."""
    assert search(stage, settings=settings) == {}


@pytest.mark.parametrize(
    ("slug", "stage", "signature", "settings"),
    [
        ("css-get-from-zero", "last-object-vs-rmdir", "refcount:Css", (*LARGE, ("removal", "before"))),
        ("css-get-from-zero-in-charge", "late-charge", "refcount:Css", (("sleeps", "lists"),)),
        pytest.param("update-without-loop", "attach-vs-update", "invariant:T20", (), marks=pytest.mark.slow),
        pytest.param(
            "charge-of-the-root",
            "attach-vs-update",
            "warn:refill_stock: mem_cgroup_is_root(memcg)",
            (),
            marks=pytest.mark.slow,
        ),
        ("flushing-for-ever", "stock-refill", "invariant:T9", ()),
        ("slot-emptied-first", "drain-vs-release", "warn:obj_cgroup_release: nr_bytes & (PAGE_SIZE - 1)", ()),
        ("refill-without-lock", "last-object-vs-rmdir", "leak:css reference", BOTH),
        (
            "root-vmstat-after-reparent",
            "last-object-vs-rmdir",
            "accounting:slab_unreclaimable of the root too high",
            (*LARGE, ("below", "root")),
        ),
        pytest.param(
            "obj-stock-flush-required",
            "drain-vs-release",
            "null-deref:obj_stock_flush_required()",
            (("rounds", "6"),),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_flaw_is_found(slug: str, stage: str, signature: str, settings: tuple[tuple[str, str], ...]) -> None:
    assert any(signature in found for found in search(stage, slug, 2_000, settings))


# -- as seen on a real machine ----------------------------------------------------------------------------------------


async def idle_cgroup(ctx: Context, parent: Cgroup) -> ObjCgroup:
    """Make a cgroup that has allocated and freed on CPU 1; return its obj_cgroup."""
    job = await mkdir(ctx, parent, "job")
    await ctx.migrate(ctx.machine.cpus[1])
    await allocate_once(ctx, job)
    await ctx.migrate(ctx.machine.cpus[0])
    return objcg_of(job)


async def allocate_once(ctx: Context, cgroup: Cgroup) -> None:
    cache = ctx.machine.root_cache("alpha")
    for obj in await fill(ctx, cgroup, cache, 1):
        await kmem_cache_free(ctx, cache, obj)


def test_the_removal_drains_the_stock_of_pages_and_leaves_that_of_bytes() -> None:
    """The obj_cgroup is the parent's by then, and a drain of the parent's stocks finds it."""

    async def body(ctx: Context) -> None:
        machine = ctx.machine
        parent = await mkdir(ctx, machine.root_cgroup, "parent")
        objcg = await idle_cgroup(ctx, parent)
        job = objcg.made_for
        assert job in machine.memcg_stocks[1].cached
        await rmdir(ctx, job.css.cgroup)
        await ctx.settle()
        assert job.freed is not None
        assert job not in machine.memcg_stocks[1].cached
        assert machine.obj_stocks[1].cached[0] is objcg
        assert objcg.memcg is memcg_of(parent.css)
        await drain_all_stock(ctx, memcg_of(parent.css))
        await ctx.settle()
        assert machine.obj_stocks[1].cached == [None] * NR_OBJ_STOCK
        assert objcg not in machine.objcgs

    alone(body, cpus=2)


def test_an_obj_cgroup_stays_until_as_many_others_as_there_are_slots_have_allocated() -> None:
    """The fifth other one displaces it; one alone does not. The root, whose obj_cgroup it is then, takes no slot."""
    alive: list[bool] = []

    async def body(ctx: Context) -> None:
        machine = ctx.machine
        others = [await mkdir(ctx, machine.root_cgroup, f"other{number}") for number in range(NR_OBJ_STOCK)]
        objcg = await idle_cgroup(ctx, machine.root_cgroup)
        await rmdir(ctx, objcg.made_for.css.cgroup)
        await ctx.settle()
        await ctx.migrate(machine.cpus[1])
        for other in others:
            await allocate_once(ctx, other)
            await ctx.settle()
            alive.append(objcg in machine.objcgs)

    alone(body, cpus=2)

    assert alive == [True] * (NR_OBJ_STOCK - 1) + [False]


def test_a_slot_without_pages_keeps_the_removed_cgroup() -> None:
    """Offline drains the stocks with pages only; the reference of an empty slot stays (KERNEL-7.2, row 19)."""

    async def body(ctx: Context) -> None:
        job = await mkdir(ctx, ctx.machine.root_cgroup, "job")
        memcg = memcg_of(job.css)
        assert await try_charge_memcg(ctx, memcg, GFP_KERNEL, 1)
        assert await try_charge_memcg(ctx, memcg, GFP_KERNEL, 63)
        (stock,) = ctx.machine.memcg_stocks
        assert (stock.cached[0], stock.nr_pages[0]) == (memcg, 0)
        await rmdir(ctx, job)
        await ctx.settle()
        assert memcg.freed is None
        await drain_local_memcg_stock(ctx)
        await ctx.settle()
        assert memcg.freed is not None

    alone(body)


@pytest.mark.parametrize("kernel", ["6.12", "7.2"])
def test_the_statistics_of_a_child_that_stays_are_explained(kernel: str) -> None:
    """U3 knows that a memcg's own objects are charged to its parent."""

    async def body(ctx: Context) -> None:
        parent = await mkdir(ctx, ctx.machine.root_cgroup, "parent")

        async def make(task: Context) -> None:
            await mkdir(task, parent, "job")

        await run_in(ctx, parent, make)

    alone(body, check="step", kernel=kernel)


def test_what_a_memcg_costs_its_parent_is_what_the_capture_says() -> None:
    """KERNEL-7.2 N10: 7872 bytes of per-CPU data for two CPUs, and two objects of kmalloc-cg-2k."""
    costs: list[tuple[int, int]] = []

    async def body(ctx: Context) -> None:
        parent = await mkdir(ctx, ctx.machine.root_cgroup, "parent")

        async def make(task: Context) -> None:
            job = await mkdir(task, parent, "job")
            charged = [memory for memory in memcg_of(job.css).statistics if memory.objcg is not None]
            costs.append(
                (
                    sum(memory.size for memory in charged if memory.is_percpu),
                    sum(memory.size for memory in charged if not memory.is_percpu),
                )
            )

        await run_in(ctx, parent, make)

    alone(body, cpus=2)

    assert costs == [(7872, 2 * 2056)]
