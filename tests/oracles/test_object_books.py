"""Shadow accounting of objects: it finds objects that are lost or allocated twice; objects in use are no leak."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.linux.include.slab import kmem_cache_alloc, kmem_cache_alloc_bulk, kmem_cache_free, kmem_cache_free_bulk
from actors.linux.mm.kmem_cache import KmemCache, SlabObject
from actors.machine.context import Context
from actors.versions.profiles import ALLOCATORS
from protocol.vocabulary import PROFILES
from scenarios.registry import MACHINE, Scenario, scenario
from scenarios.stage import Stage, run_in, small_cache
from tests.files.helpers import perform
from tests.oracles.mutants import signatures

Body = Callable[[Context, KmemCache], Awaitable[None]]

each_allocator = pytest.mark.parametrize("allocator", ALLOCATORS)

HEADER = '''
"""{file}: an allocator that gets its objects wrong."""

from actors.linux.mm.kmem_cache import SlabObject
from actors.api import kernel_fn, unpatched
from actors.linux.include.slab import kmem_cache_alloc_bulk, kmem_cache_free_bulk
from actors.linux.mm.slab_h import mark_allocated, mark_freed
from actors.linux.include.slab import kmem_cache_free
from actors.linux.include.slab import kmem_cache_alloc

'''

FREE_FORGETS = """
@kernel_fn("kmem_cache_free", "{file}")
async def free(ctx, s, obj):
    if obj.at != 1:
        await unpatched(ctx, kmem_cache_free, s, obj)
"""
BULK_FORGETS = """
@kernel_fn("kmem_cache_free_bulk", "{file}")
async def free(ctx, s, objects):
    await unpatched(ctx, kmem_cache_free_bulk, s, objects[1:])
"""
ALLOCATION_KEEPS = """
@kernel_fn("kmem_cache_alloc", "{file}")
async def alloc(ctx, s, *gfp):
    obj = await unpatched(ctx, kmem_cache_alloc, s, *gfp)
    return obj if obj.at != 2 else await unpatched(ctx, kmem_cache_alloc, s, *gfp)
"""
BULK_KEEPS = """
@kernel_fn("kmem_cache_alloc_bulk", "{file}")
async def alloc(ctx, s, size, *gfp):
    return (await unpatched(ctx, kmem_cache_alloc_bulk, s, size + 1, *gfp))[1:]
"""
FREES_ANOTHER = """
@kernel_fn("kmem_cache_free", "{file}")
async def free(ctx, s, obj):
    other = next(at for at in range(obj.slab.objects) if at != obj.at and obj.slab.live >> at & 1)
    await unpatched(ctx, kmem_cache_free, s, SlabObject(obj.slab, other))
"""
MUTANTS = {
    "a free forgets its object": (FREE_FORGETS, "leak:object:"),
    "a bulk free forgets one": (BULK_FORGETS, "leak:object:"),
    "an allocation keeps one": (ALLOCATION_KEEPS, "leak:object:"),
    "a bulk allocation keeps one": (BULK_KEEPS, "leak:object:"),
}


async def take_and_give(ctx: Context, cache: KmemCache) -> None:
    """Allocate six objects one by one and five in bulk; keep one of each kind."""
    single = [await kmem_cache_alloc(ctx, cache) for _ in range(6)]
    for obj in single[1:]:
        if obj is not None:
            await kmem_cache_free(ctx, cache, obj)
    several = await kmem_cache_alloc_bulk(ctx, cache, 5)
    await kmem_cache_free_bulk(ctx, cache, several[1:])


async def give_one_of_three(ctx: Context, cache: KmemCache) -> None:
    """Keep two of three objects; no other task allocates."""
    if ctx.memcg is not None:
        return
    objects = [await kmem_cache_alloc(ctx, cache) for _ in range(3)]
    if objects[0] is not None:
        await kmem_cache_free(ctx, cache, objects[0])


def in_and_out(body: Body) -> Scenario:
    """A scenario that runs *body* in the session's cgroup and in the root cgroup."""

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("alpha")])
        cache = machine.root_cache("alpha")

        async def both(ctx: Context) -> None:
            await run_in(ctx, stage.session, lambda ctx: body(ctx, cache))
            await body(ctx, cache)

        stage.task("both", both)

    return scenario("in-and-out", "objects come and go", *MACHINE)(build)


@each_allocator
@pytest.mark.parametrize(("source", "signature"), MUTANTS.values(), ids=MUTANTS)
def test_an_allocator_that_loses_an_object_is_found(
    tmp_path: Path, source: str, signature: str, allocator: str
) -> None:
    patch = tmp_path / "mutant.py"
    patch.write_text((HEADER + source).format(file=ALLOCATORS[allocator]))

    assert signature in signatures(in_and_out(take_and_give), patch, allocator=allocator, schedules=1)


@each_allocator
def test_an_object_that_is_free_though_somebody_uses_it_is_found(tmp_path: Path, allocator: str) -> None:
    patch = tmp_path / "mutant.py"
    patch.write_text((HEADER + FREES_ANOTHER).format(file=ALLOCATORS[allocator]))
    found = signatures(in_and_out(give_one_of_three), patch, allocator=allocator, schedules=1)

    assert found == {"invariant:object in use:", "leak:object:"}


@each_allocator
@pytest.mark.parametrize("kernel", [kernel for kernel in PROFILES if kernel not in ("v3", "v4")])
def test_what_users_keep_is_no_leak(kernel: str, allocator: str) -> None:
    found = signatures(in_and_out(take_and_give), None, kernel=kernel, allocator=allocator, schedules=3)

    assert not [name for name in found if "object" in name]


def test_the_report_says_what_became_of_the_object() -> None:
    """The report names the flow that allocated the object and the time; or it says that it was never allocated."""

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("alpha")])
        cache = machine.root_cache("alpha")

        async def lose(ctx: Context) -> None:
            kept = [await kmem_cache_alloc(ctx, cache) for _ in range(2)]
            for obj in kept:
                assert obj is not None
                machine.objects.take_back(ctx, obj, "kmem_cache_free")
            kept[0].slab.given.pop(kept[0].at)  # type: ignore[union-attr]  # as if it had never been allocated

        stage.task("lose", lose)

    (finding,) = perform(build).world.findings.values()

    assert finding.signature == "leak:object:"
    assert finding.message == "leaked object: alpha counts 2 objects as allocated, but no user has them"
    assert finding.details[0] == "object 0 of slab 1 of alpha was never handed out"
    assert finding.details[1].startswith("object 1 of slab 1 of alpha was given to kmem_cache_free() by lose, step ")


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(list(PROFILES)), st.sampled_from(list(ALLOCATORS)))
def test_random_histories_add_up(seed: int, kernel: str, allocator: str) -> None:
    """After random allocations and frees, single and in bulk, both accounts are equal at quiescence."""
    random = Random(seed)

    async def history(ctx: Context, cache: KmemCache) -> None:
        held: list[SlabObject] = []
        for _ in range(random.randrange(1, 25)):
            size = random.randrange(6)
            if random.random() < 0.5:
                obj = await kmem_cache_alloc(ctx, cache)
                held += await kmem_cache_alloc_bulk(ctx, cache, size + 1) if obj is None else [obj]
            elif held and size:
                given, held = held[:size], held[size:]
                await kmem_cache_free_bulk(ctx, cache, given)
            elif held:
                await kmem_cache_free(ctx, cache, held.pop(random.randrange(len(held))))

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("alpha", objects=4)])
        cache = machine.root_cache("alpha")
        for cpu in range(2):
            stage.task(f"user{cpu}", lambda ctx: history(ctx, cache), cpu=cpu)

    found = perform(build, kernel, allocator=allocator).world.findings

    assert not [name for name in found if "object" in name]
