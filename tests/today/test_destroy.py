"""The destruction of caches on 6.12: each mistake of history is found, and without it nothing is found.

The patches in tests/data/today take a fix out of 6.12 again.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from explorer.assertions import explored
from scenarios.destroy_vs_kfree_rcu import destroy_vs_kfree_rcu, destroy_vs_shrink
from scenarios.registry import Scenario

PATCHES = Path(__file__).parents[1] / "data" / "today"
BUDGET, FREE = 300, 60

ROWS = ((destroy_vs_shrink, "double_release_typesafe", "use-after-free:KmemCache:kmem_cache_destroy"),)


@pytest.mark.parametrize(("stage", "patch", "signature"), ROWS, ids=[patch for _, patch, _ in ROWS])
def test_a_mistake_is_found(stage: Scenario, patch: str, signature: str) -> None:
    explored(stage, kernel="6.12", budget=BUDGET, patches=[PATCHES / f"{patch}.py"], expect=signature, must_reach=False)


@pytest.mark.parametrize("stage", [destroy_vs_kfree_rcu, destroy_vs_shrink], ids=lambda stage: stage.name)
def test_nothing_is_found_without_it(stage: Scenario) -> None:
    explored(stage, kernel="6.12", budget=FREE, strategy="random")


def test_flags_that_are_read_under_the_mutex_mend_the_double_release() -> None:
    """6.1 has another flaw, which this stage shows: a shrink may free slabs after the rcu_barrier() of the work."""
    patches = [PATCHES / "double_release_typesafe_mended.py"]
    findings = explored(
        destroy_vs_shrink, kernel="6.12", budget=BUDGET, patches=patches, expect="use-after-free:KmemCache:__free_slab"
    ).findings

    assert not [each.signature for each in findings if "kmem_cache_destroy" in each.signature]
