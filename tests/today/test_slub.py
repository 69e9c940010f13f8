"""SLUB of 6.12 without accounting: every slab is in one place at any time, and nothing is lost. KERNEL-today 16, 20."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from actors.files.seq_file import read_whole
from actors.files.slabinfo import slabinfo_open
from actors.linux.include.slab import (
    SlabFlags,
    kmem_cache_alloc,
    kmem_cache_alloc_bulk,
    kmem_cache_alloc_lru,
    kmem_cache_free,
    kmem_cache_free_bulk,
)
from actors.linux.init.machine import Machine
from actors.linux.mm import slab_h
from actors.linux.mm.kmem_cache import KmemCache, Slab, SlabObject
from actors.linux.mm.obj_cgroup import ObjCgroup, ObjExts
from actors.linux.mm.slab_h import get_online_cpus, put_online_cpus
from actors.machine.context import Context
from actors.machine.gfp import Gfp
from actors.oracles.ledger import free_objects
from actors.oracles.objcg import slots_of
from actors.system.cpu import Cpu
from actors.system.flow import Flow
from actors.system.stepper import run_stepper
from actors.system.world import World
from actors.versions.kernel_fn import make_body
from actors.versions.patching import Patch
from explorer.search.registry import make_strategy
from protocol.records import PatchRecord
from scenarios.registry import MACHINE, default_value
from scenarios.stage import Stage, small_cache
from tests.today.slab_users import Users

shrink = getattr(slab_h, "__kmem_cache_shrink")
shutdown = getattr(slab_h, "__kmem_cache_shutdown")

each_seed = pytest.mark.parametrize("seed", range(12))
NO_LRU: Any = None
SITES = ("node", "cpu slab", "cpu partial")


# -- T17 --------------------------------------------------------------------------------------------------------------


def places(s: KmemCache, slab: Slab) -> list[str]:
    """Where the slab is, by the pointers to it; empty if it is full or in transit."""
    found = [f"node {n.nid}" for n in s.node if slab in n.partial]
    for c in s.cpu_slab:
        found += [f"cpu slab {c.cpu}"] * (c.page is slab) + [f"cpu partial {c.cpu}"] * c.partial.count(slab)
    return found


def slab_wrongs(machine: Machine, s: KmemCache, *, is_at_rest: bool) -> Iterator[str]:
    """The slabs of a cache that are in two places, or not in the state of their place.

    In a section with the local lock a CPU's slab may not be frozen yet. Nothing is in transit *is_at_rest*.
    """
    for slab in s.slabs:
        found = places(s, slab)
        if len(found) > 1:
            yield f"{slab.label} is at {found}"
        if (slab.slab_list is not None) != any(place.startswith("node") for place in found):
            yield f"{slab.label} has the flag {slab.slab_list is not None} at {found}"
        place = found[0] if found else ""
        if place.startswith("cpu slab"):
            if not slab.frozen and not has_irqs_off(machine.cpus[int(place.split()[-1])]):
                yield f"{slab.label} is unfrozen as {place}"
        elif place and (slab.frozen or slab.freelist is None or slab.inuse >= slab.objects):
            yield f"{slab.label} is frozen or full on {place}"
        if is_at_rest:
            free = list(free_objects(s, slab))
            if len(free) + slab.live.bit_count() != slab.objects or len({*free}) != len(free):
                yield f"{slab.label} has {slab.live.bit_count()} allocated objects and {free}"
            if not place and (slab.frozen or free):
                yield f"{slab.label} is lost: frozen {slab.frozen}, free {free}"


def has_irqs_off(cpu: Cpu) -> bool:
    """Whether the flow that holds that CPU has IRQs off."""
    return any(flow is not None and flow.irqs_off for flow in (cpu.holder, cpu.softirq))


# -- machines ---------------------------------------------------------------------------------------------------------


async def charge_nothing(_ctx: Context, _s: KmemCache, _lru: object, _gfp: Gfp, _objects: object) -> bool:
    return True


async def uncharge_nothing(_ctx: Context, _s: KmemCache, _objects: object) -> None:
    return


HOOKS: dict[str, Callable[..., Any]] = {
    "memcg_slab_post_alloc_hook": charge_nothing,
    "memcg_slab_free_hook": uncharge_nothing,
}


def patch_of(bodies: dict[str, Callable[..., Any]]) -> Patch:
    """The memory controller's hooks, without effect unless *bodies* has another one."""
    named = {name: make_body(code, name, "mm/memcontrol.c", ("6.12",)) for name, code in (HOOKS | bodies).items()}
    return Patch(PatchRecord("hooks"), named)


def perform(
    build: Callable[[Stage], None],
    *,
    seed: int = 0,
    bodies: dict[str, Callable[..., Any]] | None = None,
    finds: tuple[str, ...] = (),
    **knobs: Any,
) -> Stage:
    """Run the stage that *build* sets; its findings are those named *finds*."""
    values = {knob.name: knobs.get(knob.name, default_value(knob)) for knob in MACHINE}
    world = World(make_strategy("random", seed))
    stage = Stage(world, "6.12", values, patches=(patch_of(bodies or {}),))
    stage.has_session = False
    build(stage)
    stage.start()
    run_stepper(world)
    assert {finding.name for finding in world.findings.values()} == {*finds}, world.findings
    return stage


class SlubUsers(Users):
    """Users of a cache of 6.12; `seen` has the places of slabs."""

    def find_wrongs(self, *, is_at_rest: bool) -> Iterator[str]:
        return slab_wrongs(self.stage.machine, self.s, is_at_rest=is_at_rest)

    async def shrink(self, ctx: Context) -> int:
        left: int = await shrink(ctx, self.s)
        return left

    def look(self, flow: Flow) -> None:
        super().look(flow)
        self.seen.update(place[:-2] for slab in self.s.slabs for place in places(self.s, slab))


@each_seed
@pytest.mark.parametrize(("cpus", "nodes"), [(2, 1), (3, 2)])
@pytest.mark.parametrize(("cpu_partial", "min_partial"), [(2, 0), (4, 1), (30, 5)])
def test_every_slab_is_in_one_place_and_none_is_lost(
    cpu_partial: int, min_partial: int, cpus: int, nodes: int, seed: int
) -> None:
    """Invariant T17 after each step of a race of tasks, interrupts and shrinks.

    The lists of partial slabs are short or long. With some seeds, pages are scarce, or RCU frees the slabs.
    """

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("alpha", objects=3)])
        s = machine.root_cache("alpha")
        s.cpu_partial.value, s.min_partial.value = cpu_partial, min_partial
        if seed % 3 == 1:
            stage.make_scarce(20, "page")
        elif seed % 3 == 2:
            s.flags |= SlabFlags.TYPESAFE_BY_RCU
        users.append(SlubUsers(stage, s, random.Random(seed)))
        users[0].start(tasks=2 * cpus, rounds=9)

    users: list[SlubUsers] = []
    perform(build, seed=seed, cpus=cpus, nodes=nodes)

    assert not users[0].wrongs
    assert users[0].seen == {*SITES}


def test_an_empty_slab_on_a_cpu_s_partial_list_stays_there() -> None:
    """The free that empties it finds it unfrozen and without the flag, and leaves the lists alone."""

    async def body(ctx: Context, _stage: Stage, s: KmemCache) -> None:
        objects = await kmem_cache_alloc_bulk(ctx, s, 6)
        first = objects[0].slab
        await kmem_cache_free(ctx, s, objects[0])

        assert places(s, first) == ["cpu partial 0"]
        assert not first.frozen

        await kmem_cache_free_bulk(ctx, s, objects[1:3])

        assert first.inuse == 0
        assert places(s, first) == ["cpu partial 0"]

        await kmem_cache_free_bulk(ctx, s, objects[3:])

    alone(body)


def test_objects_of_a_slab_in_a_bulk_go_back_at_once() -> None:
    freed: list[int] = []

    async def uncharge(_ctx: Context, _s: KmemCache, objects: tuple[SlabObject, ...]) -> None:
        assert len({obj.slab for obj in objects}) == 1
        freed.append(len(objects))

    async def body(ctx: Context, _stage: Stage, s: KmemCache) -> None:
        objects = await kmem_cache_alloc_bulk(ctx, s, 6)
        ones = [obj for obj in objects if obj.slab is objects[0].slab]
        others = [obj for obj in objects if obj.slab is not objects[0].slab]
        mixed = list(itertools.chain.from_iterable(zip(ones, others, strict=True)))
        await kmem_cache_free_bulk(ctx, s, mixed)

    alone(body, memcg_slab_free_hook=uncharge)

    assert freed == [3, 3]


@pytest.mark.parametrize("size", [1, 5])
def test_objects_that_cannot_be_charged_are_free_again(size: int) -> None:
    """One object is freed without the hook of a free; several go through it, as some of them may be charged."""
    uncharged: list[SlabObject] = []

    async def refuse(_ctx: Context, _s: KmemCache, _lru: object, _gfp: Gfp, _objects: object) -> bool:
        return False

    async def uncharge(_ctx: Context, _s: KmemCache, objects: tuple[SlabObject, ...]) -> None:
        uncharged.extend(objects)

    async def body(ctx: Context, stage: Stage, s: KmemCache) -> None:
        if size == 1:
            assert await kmem_cache_alloc(ctx, s) is None
            assert await kmem_cache_alloc_lru(ctx, s, NO_LRU) is None
        else:
            assert await kmem_cache_alloc_bulk(ctx, s, size) == []
        assert len(uncharged) == (0 if size == 1 else size)
        assert s.live_objects == 0
        assert not list(slab_wrongs(stage.machine, s, is_at_rest=True))

    alone(body, memcg_slab_post_alloc_hook=refuse, memcg_slab_free_hook=uncharge)


def test_without_a_page_there_is_no_object() -> None:
    async def body(ctx: Context, stage: Stage, s: KmemCache) -> None:
        stage.world.faults = {"page": 1.0}
        assert await kmem_cache_alloc(ctx, s) is None
        assert await kmem_cache_alloc_bulk(ctx, s, 4) == []
        assert not ctx.owns_cpu
        stage.world.faults = {}

    alone(body)


def test_objects_of_a_bulk_that_fails_are_free_again_and_were_never_charged() -> None:
    uncharged: list[object] = []

    async def uncharge(_ctx: Context, _s: KmemCache, objects: object) -> None:
        uncharged.append(objects)

    async def body(ctx: Context, stage: Stage, s: KmemCache) -> None:
        await kmem_cache_free_bulk(ctx, s, await kmem_cache_alloc_bulk(ctx, s, 5))
        uncharged.clear()
        stage.world.faults = {"page": 1.0}
        assert await kmem_cache_alloc_bulk(ctx, s, 7) == []
        stage.world.faults = {}
        assert not uncharged
        assert s.live_objects == 0
        assert not list(slab_wrongs(stage.machine, s, is_at_rest=True))

    alone(body, memcg_slab_free_hook=uncharge)


@pytest.mark.parametrize("is_on", [False, True])
def test_a_slab_of_an_accounted_cache_has_a_vector_from_the_start_if_accounting_is_on(is_on: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    async def body(ctx: Context, stage: Stage, s: KmemCache) -> None:
        key = stage.machine.kmem_enabled
        await ctx.ask(key.add, int(is_on))
        s.flags |= SlabFlags.ACCOUNT
        obj = await kmem_cache_alloc(ctx, s)
        assert obj is not None
        assert (obj.slab.obj_exts is not None) == is_on
        assert not any(slots_of(obj.slab))
        await kmem_cache_free(ctx, s, obj)
        await ctx.ask(key.add, -int(is_on))

    alone(body)


def test_a_shutdown_with_a_live_object_fails_and_frees_the_rest() -> None:
    async def body(ctx: Context, _stage: Stage, s: KmemCache) -> None:
        objects = await kmem_cache_alloc_bulk(ctx, s, 7)
        await kmem_cache_free_bulk(ctx, s, objects[1:])
        get_online_cpus(ctx)
        assert await shutdown(ctx, s)
        assert [*s.slabs] == [objects[0].slab]
        await kmem_cache_free(ctx, s, objects[0])
        assert not await shutdown(ctx, s)
        put_online_cpus(ctx)
        assert not s.slabs

    alone(body)


def test_a_vector_that_still_names_an_obj_cgroup_when_its_slab_goes_is_reported() -> None:
    """The free hook of this kernel forgets the slot."""

    async def body(ctx: Context, stage: Stage, s: KmemCache) -> None:
        obj = await kmem_cache_alloc(ctx, s)
        assert obj is not None
        root = stage.machine.root_mem_cgroup
        obj.slab.obj_exts = ObjExts(s.actor, obj.slab, [ObjCgroup(s.actor, root, root), None, None])
        await kmem_cache_free(ctx, s, obj)

    alone(body, finds=("T6",))


def test_proc_slabinfo_has_one_row_per_cache() -> None:
    async def body(ctx: Context, _stage: Stage, s: KmemCache) -> None:
        objects = await kmem_cache_alloc_bulk(ctx, s, 4)
        text = (await read_whole(ctx, slabinfo_open())).decode()
        (row,) = [line.split() for line in text.splitlines() if line.startswith("alpha")]
        assert row[1:3] == ["6", "6"]
        assert row[-3:] == ["2", "2", "0"]
        await kmem_cache_free_bulk(ctx, s, objects)

    alone(body)


def alone(
    body: Callable[[Context, Stage, KmemCache], Awaitable[None]],
    finds: tuple[str, ...] = (),
    **bodies: Callable[..., Any],
) -> None:
    """One task on one CPU of two, with an empty cache of three objects per slab; all of it is gone at the end."""

    def build(stage: Stage) -> None:
        s = stage.boot(caches=[small_cache("alpha", objects=3)]).root_cache("alpha")

        async def work(ctx: Context) -> None:
            await body(ctx, stage, s)
            done.append(s)

        stage.task("t", work)
        stage.wind_up(lambda ctx: shrink(ctx, s))

    done: list[KmemCache] = []
    perform(build, bodies=bodies, finds=finds)

    assert not done[0].slabs
