"""Charges and their counters from 6.12 on, at the edges: KERNEL-today 5.4, 8.1, 8.3."""

from __future__ import annotations

import pytest

from actors.api import GFP_KERNEL, Context, kmem_cache_free
from actors.fixes_today import charge_page_to_memcg, uncharge_page_of_memcg
from actors.linux.kernel.cgroup.cgroup import memcg_of
from actors.linux.lib.percpu_refcount import percpu_ref_kill
from actors.linux.mm import memcontrol
from actors.linux.mm.memcontrol import MAX_RECLAIM_RETRIES, Memcg, try_charge_memcg
from actors.linux.mm.obj_cgroup import KmemPages, exts_of, obj_cgroup_alloc
from actors.linux.mm.page_counter import page_counter_try_charge, page_counter_uncharge
from actors.machine.gfp import Gfp
from actors.system.world import World
from scenarios.stage import enter, fill, mkdir, rmdir
from tests.today.lone_task import alone

EACH_KERNEL = pytest.mark.parametrize("kernel", ["6.12", "7.2"])

UNDERFLOW = (
    "warn:page_counter_cancel: new < 0:page_counter_cancel",
    "accounting:page_counter underflow:page_counter_cancel",
)


@EACH_KERNEL
def test_a_counter_below_zero_starts_again_from_zero(kernel: str) -> None:
    """So the next charge counts, and what had been uncharged too much is forgotten."""

    async def body(ctx: Context) -> None:
        memory = memcg_of((await mkdir(ctx, ctx.machine.root_cgroup, "job")).css).memory
        before, memory.parent, memory.usage = (memory.parent, memory.usage), None, 0
        await page_counter_uncharge(ctx, memory, 3)
        assert await page_counter_try_charge(ctx, memory, 2) is None
        assert memory.usage == 2
        memory.parent, memory.usage = before

    alone(body, kernel=kernel, expected=UNDERFLOW)


@EACH_KERNEL
def test_a_charge_drains_the_stocks_before_it_reclaims_again(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """KERNEL-today 8.3.5: something was reclaimed, but there is not enough room: then the stocks come first."""
    order: list[str] = []

    async def body(ctx: Context) -> None:
        memcg = memcg_of((await mkdir(ctx, ctx.machine.root_cgroup, "job")).css)
        memcg.memory.max = memcg.memory.usage

        async def reclaim(_ctx: Context, _over: Memcg, _nr_pages: int, _gfp: Gfp) -> int:
            order.append("reclaim")
            if len(order) > 2:
                memcg.memory.max = None
            return 1

        async def drain(_ctx: Context, _over: Memcg) -> None:
            order.append("drain")

        monkeypatch.setattr(memcontrol, "try_to_free_mem_cgroup_pages", reclaim)
        monkeypatch.setattr(memcontrol, "drain_all_stock", drain)
        assert await try_charge_memcg(ctx, memcg, GFP_KERNEL, 8)
        monkeypatch.undo()
        await page_counter_uncharge(ctx, memcg.memory, 8)

    alone(body, kernel=kernel)

    assert order == ["reclaim", "drain", "reclaim"]


@EACH_KERNEL
def test_a_charge_of_many_pages_gives_up_though_reclaim_finds_some(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KERNEL-today 8.3.5: only a charge of up to 8 pages goes on as long as anything is reclaimed."""
    nr_reclaims = 0

    async def body(ctx: Context) -> None:
        memcg = memcg_of((await mkdir(ctx, ctx.machine.root_cgroup, "job")).css)
        memcg.memory.max = memcg.memory.usage

        async def reclaim(_ctx: Context, _over: Memcg, _nr_pages: int, _gfp: Gfp) -> int:
            nonlocal nr_reclaims
            nr_reclaims += 1
            return 1

        monkeypatch.setattr(memcontrol, "try_to_free_mem_cgroup_pages", reclaim)
        assert not await try_charge_memcg(ctx, memcg, GFP_KERNEL, 9)

    alone(body, kernel=kernel)

    assert nr_reclaims == 1 + MAX_RECLAIM_RETRIES + 1


@EACH_KERNEL
def test_an_object_whose_slab_gets_no_vector_stays_unaccounted(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """KERNEL-today 7.2.6, KERNEL-7.2, row 7.2: the next object of the slab tries again, and is accounted."""

    async def body(ctx: Context) -> None:
        job = await mkdir(ctx, ctx.machine.root_cgroup, "job")
        cache = ctx.machine.root_cache("alpha")
        monkeypatch.setattr(World, "should_fail", lambda _world, site: site == "obj_exts")
        objects = list(await fill(ctx, job, cache, 4 * cache.objects + 1))
        plain = objects[-1]
        assert plain.slab.obj_exts is None
        monkeypatch.undo()
        objects += await fill(ctx, job, cache, 1)
        assert objects[-1].slab is plain.slab
        exts = exts_of(plain.slab)
        assert [at for at, objcg in enumerate(exts.slots) if objcg is not None] == [objects[-1].at]
        for obj in objects:
            await kmem_cache_free(ctx, cache, obj)
        await rmdir(ctx, job)

    alone(body, kernel=kernel, check="step")


def test_an_obj_cgroup_of_a_memcg_that_never_was_online_is_released_without_it() -> None:
    """KERNEL-7.2, row 4.6: nothing of it was ever handed over, so it is on no list, and its memcg may go first."""

    async def body(ctx: Context) -> None:
        job = await mkdir(ctx, ctx.machine.root_cgroup, "job")
        memcg = memcg_of(job.css)
        objcg = await obj_cgroup_alloc(ctx, memcg, 0)
        assert objcg is not None
        await rmdir(ctx, job)
        await ctx.settle()
        assert memcg.freed is not None
        await percpu_ref_kill(ctx, objcg.refcnt)
        await ctx.settle()
        assert objcg not in ctx.machine.objcgs

    alone(body)


@pytest.mark.parametrize("cgroup", ["v1", "v2"])
def test_a_kernel_page_of_a_memcg_is_charged_to_the_counters_that_it_is_uncharged_from(cgroup: str) -> None:
    """Without kmem-pages-by-css: on cgroup v1 there are two, memory and memsw, which are equal without swap."""
    usages: list[tuple[int, ...]] = []

    async def body(ctx: Context) -> None:
        job = await mkdir(ctx, ctx.machine.root_cgroup, "job")
        memcg = memcg_of(job.css)
        counters = [counter for counter in (memcg.memory, memcg.memsw) if counter is not None]
        stack = KmemPages(memcg.actor, "stack", 4)
        await enter(ctx, job)
        for change in (charge_page_to_memcg(ctx, stack, GFP_KERNEL), uncharge_page_of_memcg(ctx, stack)):
            await change
            usages.append(tuple(counter.usage for counter in counters))
        await enter(ctx, ctx.machine.root_cgroup)
        await rmdir(ctx, job)

    alone(body, kernel="6.12", cgroup=cgroup)

    charged, left = usages
    assert [charged[at] - left[at] for at in range(len(charged))] == [4] * (2 if cgroup == "v1" else 1)
