"""A violated invariant is reported once, at the step that violates it and not at a later one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from explorer.experiment import RunOptions
from explorer.session import run
from protocol.findings import Finding
from tests.helpers import each_driver_name, run_small

NOT_ON_ITS_LIST = """
from actors.linux.kernel.cgroup.cgroup import css_get
from actors.api import kernel_fn

@kernel_fn("memcg_link_cache", "mm/slab_common.c")
async def forget_the_list(ctx, s, memcg):
    await css_get(ctx, memcg.css)
    await ctx.ask(s.set_memcg, memcg)
    await ctx.ask(s.root.add_child, s)
"""

WORK_AND_CALLBACK = """
from actors.api import kernel_fn
from actors.linux.kernel.rcu.tree import call_rcu
from actors.linux.mm.slab_common import kmemcg_rcufn, queue_cache_work
from actors.linux.mm.slub import __kmem_cache_shrink

@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c")
async def both_at_once(ctx, s):
    await ctx.ask(s.set_work_fn, __kmem_cache_shrink)
    await queue_cache_work(ctx, s)
    await call_rcu(ctx, s.rcu_head, kmemcg_rcufn)
"""

ONE_PUT_TOO_MANY = """
from actors.linux.mm.memcontrol import memcg_kmem_put_cache
from actors.api import kernel_fn, unpatched
from actors.linux.lib.percpu_refcount import percpu_ref_put

@kernel_fn("memcg_kmem_put_cache", "mm/memcontrol.c")
async def put_twice(ctx, cachep):
    await unpatched(ctx, memcg_kmem_put_cache, cachep)
    if not cachep.is_root_cache:
        await percpu_ref_put(ctx, cachep.percpu_refcnt)
        await percpu_ref_put(ctx, cachep.percpu_refcnt)
"""


NO_MEMCG = """
from actors.api import kernel_fn, unpatched
from actors.linux.mm.slab_common import kmemcg_cache_deactivate

@kernel_fn("kmemcg_cache_deactivate", "mm/slab_common.c")
async def forget_the_memcg(ctx, s):
    await unpatched(ctx, kmemcg_cache_deactivate, s)
    await ctx.ask(s.set_memcg, None)
"""

FREED_TOO_EARLY = """
from actors.api import kernel_fn, unpatched
from actors.linux.kernel.rcu.tree import call_rcu
from actors.linux.mm.slab_common import kmemcg_rcufn
from actors.linux.mm.slab_common import slab_kmem_cache_release

@kernel_fn("slab_kmem_cache_release", "mm/slab_common.c")
async def leave_a_callback(ctx, s):
    await call_rcu(ctx, s.rcu_head, kmemcg_rcufn)
    await unpatched(ctx, slab_kmem_cache_release, s)
"""

NOT_ON_THE_LIST_OF_ALL = """
from actors.api import kernel_fn, unpatched
from actors.linux.mm.slab_common import memcg_link_cache

@kernel_fn("memcg_link_cache", "mm/slab_common.c")
async def off_again(ctx, s, memcg):
    await unpatched(ctx, memcg_link_cache, s, memcg)
    await ctx.ask(ctx.machine.slab_caches.delete, s)
"""


def violations(findings: Iterable[Finding], number: str) -> list[Finding]:
    return [finding for finding in findings if finding.kind == "invariant" and finding.name == number]


@each_driver_name
@pytest.mark.parametrize(
    ("patch", "number", "place"),
    [
        (NOT_ON_ITS_LIST, "I6", ("memcg_create_kmem_cache", "memcg_kmem_cache_create_func")),
        (WORK_AND_CALLBACK, "I8", ("call_rcu", "kmemcg_cache_deactivate")),
        (NO_MEMCG, "I5", ("kmemcg_cache_deactivate", "memcg_deactivate_kmem_caches")),
        (FREED_TOO_EARLY, "I7", ("slab_kmem_cache_release", "kobject_put")),
        (ONE_PUT_TOO_MANY, "I1", ("percpu_ref_put_many", "memcg_kmem_put_cache")),
    ],
    ids=["when slab_mutex is released", "by a callback", "by a store", "by a free", "on this CPU"],
)
def test_the_step_that_breaks_an_invariant_is_blamed(
    tmp_path: Path, driver: str, patch: str, number: str, place: tuple[str, str]
) -> None:
    path = tmp_path / "patch.py"
    path.write_text(patch)
    options = RunOptions(scenario="offline-vs-free", strategy="roundrobin", driver=driver, patches=(str(path),))
    findings = violations(run(options, log=None).findings, number)

    function, caller = place
    assert findings[0].function == function
    assert caller in findings[0].stack


@each_driver_name
def test_an_invariant_that_stays_violated_is_reported_once(driver: str) -> None:
    """In v7 a shutdown is lost: until its work runs, the cache violates the invariant at every access."""
    results = [run_small("offline-vs-free", "v7", seed=seed, driver=driver) for seed in range(8)]
    found = [violations(result.findings, "I8") for result in results]

    assert any(found)
    for findings in found:
        assert [(finding.function, finding.count) for finding in findings] in ([], [("kmemcg_workfn", 1)])


@pytest.mark.parametrize("allocator", ["slub", "slab"])
def test_a_slab_can_be_unlinked_from_another_cache_s_list(allocator: str) -> None:
    """The links are in struct page: the kernel does not notice that the list is another cache's, and goes on."""
    result = run_small("kmem-toggle", "5.4-fixed", allocator=allocator)

    assert [finding.kind for finding in result.findings if finding.is_fatal] == []
    assert any(finding.kind == "leak" for finding in result.findings)


def test_a_cache_is_on_all_lists_at_rest(tmp_path: Path) -> None:
    path = tmp_path / "patch.py"
    path.write_text(NOT_ON_THE_LIST_OF_ALL)
    options = RunOptions(scenario="allocate-and-block", driver="stepper", patches=(str(path),))

    assert violations(run(options, log=None).findings, "Q4")


@pytest.mark.parametrize(("kernel", "is_wrong"), [("v1", True), ("v2", False)])
def test_a_node_counts_the_pages_that_it_has(kernel: str, *, is_wrong: bool) -> None:
    """v1 does not report a failed charge: the page is not counted, but its uncharge is."""
    found = violations(run_small("kmem-limit", kernel, settings={}).findings, "Q6")

    assert bool(found) == is_wrong
