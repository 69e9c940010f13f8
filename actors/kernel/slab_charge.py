"""Charging and uncharging a slab's pages. mm/slab.h @5.3.1; KERNEL.md 4.4, appendices A2 and A3."""

from __future__ import annotations

from actors.kernel.cgroup import css_put, css_put_many, css_tryget_online
from actors.kernel.context import Context, deref
from actors.kernel.kernel_fn import kernel_fn
from actors.kernel.memcontrol import try_charge
from actors.kernel.page_counter import page_counter_uncharge
from actors.kernel.percpu_ref import percpu_ref_get_many, percpu_ref_put_many
from actors.kernel.slab import KmemCache, Slab


@kernel_fn("charge_slab_page", "mm/slab.h")
async def charge_slab_page(ctx: Context, slab: Slab, s: KmemCache) -> bool:
    """Charge the pages of *slab*, not yet in use; False if the memcg is full."""
    if s.is_root_cache:
        return True
    return await memcg_charge_slab(ctx, slab, s)


@kernel_fn("memcg_charge_slab", "mm/slab.h", profiles="5.3..")
async def memcg_charge_slab(ctx: Context, slab: Slab, s: KmemCache) -> bool:
    """A2: charge the cache's memcg, or its first online ancestor; the pages pin the cache."""
    assert s.refcnt is not None
    with ctx.rcu_read_section:
        memcg = await ctx.ask(s.read_memcg)
        while memcg is not None and not await css_tryget_online(ctx, memcg.css):
            memcg = memcg.parent
    if memcg is None or memcg.is_root:
        await percpu_ref_get_many(ctx, s.refcnt, s.pages)
        s.charged_pages += s.pages
        return True
    if not await try_charge(ctx, memcg, s.pages):
        await css_put(ctx, memcg.css)
        return False
    await percpu_ref_get_many(ctx, s.refcnt, s.pages)
    s.charged_pages += s.pages
    await css_put_many(ctx, memcg.css, s.pages)
    await css_put(ctx, memcg.css)
    return True


@kernel_fn("memcg_charge_slab", "mm/slab.h", profiles="original")
async def memcg_charge_slab_original(ctx: Context, slab: Slab, s: KmemCache) -> bool:
    """[O]: the pages pin the memcg."""
    assert s.memcg is not None
    if not await try_charge(ctx, s.memcg, s.pages):
        return False
    slab.memcg = s.memcg
    s.charged_pages += s.pages
    return True


@kernel_fn("uncharge_slab_page", "mm/slab.h")
async def uncharge_slab_page(ctx: Context, slab: Slab, s: KmemCache) -> None:
    if not s.is_root_cache:
        await memcg_uncharge_slab(ctx, slab, s)


@kernel_fn("memcg_uncharge_slab", "mm/slab.h", profiles="5.3..")
async def memcg_uncharge_slab(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """A3: uncharge whatever memcg the cache has now; the put is the last touch of the cache."""
    assert s.refcnt is not None
    with ctx.rcu_read_section:
        memcg = deref(await ctx.ask(s.read_memcg), "memcg_uncharge_slab(): s->memcg_params.memcg")
        if not memcg.is_root:
            await page_counter_uncharge(ctx, memcg.memory, s.pages)
    s.charged_pages -= s.pages
    await percpu_ref_put_many(ctx, s.refcnt, s.pages)


@kernel_fn("memcg_uncharge_slab", "mm/slab.h", profiles="original")
async def memcg_uncharge_slab_original(ctx: Context, slab: Slab, s: KmemCache) -> None:
    """[O]: uncharge the memcg that the pages were charged to; this may be its last reference."""
    memcg = deref(slab.memcg, "memcg_uncharge_slab(): page->mem_cgroup")
    await page_counter_uncharge(ctx, memcg.memory, s.pages)
    slab.memcg = None
    s.charged_pages -= s.pages
    await css_put_many(ctx, memcg.css, s.pages)
