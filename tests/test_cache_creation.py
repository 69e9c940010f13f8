"""The creation of caches: failures, their undoing, and the sharing of caches. KERNEL.md 5.3, 8.1, 8.3, 8.4."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from actors.fixes import FIXES
from actors.linux.include.slab import (
    SlabFlags,
    kmem_cache_alloc,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
)
from actors.linux.init import boot_caches
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task, cgroup_mkdir
from actors.linux.mm.kmem_cache import KmemCache
from actors.machine.context import Context
from actors.system.stepper import run_stepper
from actors.system.world import World
from explorer.search.registry import make_strategy
from protocol.vocabulary import PROFILES
from scenarios.registry import MACHINE, default_value
from scenarios.stage import Stage, charge_elsewhere, fill, mkdir, rmdir, small_cache, warm_up

ACCOUNT = SlabFlags.ACCOUNT
SECOND = 1_000_000_000
OF_ROOTS = ("cache_name", "kmem_cache", "memcg_caches", "cache_parts", "sysfs")
OF_CHILDREN = ("cache_name", "kmem_cache", "percpu", "cache_parts", "sysfs")

each_kernel = pytest.mark.parametrize("kernel", PROFILES)
each_allocator = pytest.mark.parametrize("allocator", ["slub", "slab"])


def has_fault(fault: str, kernel: str, allocator: str) -> bool:
    """Whether the creation of a cache needs this kind of memory on this kernel and allocator."""
    if fault == "percpu":
        return kernel not in ("original", "v1")
    return fault != "sysfs" or allocator == "slub"


def play_seed(build: Callable[[Stage], None], kernel: str, seed: int, *fixes: str, allocator: str = "slub") -> Stage:
    """Run the stage that *build* sets, with the named fixes."""
    world = World(make_strategy("random", seed))
    knobs = {knob.name: default_value(knob) for knob in MACHINE} | {"allocator": allocator}
    stage = Stage(world, kernel, knobs, patches=tuple(FIXES[fix].added_to(kernel) for fix in fixes))
    build(stage)
    stage.start()
    run_stepper(world)
    return stage


def said(stage: Stage) -> list[str]:
    return [finding.message for finding in stage.world.findings.values()]


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", OF_ROOTS)
@each_allocator
@each_kernel
def test_a_root_cache_that_cannot_be_made_leaves_nothing(kernel: str, allocator: str, fault: str) -> None:
    made: list[KmemCache | None] = []
    left: list[bool] = []

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("alpha")])

        async def create(ctx: Context) -> None:
            before = set(machine.all_caches)
            stage.world.faults = {fault: 1.0}
            made.append(await kmem_cache_create(ctx, small_cache("gamma"), ACCOUNT, has_ctor=True))
            stage.world.faults = {}
            await kmem_cache_destroy(ctx, None)
            left.append(set(machine.all_caches) == before == set(machine.slab_caches.caches))
            again = await kmem_cache_create(ctx, small_cache("gamma"), ACCOUNT, has_ctor=True)
            assert again is not None
            await kmem_cache_destroy(ctx, again)

        stage.task("modprobe", create)

    stage = play_seed(build, kernel, 0, allocator=allocator)
    if has_fault(fault, kernel, allocator):
        assert made == [None]
        assert left == [True]
        assert said(stage) == ["WARNING: kmem_cache_create(gamma) failed with error -12"]
    else:
        assert made != [None]
        assert not stage.world.findings


@pytest.mark.parametrize("fault", OF_CHILDREN)
@each_allocator
@each_kernel
def test_without_a_child_cache_the_root_is_used_and_nothing_is_reported(
    kernel: str, allocator: str, fault: str
) -> None:
    served: list[KmemCache] = []

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("alpha")])
        root = machine.root_cache("alpha")

        async def work(ctx: Context) -> None:
            cgroup = await mkdir(ctx, machine.root_cgroup, "job")
            stage.world.faults = {fault: 1.0}
            await warm_up(ctx, cgroup, root)
            objects = await fill(ctx, cgroup, root, 1)
            served.extend(obj.slab.slab_cache for obj in objects)
            await ctx.settle()
            for obj in objects:
                await kmem_cache_free(ctx, root, obj)
            await rmdir(ctx, cgroup)

        stage.task("job", work)
        stage.wind_up(lambda ctx: charge_elsewhere(ctx, stage.session))
        stage.eventually("no cgroup is dying", stage.only_session_left)

    fixes = ("rcu-lock-for-unlock",) if kernel in ("v3", "v4") else ()  # without it no task may sleep afterwards
    stage = play_seed(build, kernel, 0, *fixes, allocator=allocator)

    assert len(served) == 1
    assert served[0].is_root_cache == has_fault(fault, kernel, allocator)
    if served[0].is_root_cache:
        assert not stage.world.findings
        assert not stage.machine.child_caches


def test_a_cache_that_must_be_there_panics() -> None:
    def build(stage: Stage) -> None:
        stage.boot(caches=[small_cache("alpha")])
        stage.world.faults = {"kmem_cache": 1.0}

        async def create(ctx: Context) -> None:
            await kmem_cache_create(ctx, small_cache("gamma"), SlabFlags.PANIC)

        stage.task("init", create)

    assert said(play_seed(build, "5.3", 0)) == [
        "kernel BUG: kmem_cache_create: Failed to create slab 'gamma'. Error -12"
    ]


def test_a_link_that_cannot_be_made_takes_the_new_user_back() -> None:
    """A separate cache cannot be made either: the name of its sysfs directory is taken by the first cache."""
    refcounts: list[int] = []

    def build(stage: Stage) -> None:
        alpha = stage.boot(caches=[small_cache("alpha")]).root_cache("alpha")

        async def create(ctx: Context) -> None:
            stage.world.faults = {"sysfs": 1.0}
            assert await kmem_cache_create(ctx, small_cache("gamma"), ACCOUNT) is None
            refcounts.append(alpha.refcount)

        stage.task("modprobe", create)

    play_seed(build, "5.3", 0)

    assert refcounts == [1]


# -- names that are taken ---------------------------------------------------------------------------------------------


def half_dead(stage: Stage) -> None:
    """Set a stage that destroys a root cache with a live object, then creates another one of the same name."""
    stage.boot(caches=[small_cache("alpha")])

    async def work(ctx: Context) -> None:
        gamma = await kmem_cache_create(ctx, small_cache("gamma"), ACCOUNT, has_ctor=True)
        assert gamma is not None
        obj = await kmem_cache_alloc(ctx, gamma)
        assert obj is not None
        await kmem_cache_destroy(ctx, gamma)
        await kmem_cache_create(ctx, small_cache("gamma"), ACCOUNT, has_ctor=True)
        await kmem_cache_free(ctx, gamma, obj)

    stage.task("modprobe", work)


@each_allocator
@each_kernel
def test_the_name_of_a_cache_that_could_not_be_destroyed_is_taken(kernel: str, allocator: str) -> None:
    """SLAB has no sysfs directory, so no name is taken there."""
    stage = play_seed(half_dead, kernel, 0, allocator=allocator)
    taken = "WARNING: kmem_cache_create(gamma) failed with error -17"

    assert "WARNING: kmem_cache_destroy gamma: Slab cache still has objects" in said(stage)
    assert (taken in said(stage)) == (allocator == "slub")


def destroy_and_create(ends: list[str], *, has_ctor: bool = False) -> Callable[[Stage], None]:
    """Set a stage in which one task destroys alpha while another one creates an identical cache."""

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("beta", objects=8)])
        caches: list[KmemCache] = []

        async def make(ctx: Context) -> None:
            alpha = await kmem_cache_create(ctx, small_cache("alpha"), ACCOUNT, has_ctor=has_ctor)
            assert alpha is not None
            caches.append(alpha)

        async def create(ctx: Context) -> None:
            again = await kmem_cache_create(ctx, small_cache("alpha"), ACCOUNT, has_ctor=has_ctor)
            if again is None:
                ends.append("taken")
                await ctx.sleep(SECOND)
                again = await kmem_cache_create(ctx, small_cache("alpha"), ACCOUNT, has_ctor=has_ctor)
                assert again is not None, "the name is free again"
            ends.append("shared" if again is caches[0] else "its own")
            obj = await kmem_cache_alloc(ctx, again)
            assert obj is not None
            await kmem_cache_free(ctx, again, obj)

        stage.set_up(make)
        stage.task("rmmod", lambda ctx: kmem_cache_destroy(ctx, caches[0]))
        stage.task("modprobe", create, cpu=1)
        assert machine.root_cache("beta").refcount == 1

    return build


def test_later_a_cache_that_is_being_destroyed_may_be_taken_up_again() -> None:
    """Linux 5.4.286 ignores `dying` when it merges caches; the destruction reads the count of users a second time."""
    ends: list[str] = []
    for seed in range(40):
        stage = play_seed(destroy_and_create(ends), "5.4-fixed", seed)

        assert not stage.world.findings
        if ends[-1] == "shared":
            alpha = stage.machine.root_cache("alpha")
            assert (alpha.refcount, alpha.dying) == (1, False)

    assert set(ends) == {"shared"}, "the grace period of the flush is long"


def test_the_first_version_of_the_fix_made_creation_fail() -> None:
    ends: list[str] = []
    warned = 0
    for seed in range(40):
        stage = play_seed(destroy_and_create(ends), "5.4-fixed", seed, "dying-not-merged")
        warned += "kmem_cache_create(alpha) failed with error -17" in str(stage.world.findings)

    assert warned == ends.count("taken") > 0


@pytest.mark.parametrize("kernel", ["original", "5.3", "5.4-fixed"])
def test_the_name_of_a_cache_that_is_being_destroyed_is_taken(kernel: str) -> None:
    """A cache that is never merged cannot be created again before its destruction is over; afterwards it can."""
    ends: list[str] = []
    for seed in range(40):
        play_seed(destroy_and_create(ends, has_ctor=True), kernel, seed)

    assert set(ends) == {"taken", "its own"}


# -- arrays of child caches -------------------------------------------------------------------------------------------


def test_a_new_root_has_room_for_a_memcg_that_is_made_at_the_same_time() -> None:
    """Both hold memcg_cache_ids_sem: the root is made before the arrays grow, or after the new size is set."""
    for seed in range(400):
        sizes: list[tuple[int, int]] = []

        def build(stage: Stage, sizes: list[tuple[int, int]] = sizes) -> None:
            machine = stage.boot(caches=[small_cache("beta", objects=8)])
            stage.has_session = False

            async def create(ctx: Context) -> None:
                root = await kmem_cache_create(ctx, small_cache("alpha"), ACCOUNT)
                assert root is not None
                cgroup = await mkdir(ctx, machine.root_cgroup, "late")
                await cgroup_attach_task(ctx, cgroup, ctx)
                obj = await kmem_cache_alloc(ctx, root)
                assert obj is not None
                await kmem_cache_free(ctx, root, obj)
                assert root.memcg_caches is not None
                sizes.append((len(root.memcg_caches.entries), machine.memcg_nr_cache_ids))

            async def grow(ctx: Context) -> None:
                await mkdir(ctx, machine.root_cgroup, "job")

            stage.task("modprobe", create)
            stage.task("mkdir", grow, cpu=1)

        stage = play_seed(build, "5.3", seed)

        assert not [finding for finding in stage.world.findings.values() if finding.is_fatal]
        assert [size for size, wanted in sizes if size != wanted] == []
        assert len(sizes) == 1


# -- flags ------------------------------------------------------------------------------------------------------------

RECLAIMABLE = SlabFlags.RECLAIM_ACCOUNT | ACCOUNT


@pytest.mark.parametrize(
    ("name", "flags", "kinds"),
    [
        ("dentry", RECLAIMABLE, (False, True)),
        ("inode_cache", RECLAIMABLE, (True, False)),
        ("proc_inode_cache", RECLAIMABLE, (True, False)),
        ("ext4_inode_cache", RECLAIMABLE, (True, False)),
        ("shmem_inode_cache", ACCOUNT, (True, False)),
        ("filp", ACCOUNT, (False, False)),
        ("radix_tree_node", SlabFlags.RECLAIM_ACCOUNT, (True, False)),
        ("anon_vma", SlabFlags.TYPESAFE_BY_RCU | ACCOUNT, (True, False)),
        ("sighand_cache", SlabFlags.TYPESAFE_BY_RCU | ACCOUNT, (True, False)),
        ("TCPv6", SlabFlags.TYPESAFE_BY_RCU | ACCOUNT, (False, False)),
        ("kmalloc-rcl-64", SlabFlags.RECLAIM_ACCOUNT, (False, True)),
        ("dma-kmalloc-64", SlabFlags.CACHE_DMA, (False, False)),
        ("kmalloc-64", SlabFlags.NONE, (False, True)),
    ],
)
def test_caches_are_created_with_the_kernel_s_flags(name: str, flags: SlabFlags, kinds: tuple[bool, bool]) -> None:
    """*kinds*: with a constructor, with a usercopy region."""
    found = boot_caches.flags_of(name), boot_caches.has_ctor(name), boot_caches.has_usercopy(name)

    assert found == (flags, *kinds)


@pytest.mark.parametrize("name", ["dentry", "inode_cache", "kmem_cache", "kmalloc-64", "sighand_cache"])
def test_caches_with_a_constructor_or_a_usercopy_region_and_the_first_ones_are_not_shared(name: str) -> None:
    shared: list[bool] = []

    def build(stage: Stage) -> None:
        row = small_cache(name)
        machine = stage.boot(caches=[row])

        async def create(ctx: Context) -> None:
            flags = boot_caches.flags_of(name) & ~SlabFlags.TYPESAFE_BY_RCU
            other = await kmem_cache_create(ctx, attrs.evolve(row, name="other"), flags)
            shared.append(other is machine.root_cache(name))

        stage.task("modprobe", create)

    play_seed(build, "5.3", 0)

    assert shared == [False]


# -- cgroups whose creation fails -------------------------------------------------------------------------------------


@each_kernel
def test_a_cgroup_that_cannot_be_made_is_gone_again_with_its_memcg(kernel: str) -> None:
    """At the failure its memcg has an id and is online for kmem; it goes offline at its free, without cgroup_mutex."""
    made: list[bool] = []

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("alpha")])

        async def try_often(ctx: Context) -> None:
            stage.world.faults = {"percpu": 0.5}
            for number in range(20):
                cgroup = await cgroup_mkdir(ctx, machine.root_cgroup, f"job{number}")
                made.append(cgroup is not None)
                if cgroup is not None:
                    await rmdir(ctx, cgroup)

        async def remove_parents(ctx: Context) -> None:
            """Remove the parents; a child whose creation failed holds its parent until the child is freed."""
            for number in range(3):
                parent = await mkdir(ctx, machine.root_cgroup, f"parent{number}")
                await cgroup_mkdir(ctx, parent, "child")
                for child in list(parent.children):
                    if not child.is_dead:
                        await rmdir(ctx, child)
                await rmdir(ctx, parent)

        stage.task("mkdir", try_often)
        stage.task("parents", remove_parents, cpu=1)
        stage.eventually("no cgroup is left", stage.only_session_left)

    stage = play_seed(build, kernel, 0)

    assert {True, False} == set(made)
    assert not stage.world.findings
    assert stage.machine.kmem_enabled.usage == 1
    assert len(stage.machine.memcg_cache_ida.used) == 1
