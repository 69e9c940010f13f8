"""The search finds flaws between two sections: v2 gets its cache reference after rcu_read_unlock() (inferred)."""

from __future__ import annotations

import pytest

from explorer.assertions import explored

GET = "use-after-free:PercpuRef:percpu_ref_get_many"
"""memcg_kmem_get_cache() of v2: the cache that was looked up may be freed before the get."""


@pytest.mark.slow
@pytest.mark.parametrize("patches", [(), ("work-fn-store-after-free",)], ids=["v2", "v2 without what ends most runs"])
@pytest.mark.parametrize("seed", [2, 3])
def test_the_plain_get_behind_a_read_section_is_found(patches: tuple[str, ...], seed: int) -> None:
    answer = explored(
        "late-allocation", kernel="v2", patches=patches, seed=seed, budget=2_000, expect=GET, must_reach=False
    )

    assert answer.schedules <= 2_000


@pytest.mark.slow
def test_v3_which_tries_to_get_it_inside_has_no_such_flaw() -> None:
    patches = ("work-fn-store-after-free", "rcu-lock-for-unlock")
    answer = explored("late-allocation", kernel="v4", patches=patches, budget=500, expect="", must_reach=False)

    assert GET not in {finding.signature for finding in answer.findings}
