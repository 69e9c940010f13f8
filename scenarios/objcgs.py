"""Races over obj_cgroups, from 6.12 on: who charges, who uncharges, and whose stock is drained, while a cgroup goes.

KERNEL-today 27. An object holds its obj_cgroup, and that points to a memcg without a reference to it. So each charge
and each uncharge must find a memcg that is alive, while removal gives the obj_cgroup to the parent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from actors.api import (
    GFP_KERNEL,
    Cgroup,
    Context,
    KmemCache,
    Machine,
    MutexHeld,
    SlabObject,
    kmem_cache_alloc,
    kmem_cache_free,
    mutex_lock,
    mutex_unlock,
)
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.file_table import File, fput
from actors.linux.fs.namei import do_filp_open
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from actors.linux.include.memcontrol import drain_local_obj_stock
from actors.linux.include.slab import kmem_cache_alloc_lru
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task, cgroup_destroy_locked, css_get, css_put, memcg_of
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.linux.kernel.signal import dequeue_signal, do_send_sig_info
from actors.linux.mm.list_lru import ListLru, LruItem, __list_lru_init, list_lru_add, list_lru_del
from actors.linux.mm.memcontrol import NR_OBJ_STOCK, drain_all_stock, mem_cgroup_uncharge
from actors.versions.profiles import WITHOUT_CHILD_CACHES
from scenarios.api import (
    MACHINE,
    MEMORY,
    PAGE_SIZE,
    RCU,
    Body,
    Knob,
    SlabinfoRow,
    Stage,
    charge_elsewhere,
    enter,
    fill,
    mkdir,
    rmdir,
    run_in,
    scenario,
    small_cache,
    touch_pages,
)
from scenarios.shared_dentry import forget_names

SIZE = Knob("size", "bytes of an object", 2000, least=8, most=4096)

REMOVAL = Knob("removal", "when rmdir kills the cgroup: in the race, or before", "race", choices=("race", "before"))


async def kill(ctx: Context, cgroup: Cgroup, *, holds_shrinkers: bool = False) -> None:
    """Remove *cgroup* from CPU 0, as far as its offlining, which waits for cgroup_mutex until this returns.

    Whoever *holds_shrinkers* has shrinker_mutex then. The offlining takes it when objects and pages have moved, and so
    gets no further until the caller drops it.
    """
    await ctx.migrate(ctx.machine.cpus[0])
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        await cgroup_destroy_locked(ctx, cgroup)
        await ctx.settle()
        if holds_shrinkers:
            await mutex_lock(ctx, ctx.machine.shrinkers.mutex)


def cache_of_size(size: int) -> SlabinfoRow:
    """An accounted cache whose slabs have one page."""
    return SlabinfoRow("alpha", 0, 0, size, max(1, PAGE_SIZE // ((size + 7) & ~7)), 1)


def free_all(cache: KmemCache, objects: list[SlabObject]) -> Body:
    """The body of a task that frees *objects*, the first one first."""

    async def free(ctx: Context) -> None:
        for obj in objects:
            await kmem_cache_free(ctx, cache, obj)

    return free


@scenario(
    "last-object-vs-rmdir",
    "the last objects of a nested cgroup are freed on another CPU while it is removed",
    Knob("objects", "objects that the cgroup has in use", 2, least=1, most=16),
    Knob(
        "context",
        "where they are freed: in a task, in RCU callbacks, or in turn in a task and in callbacks of its CPU",
        "task",
        choices=("task", "rcu", "both"),
    ),
    Knob("below", "what the cgroup is in: another cgroup, or the root alone", "parent", choices=("parent", "root")),
    REMOVAL,
    Knob(
        "until",
        "how far a removal that began before gets: to its end, or, for exact searches, until the objects are moved",
        "end",
        choices=("end", "moved"),
    ),
    SIZE,
    RCU,
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def last_object_vs_rmdir(stage: Stage) -> None:
    machine = stage.boot(caches=[cache_of_size(stage.knobs["size"])])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []
    stops_early = stage.knobs["removal"] == "before" and stage.knobs["until"] == "moved"

    async def leave_objects(ctx: Context) -> None:
        """Let a cgroup below another allocate; then no stock has anything of it."""
        is_nested = stage.knobs["below"] == "parent"
        parents = [await mkdir(ctx, machine.root_cgroup, "parent")] if is_nested else []
        cgroups.extend([await mkdir(ctx, parents[0] if parents else machine.root_cgroup, "job"), *parents])
        kept.extend(await fill(ctx, cgroups[0], cache, stage.knobs["objects"]))
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)
        if stage.knobs["removal"] == "before":
            await kill(ctx, cgroups[0], holds_shrinkers=stops_early)

    async def free(ctx: Context) -> None:
        context = stage.knobs["context"]
        for number, obj in enumerate(kept):
            if context == "task" or (context == "both" and number % 2):
                await kmem_cache_free(ctx, cache, obj)
            else:
                await call_rcu(ctx, RcuHead(obj.slab), free_in_softirq(cache, obj))

    async def let_go(ctx: Context) -> None:
        if stops_early:
            await mutex_unlock(ctx, machine.shrinkers.mutex)
        for parent in cgroups[1:]:
            await rmdir(ctx, parent)
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(leave_objects, settles=stage.knobs["removal"] == "race")
    if stage.knobs["removal"] == "race":
        stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]))
    stage.task("free", free, cpu=1)
    stage.wind_up(let_go)
    stage.sometimes("an object outlives its cgroup", lambda: is_offline(cgroups) and has_live_objects(cache))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def free_in_softirq(cache: KmemCache, obj: SlabObject) -> Callable[[Context, RcuHead], Awaitable[None]]:
    """An RCU callback that frees one object."""

    async def callback(ctx: Context, _head: RcuHead) -> None:
        await kmem_cache_free(ctx, cache, obj)

    return callback


def is_offline(cgroups: list[Cgroup]) -> bool:
    """Whether the first cgroup has given its obj_cgroup to its parent."""
    return bool(cgroups) and cgroups[0].is_dead and not cgroups[0].css.is_online


def has_live_objects(cache: KmemCache) -> bool:
    """Whether an object of the cache is in use."""
    return cache.live_objects > 0


async def displace(ctx: Context, cgroup: Cgroup, cache: KmemCache) -> None:
    """Allocate and free an object in *cgroup* on every CPU, so that no stock keeps another obj_cgroup.

    Where a stock has slots, five cgroups would have to allocate; there the stocks of bytes are drained.
    """
    for cpu in ctx.machine.cpus:
        await ctx.migrate(cpu)
        if ctx.machine.obj_stocks:
            await drain_local_obj_stock(ctx)
            continue
        await allocate_and_free(ctx, cgroup, cache)


async def allocate_and_free(ctx: Context, cgroup: Cgroup, cache: KmemCache) -> None:
    """Let this CPU's stock have the obj_cgroup of *cgroup*, if it has room or gives up another one."""
    for obj in await fill(ctx, cgroup, cache, 1):
        await kmem_cache_free(ctx, cache, obj)


async def fill_slots(ctx: Context, cache: KmemCache, cpu: int) -> list[Cgroup]:
    """Where a stock has slots, let others have all of those of *cpu*: the next obj_cgroup displaces one of them."""
    if not ctx.machine.obj_stocks:
        return []
    await ctx.migrate(ctx.machine.cpus[cpu])
    others = [await mkdir(ctx, ctx.machine.root_cgroup, f"other{number}") for number in range(NR_OBJ_STOCK)]
    for other in others:
        await allocate_and_free(ctx, other, cache)
    return others


@scenario(
    "late-charge",
    "an allocation sleeps in reclaim while its task is moved, and the old cgroup is removed",
    SIZE,
    MEMORY,
    Knob("allocations", "allocations of the task", 2, least=1, most=16),
    Knob(
        "sleeps",
        "when it sleeps: in its charge; before it, for the lists of its cgroup, which is killed then; or in the charge "
        "of a killed cgroup that it holds and charges in place of its own",
        "charge",
        choices=("charge", "lists", "active"),
    ),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def late_charge(stage: Stage) -> None:
    if stage.knobs["sleeps"] != "charge":
        (charge_after_lists if stage.knobs["sleeps"] == "lists" else charge_of_held)(stage)
        return
    machine = stage.boot(caches=[cache_of_size(stage.knobs["size"])])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []

    async def limit(ctx: Context) -> None:
        """Make two siblings below a cgroup that is nearly full."""
        parent = await mkdir(ctx, machine.root_cgroup, "parent")
        cgroups.extend([await mkdir(ctx, parent, "job"), await mkdir(ctx, parent, "sibling"), parent])
        await cgroup_attach_task(ctx, cgroups[0], worker)
        await run_in(ctx, cgroups[1], lambda ctx: touch_pages(ctx, memcg_of(cgroups[1].css), 3))
        memcg_of(parent.css).memory.max = memcg_of(parent.css).memory.usage

    async def allocate(ctx: Context) -> None:
        made = [await kmem_cache_alloc(ctx, cache, GFP_KERNEL) for _ in range(stage.knobs["allocations"])]
        for obj in filter(None, made):
            await kmem_cache_free(ctx, cache, obj)

    async def remove(ctx: Context) -> None:
        await cgroup_attach_task(ctx, cgroups[1], worker)
        await rmdir(ctx, cgroups[0])

    async def let_go(ctx: Context) -> None:
        sibling = memcg_of(cgroups[1].css)
        while sibling.user_pages:
            await uncharge_one(ctx, cgroups[1])
        for cgroup in cgroups[1:]:
            await rmdir(ctx, cgroup)
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)

    stage.set_up(limit)
    worker = stage.task("allocate", allocate, cpu=1)
    stage.task("rmdir", remove)
    stage.wind_up(let_go)
    stage.eventually("every cgroup is gone", stage.only_session_left)


def charge_after_lists(stage: Stage) -> None:
    """An allocation for an LRU list has its obj_cgroup, and sleeps for the lists; its task is moved, the cgroup killed.

    So the charge runs while the cgroup goes offline.
    """
    machine = stage.boot(caches=[cache_of_size(stage.knobs["size"])])
    cache, buddy = machine.root_cache("alpha"), machine.buddy
    cgroups: list[Cgroup] = []
    lrus: list[ListLru] = []

    async def begin(ctx: Context) -> None:
        """Let the task sleep, move it, and kill its old cgroup, which has nothing left but this charge.

        There is a slab with room, so the task reclaims for the lists alone.
        """
        lrus.append(await __list_lru_init(ctx, machine.cgroup_tree.actor, "module", -1))
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await ctx.migrate(machine.cpus[1])
        await allocate_and_free(ctx, stage.session, cache)
        worker = machine.new_task("allocate", 1)
        await cgroup_attach_task(ctx, cgroups[0], worker)
        buddy.is_short = buddy.is_stuck = True
        machine.start(worker, allocate)
        await ctx.settle()
        buddy.is_short = False
        await cgroup_attach_task(ctx, stage.session, worker)
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)
        await kill(ctx, cgroups[0])

    async def allocate(ctx: Context) -> None:
        obj = await kmem_cache_alloc_lru(ctx, cache, lrus[0], GFP_KERNEL)
        if obj is not None:
            await kmem_cache_free(ctx, cache, obj)

    async def end_reclaim(ctx: Context) -> None:
        await ctx.ask(buddy.free_at_last)

    async def let_go(ctx: Context) -> None:
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)

    stage.set_up(begin, settles=False)
    stage.task("reclaim", end_reclaim)
    stage.wind_up(let_go)
    stage.eventually("every cgroup is gone", stage.only_session_left)


def charge_of_held(stage: Stage) -> None:
    """A task holds a killed memcg and charges it with set_active_memcg(); the memcg has no other object."""
    machine = stage.boot(caches=[cache_of_size(stage.knobs["size"])])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []

    async def begin(ctx: Context) -> None:
        """Let the parent be full, so that the charge has to reclaim."""
        parent = await mkdir(ctx, machine.root_cgroup, "parent")
        cgroups.extend([await mkdir(ctx, parent, "job"), await mkdir(ctx, parent, "sibling"), parent])
        await run_in(ctx, cgroups[1], lambda ctx: touch_pages(ctx, memcg_of(cgroups[1].css), 3))
        memcg_of(parent.css).memory.max = memcg_of(parent.css).memory.usage
        await css_get(ctx, cgroups[0].css)
        await kill(ctx, cgroups[0])

    async def allocate(ctx: Context) -> None:
        memcg = memcg_of(cgroups[0].css)
        ctx.active_memcg = memcg
        made = [await kmem_cache_alloc(ctx, cache, GFP_KERNEL) for _ in range(stage.knobs["allocations"])]
        ctx.active_memcg = None
        for obj in filter(None, made):
            await kmem_cache_free(ctx, cache, obj)
        await css_put(ctx, memcg.css)

    async def let_go(ctx: Context) -> None:
        while memcg_of(cgroups[1].css).user_pages:
            await uncharge_one(ctx, cgroups[1])
        for cgroup in cgroups[1:]:
            await rmdir(ctx, cgroup)
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)

    stage.set_up(begin, settles=False)
    stage.task("allocate", allocate, cpu=1)
    stage.wind_up(let_go)
    stage.eventually("every cgroup is gone", stage.only_session_left)


async def uncharge_one(ctx: Context, cgroup: Cgroup) -> None:
    """Free a page of user memory of *cgroup*."""
    await mem_cgroup_uncharge(ctx, memcg_of(cgroup.css))


@scenario(
    "drain-vs-release",
    "a task at its limit drains all stocks while another CPU frees the last object of a removed cgroup",
    Knob("rounds", "objects that are freed, each followed by an allocation of another cgroup", 2, least=1, most=8),
    Knob("pages", "pages that the task at its limit touches", 4, least=1, most=64),
    Knob(
        "sides",
        "what races: all that, or, for exact searches, drain_all_stock() and the free that displaces the cgroup, alone",
        "whole",
        choices=("whole", "bare"),
    ),
    RCU,
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def drain_vs_release(stage: Stage) -> None:
    if stage.knobs["sides"] == "bare":
        drain_vs_displacement(stage)
        return
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []

    async def fill_up(ctx: Context) -> None:
        """A removed cgroup below a full one has objects."""
        parent = await mkdir(ctx, machine.root_cgroup, "parent")
        cgroups.extend([await mkdir(ctx, parent, "job"), await mkdir(ctx, parent, "sibling"), parent])
        kept.extend(await fill(ctx, cgroups[0], cache, stage.knobs["rounds"]))
        await rmdir(ctx, cgroups[0])
        await ctx.settle()
        cgroups.extend(await fill_slots(ctx, cache, 1))
        memcg_of(parent.css).memory.max = memcg_of(parent.css).memory.usage

    async def free(ctx: Context) -> None:
        """Free an object of the removed cgroup, then let another obj_cgroup have the stock of this CPU, or a slot."""
        others = cgroups[3:]
        for number, obj in enumerate(kept):
            await kmem_cache_free(ctx, cache, obj)
            if others:
                ctx.active_memcg = memcg_of(others[number % len(others)].css)
            other = await kmem_cache_alloc(ctx, cache, GFP_KERNEL)
            if other is not None:
                await kmem_cache_free(ctx, cache, other)
            ctx.active_memcg = None

    async def charge(ctx: Context) -> None:
        """Touch pages, as long as others give any back; the charge that does not fit drains all stocks."""
        for _ in range(stage.knobs["pages"]):
            await touch_pages(ctx, memcg_of(cgroups[1].css), 1)

    async def let_go(ctx: Context) -> None:
        while memcg_of(cgroups[1].css).user_pages:
            await uncharge_one(ctx, cgroups[1])
        for cgroup in cgroups[1:]:
            await rmdir(ctx, cgroup)
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)

    async def both(ctx: Context) -> None:
        await fill_up(ctx)
        await cgroup_attach_task(ctx, stage.session, freer)

    stage.set_up(both)
    freer = stage.task("free", free, cpu=1)
    stage.task("charge", charge)
    stage.wind_up(let_go)
    stage.sometimes(
        "a stock is drained that has bytes of a removed cgroup",
        lambda: has_removed_to_drain(machine),
    )
    stage.eventually("every cgroup is gone", stage.only_session_left)


def drain_vs_displacement(stage: Stage) -> None:
    """The stock of CPU 1 holds a removed cgroup's obj_cgroup last: a free releases it, while a task drains all stocks.

    An object of a page and its 8 bytes leave whole pages behind, which are uncharged before the race.
    """
    machine = stage.boot(caches=[cache_of_size(PAGE_SIZE), small_cache("beta")])
    cache, small = machine.root_cache("alpha"), machine.root_cache("beta")
    cgroups: list[Cgroup] = []
    spare: list[SlabObject] = []

    async def prepare(ctx: Context) -> None:
        """Free the object of the removed cgroup; then let siblings have the other slots, so that it is displaced next.

        The drain finds a sibling in the slot behind, if not the removed cgroup.
        """
        parent = await mkdir(ctx, machine.root_cgroup, "parent")
        job = await mkdir(ctx, parent, "job")
        slots = NR_OBJ_STOCK if machine.obj_stocks else 1
        siblings = [await mkdir(ctx, parent, f"sibling{number}") for number in range(1, slots)]
        cgroups.extend([parent, *siblings])
        kept = await fill(ctx, job, cache, 1)
        spare.extend(await fill(ctx, stage.session, small, 1))
        await rmdir(ctx, job)
        await ctx.settle()
        await displace(ctx, stage.session, cache)
        await ctx.migrate(machine.cpus[1])
        await free_all(cache, kept)(ctx)
        for sibling in siblings:
            await allocate_and_free(ctx, sibling, small)
        await charge_elsewhere(ctx, stage.session)

    async def let_go(ctx: Context) -> None:
        for cgroup in reversed(cgroups):
            await rmdir(ctx, cgroup)
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)

    stage.set_up(prepare)
    stage.task("free", free_all(small, spare), cpu=1)
    stage.task("drain", lambda ctx: drain_all_stock(ctx, memcg_of(cgroups[0].css)))
    stage.wind_up(let_go)
    stage.sometimes("a stock is drained that has bytes of a removed cgroup", lambda: has_removed_to_drain(machine))
    stage.eventually("every cgroup is gone", stage.only_session_left)


def has_removed_to_drain(machine: Machine) -> bool:
    """Whether an obj_cgroup in a stock that is to be drained has outlived its first memcg."""
    kept = [stock.cached_objcg for stock in machine.stocks if stock.is_flushing]
    kept += [objcg for slots in machine.obj_stocks if slots.is_flushing for objcg in slots.cached]
    return any(objcg is not None and objcg.memcg is not objcg.made_for for objcg in kept)


@scenario(
    "attach-vs-update",
    "a task that allocates is moved to another cgroup and back, and its first cgroup is removed",
    Knob("moves", "how often it is moved", 3, least=1, most=16),
    Knob("allocations", "objects that it allocates and frees", 3, least=1, most=16),
    SIZE,
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def attach_vs_update(stage: Stage) -> None:
    machine = stage.boot(caches=[cache_of_size(stage.knobs["size"])])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []

    async def prepare(ctx: Context) -> None:
        cgroups.extend([await mkdir(ctx, machine.root_cgroup, name) for name in ("first", "second")])
        await cgroup_attach_task(ctx, cgroups[0], worker)

    async def allocate(ctx: Context) -> None:
        for _ in range(stage.knobs["allocations"]):
            obj = await kmem_cache_alloc(ctx, cache, GFP_KERNEL)
            if obj is not None:
                await kmem_cache_free(ctx, cache, obj)

    async def move(ctx: Context) -> None:
        for number in range(1, stage.knobs["moves"] + 1):
            await cgroup_attach_task(ctx, cgroups[number % 2], worker)

    async def let_go(ctx: Context) -> None:
        await rmdir(ctx, cgroups[1])
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)

    stage.set_up(prepare)
    worker = stage.task("allocate", allocate, cpu=1)
    stage.task("move", move)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
    stage.wind_up(let_go)
    stage.eventually("every cgroup is gone", stage.only_session_left)


@scenario(
    "fork-exit-vs-rmdir",
    "children allocate once and exit, and their cgroup is removed while others free what they allocated",
    Knob("children", "how many there are", 2, least=1, most=8),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def fork_exit_vs_rmdir(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []

    async def make_cgroup(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await cgroup_attach_task(ctx, cgroups[0], parent)

    async def fork(ctx: Context) -> None:
        for number in range(stage.knobs["children"]):
            made = await fill(ctx, cgroups[0], cache, 1)
            stage.task(f"free{number}", free_all(cache, made), cpu=1)

    async def let_go(ctx: Context) -> None:
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)

    stage.set_up(make_cgroup)
    parent = stage.task("fork", fork)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]), cpu=1)
    stage.wind_up(let_go)
    stage.eventually("every cgroup is gone", stage.only_session_left)


@scenario(
    "objcg-handover",
    "objects of a cgroup are freed on several CPUs, so that parts of a page come back in several stocks",
    Knob("objects", "objects, which are freed on the CPUs in turn", 4, least=1, most=64),
    Knob("size", "bytes of an object", 1360, least=8, most=4096),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def objcg_handover(stage: Stage) -> None:
    machine = stage.boot(caches=[cache_of_size(stage.knobs["size"])])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    kept: list[SlabObject] = []
    cpus = len(machine.cpus)

    async def leave_objects(ctx: Context) -> None:
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        kept.extend(await fill(ctx, cgroups[0], cache, stage.knobs["objects"]))

    def add_freer(number: int) -> None:
        async def free(ctx: Context) -> None:
            """Free some objects, and let another obj_cgroup have the stock of this CPU after each.

            A stock with slots is drained instead, as it would be for a cgroup at its limit.
            """
            await enter(ctx, stage.session)
            for obj in kept[number::cpus]:
                await kmem_cache_free(ctx, cache, obj)
                if machine.obj_stocks:
                    await drain_local_obj_stock(ctx)
                    continue
                other = await kmem_cache_alloc(ctx, cache, GFP_KERNEL)
                if other is not None:
                    await kmem_cache_free(ctx, cache, other)

        stage.task(f"free{number}", free, cpu=number)

    async def let_go(ctx: Context) -> None:
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)

    stage.set_up(leave_objects)
    for number in range(cpus):
        add_freer(number)
    stage.task("rmdir", lambda ctx: rmdir(ctx, cgroups[0]))
    stage.wind_up(let_go)
    stage.sometimes(
        "a whole page of rests comes together",
        lambda: any(objcg.nr_charged_bytes >= PAGE_SIZE for objcg in machine.objcgs),
    )
    stage.eventually("every cgroup is gone", stage.only_session_left)


@scenario(
    "signal-vs-release",
    "the signal of a sender displaces a removed cgroup from a stock, while a task is made in a frozen cgroup",
    Knob("signals", "signals that are sent, each to a task of another CPU", 1, least=1, most=8),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def signal_vs_release(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []

    async def prepare(ctx: Context) -> None:
        """A removed cgroup has nothing but bytes in the stock of the sender's CPU."""
        cgroups.extend([await mkdir(ctx, machine.root_cgroup, name) for name in ("job", "frozen")])
        cgroups[1].is_frozen = True
        await ctx.migrate(machine.cpus[1])
        kept = await fill(ctx, cgroups[0], cache, 1)
        await rmdir(ctx, cgroups[0])
        await ctx.settle()
        for obj in kept:
            await kmem_cache_free(ctx, cache, obj)
        await cgroup_attach_task(ctx, stage.session, sender)

    async def send(ctx: Context) -> None:
        for _ in range(stage.knobs["signals"]):
            await do_send_sig_info(ctx, taker, cache)

    async def take(ctx: Context) -> None:
        for _ in range(stage.knobs["signals"]):
            await dequeue_signal(ctx)

    async def fork(ctx: Context) -> None:
        await run_in(ctx, cgroups[1], free_all(cache, []))

    async def let_go(ctx: Context) -> None:
        await rmdir(ctx, cgroups[1])
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)

    stage.set_up(prepare)
    sender = stage.task("send", send, cpu=1)
    taker = stage.task("take", take)
    stage.task("fork", fork)
    stage.wind_up(let_go)
    stage.eventually("every cgroup is gone", stage.only_session_left)


@scenario(
    "close-vs-release",
    "files of a cgroup are closed for the first time while the removed cgroup is released",
    Knob("files", "open files, each closed by a task of its own", 1, least=1, most=8),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def close_vs_release(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache(name) for name in ("filp", "dentry", "ext4_inode_cache")])
    mounted: list[SuperBlock] = []
    cgroups: list[Cgroup] = []
    files: list[File] = []

    async def open_and_kill(ctx: Context) -> None:
        """Open the files in a cgroup, and kill it; it goes offline in the race."""
        mounted.append(await vfs_get_tree(ctx, EXT4))
        parent = await mkdir(ctx, machine.root_cgroup, "parent")
        cgroups.extend([await mkdir(ctx, parent, "job"), parent])
        await enter(ctx, cgroups[0])
        for number in range(stage.knobs["files"]):
            file = await do_filp_open(ctx, mounted[0].root, str(number), creat=True)
            if file is not None:
                files.append(file)
        await enter(ctx, machine.root_cgroup)
        await charge_elsewhere(ctx, stage.session)
        await kill(ctx, cgroups[0])

    def add_closer(number: int) -> None:
        async def close(ctx: Context) -> None:
            for file in files[number : number + 1]:
                await fput(ctx, file)

        stage.task(f"close{number}", close, cpu=number + 1)

    async def forget_all(ctx: Context) -> None:
        await forget_names(ctx, mounted[0])
        await rmdir(ctx, cgroups[1])
        await charge_elsewhere(ctx, stage.session)

    stage.set_up(open_and_kill, settles=False)
    for number in range(stage.knobs["files"]):
        add_closer(number)
    stage.wind_up(forget_all)
    stage.sometimes("a file is closed when its cgroup is offline", lambda: is_offline(cgroups) and bool(files))
    stage.eventually("every cgroup is gone", stage.only_session_left)


@scenario(
    "lru-of-module",
    "a module puts objects of a removed cgroup onto an LRU list of its own, which no other lock guards",
    Knob("objects", "objects, each put onto the list by a task of its own", 1, least=1, most=8),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def lru_of_module(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    cgroups: list[Cgroup] = []
    lrus: list[ListLru] = []
    items: list[LruItem] = []

    async def allocate_and_kill(ctx: Context) -> None:
        """Allocate objects for the list, as nfsd does for its open files; then kill their cgroup."""
        lrus.append(await __list_lru_init(ctx, machine.cgroup_tree.actor, "module", -1))
        cgroups.append(await mkdir(ctx, machine.root_cgroup, "job"))
        await run_in(ctx, cgroups[0], allocate)
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)
        await kill(ctx, cgroups[0])

    async def allocate(ctx: Context) -> None:
        for _ in range(stage.knobs["objects"]):
            obj = await kmem_cache_alloc_lru(ctx, cache, lrus[0], GFP_KERNEL)
            if obj is not None:
                items.append(LruItem(obj.slab, obj))

    def add_user(number: int) -> None:
        async def put(ctx: Context) -> None:
            for item in items[number : number + 1]:
                await list_lru_add(ctx, lrus[0], item)

        stage.task(f"put{number}", put, cpu=number + 1)

    async def free_all_items(ctx: Context) -> None:
        for item in items:
            await list_lru_del(ctx, lrus[0], item)
            await kmem_cache_free(ctx, cache, item.obj)
        await charge_elsewhere(ctx, stage.session)
        await displace(ctx, stage.session, cache)

    stage.set_up(allocate_and_kill, settles=False)
    for number in range(stage.knobs["objects"]):
        add_user(number)
    stage.wind_up(free_all_items)
    stage.eventually("every cgroup is gone", stage.only_session_left)
