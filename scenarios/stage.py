"""The stage of a scenario: its machine, its tasks, its properties and its samples."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import attrs

from actors.linux.include.slab import kmem_cache_alloc, kmem_cache_free
from actors.linux.init.machine import Config, Machine
from actors.linux.kernel.cgroup.cgroup import Cgroup, cgroup_attach_task, cgroup_mkdir, cgroup_rmdir
from actors.linux.kernel.locking.locks import Completion
from actors.linux.mm.kmem_cache import KmemCache, SlabObject
from actors.linux.mm.memcontrol import (
    Memcg,
    drain_local_memcg_stock,
    mem_cgroup_try_charge,
    mem_cgroup_uncharge,
    try_charge,
)
from actors.linux.mm.memory import fault_in_page
from actors.linux.mm.page_alloc import __free_pages, alloc_pages
from actors.linux.mm.slab import REAPTIMEOUT_AC
from actors.machine.bodies import Body, begin, check_callable, check_flag, check_name, truth
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL
from actors.oracles.ledger import Ledger, is_published
from actors.oracles.own import Oracle
from actors.system.flow import Flow
from actors.system.world import World
from actors.versions.patching import Patch
from protocol.errors import UsageError
from protocol.formats.slabinfo import PAGE_SIZE, SlabinfoRow, parse_slabinfo
from protocol.names import no_such
from protocol.vocabulary import FAULTS
from scenarios.registry import check_allocator

REAP_ROUNDS = 30
"""The number of cache_reap() runs that free a full array and its slabs (KERNEL.md 4.8)."""

MKDIR_TRIES, MKDIR_AGAIN_NS = 100, 1_000_000
RMDIR_TRIES = 1_000


@attrs.define(eq=False)
class Property:
    """`always` holds after every step, `sometimes` after at least one, `eventually` at quiescence."""

    kind: str
    name: str
    holds: Callable[[], bool]


@attrs.frozen
class Sample:
    """The machine's figures at a named point of the scenario."""

    point: str
    dying_cgroups: int
    child_caches: int
    deactivated: int
    slab_pages: int

    def cells(self) -> dict[str, str]:
        """Its row of a table, by the titles of the columns."""
        return {
            "point": self.point,
            "dying cgroups": str(self.dying_cgroups),
            "child caches": str(self.child_caches),
            "deactivated": str(self.deactivated),
            "slab pages": str(self.slab_pages),
        }


@attrs.frozen
class SampleOfToday(Sample):
    """On a kernel without child caches: also the obj_cgroups that are not released."""

    obj_cgroups: int

    def cells(self) -> dict[str, str]:
        return {**super().cells(), "obj_cgroups": str(self.obj_cgroups)}


@attrs.define
class Operation:
    """One operation of a generated workload: its task, and its effect in `words`.

    `number` stays the same whatever else is left out. `outcome` is empty until the operation has ended; then it is
    "done", or the error that the kernel returned. A run does not perform an operation that `is_left_out`.
    """

    number: int
    task: str
    words: str
    is_left_out: bool = False
    outcome: str = ""


class Knobs(dict[str, Any]):
    """The values of a scenario's parameters; LookupError, with their names, for one that it does not declare."""

    def __missing__(self, name: str) -> Any:
        """Raise the error for a parameter that is missing."""
        msg = f"{name}: {no_such('knob', name, self)}; a scenario that boots a machine declares *MACHINE"
        raise LookupError(msg)


@attrs.define(eq=False)
class Stage:
    """One scenario in one world: `knobs` are the values of its parameters, `boot` makes the machine.

    A scenario has three phases. `set_up` and `wind_up` are sequential: the strategy does not choose there. The tasks
    race in between. Each phase ends at quiescence. `session` is a cgroup that stays until the end, like the session of
    a logged-in user; without it, kmem accounting would be switched off in between. `unreached` are the `sometimes`
    properties that have not been true yet, `spanning` the `always` properties that may read several objects.
    `is_built` is False while the scenario's function runs, which must not start the run. `operations`
    are those of a generated workload; reports show them, and `shrink` leaves out those that do not matter.
    """

    world: World
    kernel: str
    knobs: Mapping[str, Any] = attrs.field(converter=Knobs)
    check: str = "step"
    patches: tuple[Patch, ...] = ()
    oracles: tuple[Oracle, ...] = ()
    machine: Machine = attrs.field(init=False)
    ledger: Ledger = attrs.field(init=False)
    session: Cgroup = attrs.field(init=False)
    has_session: bool = True
    is_built: bool = True
    samples: list[Sample] = attrs.field(factory=list)
    operations: list[Operation] = attrs.field(factory=list)
    unreached: list[Property] = attrs.field(factory=list)
    spanning: list[Property] = attrs.field(factory=list)
    _set_up: Body | None = None
    _settles: bool = True
    _wind_up: Body | None = None
    _is_racing: bool = False
    _is_started: bool = False
    _racing: list[tuple[Context, Body]] = attrs.field(factory=list)

    @property
    def is_booted(self) -> bool:
        """Whether `boot` has made the machine."""
        return hasattr(self, "machine")

    def boot(self, *names: str, caches: Iterable[SlabinfoRow] = ()) -> Machine:
        """Boot a machine with root caches of the `slabinfo` parameter and with *caches*.

        The caches of `slabinfo` are those in *names*; without names, they are all of them if *caches* is empty, else
        none.
        """
        if self.is_booted:
            msg = "the machine is booted already; a stage has one"
            raise RuntimeError(msg)
        caches = list(caches)
        rows = parse_slabinfo(self.knobs["slabinfo"], source="slabinfo")
        check_allocator(self.kernel, self.knobs["allocator"])
        for name in names:
            check_name("cache", name)
        wanted = [row for row in rows if row.name in names or not (names or caches)] + caches
        config = Config(
            kernel=self.kernel,
            allocator=self.knobs["allocator"],
            cpus=self.knobs["cpus"],
            nodes=self.knobs["nodes"],
            cgroup=1 if self.knobs["cgroup"] == "v1" else 2,
            rcu=self.knobs.get("rcu", "batched"),
        )
        machine = self.machine = Machine(self.world, config, rows=wanted, patches=self.patches)
        machine.buddy.is_short = self.knobs.get("memory") == "short"
        self.ledger = Ledger(machine)
        if self.check == "step":
            self.ledger.watch()
        if self.check != "off":
            self.world.rests.append(self.ledger.check_at_rest)
            self.world.endings.append(self.ledger.check_quiescent)
        for oracle in self.oracles:
            oracle.watch(machine)
        return machine

    def make_scarce(self, percent: int, *sites: str) -> None:
        """Let *percent* % of the allocations at *sites* (`FAULTS`) fail; the user's --fault has precedence."""
        for site in sites:
            if site not in FAULTS:
                msg = f"{site}: {no_such('fault', site, FAULTS)}"
                raise ValueError(msg)
        if not 0 <= percent <= 100:
            msg = f"{percent} % of the allocations cannot fail: give 0 to 100"
            raise ValueError(msg)
        self.world.faults = {**dict.fromkeys(sites, percent / 100), **self.world.faults}

    # -- phases and tasks ---------------------------------------------------------------------------------------------

    def set_up(self, body: Body, *, settles: bool = True) -> None:
        """Run *body* before any task, to bring the machine into the state where the race begins.

        The race begins at quiescence; with `settles=False` it begins while work that *body* started is still pending.
        """
        check_flag("settles", settles)
        self._set_up = self._only(self._set_up, "set-up", body)
        self._settles = settles

    def wind_up(self, body: Body) -> None:
        """Run *body* at quiescence after the race, to release everything that would hide the outcome."""
        self._wind_up = self._only(self._wind_up, "wind-up", body)

    def task(self, name: str, body: Body, *, cpu: int = 0, migrates: bool = False) -> Context:
        """Add a task that runs *body* on *cpu* (modulo the number of CPUs).

        With *migrates* the task may wake up on another CPU after a sleep. It starts with the race, or at once if the
        race is running.
        """
        check_callable(f"body of the task {name}", body, "ctx")
        check_flag("migrates", migrates)
        if not isinstance(cpu, int):
            msg = f"the task {name} runs on a CPU's number, not on {cpu!r:.60}"
            raise TypeError(msg)
        task = self.machine.new_task(name, cpu % len(self.machine.cpus), migrates=migrates)
        if self._is_racing:
            self.machine.start(task, body)
        else:
            self._racing.append((task, body))
        return task

    @staticmethod
    def _only(present: Body | None, phase: str, body: Body) -> Body:
        """The checked body of a phase, which has one."""
        check_callable(f"body of the {phase}", body, "ctx")
        if present is not None:
            msg = f"the stage has a {phase} already; put all of it into one function"
            raise RuntimeError(msg)
        return body

    def start(self) -> None:
        """Start the run; called once, after the scenario's function has returned."""
        if self._is_started or not self.is_built:
            msg = "the run starts by itself, after the scenario's function has returned"
            raise RuntimeError(msg)
        self._is_started = True
        self.world.begin_phase("set-up", calm=True)
        self.machine.start(self.machine.new_task("stage", 0), self._direct)

    async def _direct(self, ctx: Context) -> None:
        if self.has_session:
            self.session = await mkdir(ctx, self.machine.root_cgroup, "session")
        if self._set_up is not None:
            await begin(self._set_up, ctx)
            if self._settles:
                await ctx.settle()
        self.world.begin_phase("race", calm=False)
        self._is_racing = True
        for task, body in self._racing:
            self.machine.start(task, body)
        self._racing.clear()
        await ctx.settle()
        self.world.begin_phase("wind-up", calm=True)
        if self._wind_up is not None:
            await begin(self._wind_up, ctx)
        if self.machine.config.allocator == "slab":
            await self._let_reaper_work(ctx)

    async def _let_reaper_work(self, ctx: Context) -> None:
        """SLAB frees its unused objects and slabs a few at a time: let enough virtual time pass for all of them."""
        for _ in range(REAP_ROUNDS):
            await ctx.settle()
            if not self.ledger.is_anything_left():
                return
            await ctx.sleep(REAPTIMEOUT_AC)

    # -- properties ---------------------------------------------------------------------------------------------------

    def always(self, name: str, holds: Callable[[], bool], *, is_local: bool = False) -> None:
        """Declare a state that holds after every step.

        It *is_local* if *holds* reads the state of one object only. `dpor` runs one order of independent steps, in
        which each object has the states of every other order; a property of several objects may hold in one order, and
        not in another. So `dpor` is refused for a scenario with such a property, and the portfolio takes `dfs` instead.
        """
        prop = self._declare("always", name, holds)
        check_flag("is_local", is_local)
        if not is_local:
            self.spanning.append(prop)

        def check(flow: Flow) -> None:
            held = holds()
            if held is not True and not truth(name, holds, held):
                self._violated(prop, flow)

        self.world.checks.append(check)

    def sometimes(self, name: str, holds: Callable[[], bool]) -> None:
        """Declare a state that shows that the race was reached; a run reports it if the state was never true."""
        prop = self._declare("sometimes", name, holds)

        def check(_flow: Flow) -> None:
            held = holds()
            if held and truth(name, holds, held):  # reached once is enough
                self.unreached.remove(prop)
                self.world.checks = [other for other in self.world.checks if other is not check]

        self.unreached.append(prop)
        self.world.checks.append(check)

    def eventually(self, name: str, holds: Callable[[], bool]) -> None:
        prop = self._declare("eventually", name, holds)

        def check() -> None:
            if not truth(name, holds, holds()):
                self._violated(prop, None)

        self.world.endings.append(check)

    def _declare(self, kind: str, name: str, holds: Callable[[], bool]) -> Property:
        check_name("property", name)
        check_callable(f"property {name!r}", holds)
        return Property(kind, name, holds)

    def only_session_left(self) -> bool:
        """Whether every cgroup except the session's is released."""
        return self.machine.root_cgroup.descendants() == [self.session]

    def has_late_allocation(self) -> bool:
        """Whether an allocation is under way in a child cache that has been unpublished since the cache was chosen."""
        for cache in self.machine.child_caches:  # noqa: SIM110 -- asked after every step; any() would double the cost
            if cache.inflight and not is_published(cache):
                return True
        return False

    def _violated(self, prop: Property, flow: Flow | None) -> None:
        self.world.report(
            "property", f"{prop.kind}: {prop.name}", f"{prop.kind} {prop.name!r} does not hold", flow=flow
        )

    # -- figures ------------------------------------------------------------------------------------------------------

    def present_operations(self) -> list[Operation]:
        """The operations that are not left out."""
        return [operation for operation in self.operations if not operation.is_left_out]

    def sample(self, point: str) -> None:
        """Record the machine's figures now, under the name *point*."""
        check_name("sample", point)
        final = self.ledger.figures()
        present = Sample(
            point,
            final["nr_dying_descendants"],
            final["child_caches"],
            final["zombie_caches"],
            final["slab_pages"],
        )
        if self.machine.is_without_child_caches:
            present = SampleOfToday(**attrs.asdict(present), obj_cgroups=len(self.machine.objcgs))
        self.samples.append(present)


# -- helpers for the tasks of scenarios -------------------------------------------------------------------------------


def enter(ctx: Context, cgroup: Cgroup) -> Awaitable[None]:
    """Move the running task into *cgroup*."""
    return cgroup_attach_task(ctx, cgroup, ctx)


async def mkdir(ctx: Context, parent: Cgroup, name: str) -> Cgroup:
    """Make a cgroup below *parent*. If mkdir fails for lack of memory, try again; UsageError after `MKDIR_TRIES`."""
    for _ in range(MKDIR_TRIES):
        cgroup = await cgroup_mkdir(ctx, parent, name)
        if cgroup is not None:
            return cgroup
        await ctx.sleep(MKDIR_AGAIN_NS)
    msg = f"mkdir {name} failed {MKDIR_TRIES} times; the scenario needs this cgroup: lower the probability of the fault"
    raise UsageError(msg)


async def rmdir(ctx: Context, cgroup: Cgroup) -> None:
    """Remove *cgroup*; while it still has tasks or children, wait, as systemd does. UsageError after `RMDIR_TRIES`."""
    for _ in range(RMDIR_TRIES):
        if await cgroup_rmdir(ctx, cgroup):
            return
        await ctx.ask(cgroup.wait_until_empty)
    msg = f"rmdir {cgroup.name} failed {RMDIR_TRIES} times, though the cgroup was empty after each of them"
    raise UsageError(msg)


def small_cache(name: str, *, objects: int = 4) -> SlabinfoRow:
    """A cache whose slabs have one page and few objects, so that they are soon full."""
    return SlabinfoRow(name, 0, 0, PAGE_SIZE // objects, objects, 1)


async def run_in(ctx: Context, cgroup: Cgroup, body: Body) -> None:
    """Run *body* as a task of its own in *cgroup*, on this CPU, and wait until it ends."""
    check_callable("body of run_in()", body, "ctx")
    machine = ctx.machine
    task = machine.new_task(f"task-{machine.next_pid()}", ctx.smp_processor_id)
    done = Completion(machine.cgroup_tree.actor, remaining=1)
    await ctx.ask(machine.cgroup_tree.move_task, task, cgroup)
    machine.start(task, body, done)
    await ctx.ask(done.wait_for_completion)


async def touch_pages(ctx: Context, memcg: Memcg, nr_pages: int) -> None:
    """Allocate *nr_pages* pages of user memory and charge them to *memcg* in one call."""
    if ctx.machine.is_without_child_caches:
        await fault_in_page(ctx, memcg, nr_pages)
        return
    if not await alloc_pages(ctx, GFP_KERNEL, nr_pages):
        return
    if await try_charge(ctx, memcg, GFP_KERNEL, nr_pages):
        await ctx.ask(memcg.add_user_pages, nr_pages)
    else:
        await __free_pages(ctx, nr_pages)


async def fill(ctx: Context, cgroup: Cgroup, cache: KmemCache, count: int) -> list[SlabObject]:
    """Allocate *count* objects of *cache* in *cgroup*, whose child cache exists already."""
    made: list[SlabObject] = []

    async def allocate(ctx: Context) -> None:
        for _ in range(count):
            obj = await kmem_cache_alloc(ctx, cache)
            if obj is not None:
                made.append(obj)

    await run_in(ctx, cgroup, allocate)
    return made


async def warm_up(ctx: Context, cgroup: Cgroup, *caches: KmemCache) -> None:
    """Create the child caches of *cgroup* by allocations that do not find them; the new caches are empty."""

    async def miss(ctx: Context) -> None:
        for cache in caches:
            obj = await kmem_cache_alloc(ctx, cache)
            if obj is not None:
                await kmem_cache_free(ctx, cache, obj)

    await run_in(ctx, cgroup, miss)
    await ctx.settle()


async def charge_elsewhere(ctx: Context, cgroup: Cgroup) -> None:
    """Charge and uncharge a page to *cgroup* on every CPU, so that no stock keeps another memcg afterwards.

    Where a stock has slots, seven cgroups would have to charge; there the stocks of pages are drained.
    """
    memcg = cgroup.css.memcg
    assert memcg is not None
    for cpu in ctx.machine.cpus:
        await ctx.migrate(cpu)
        if ctx.machine.memcg_stocks:
            await drain_local_memcg_stock(ctx)
        elif await mem_cgroup_try_charge(ctx, memcg):
            await mem_cgroup_uncharge(ctx, memcg)
