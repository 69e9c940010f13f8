"""What history found in the kernels after the series is found on 6.12 without the fix, and not with it.

docs/kernel/known-flaws-today.md has the list; the rows that are missing here are named in docs/limits.md.
"""

from __future__ import annotations

import attrs
import pytest

from actors.fixes_today import FIXES_TODAY
from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign

BUDGET = 2_000
"""The schedules within which a flaw must be found."""

MANY = "kmem_cache_destroy module: Slab cache still has objects when called from"


@attrs.frozen
class Row:
    """A flaw: its slug, the stage that shows it, and a part of the signature that must be found."""

    slug: str
    stage: str
    signature: str
    settings: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.slug

    def options(self, *, flawed: bool) -> RunOptions:
        """The search on 6.12, with the flaw or without."""
        has_fix = any(self.slug == each.slug and each.built_into for each in FIXES_TODAY)
        return RunOptions(
            scenario=self.stage,
            kernel="6.12",
            strategy="portfolio",
            driver="stepper",
            settings=self.settings,
            without=(self.slug,) if flawed and has_fix else (),
            patches=(self.slug,) if flawed and not has_fix else (),
        )

    def findings(self, budget: int, *, flawed: bool) -> list[str]:
        """The signatures that a search of *budget* schedules finds; it stops at the first."""
        options = self.options(flawed=flawed)
        campaign = Campaign(Experiment.of(options), options, budget=budget, first_only=True)
        campaign.run()
        return list(campaign.found)


LARGE = (("size", "4096"),)

ROWS = (
    Row("css-get-from-zero", "last-object-vs-rmdir", "refcount:Css", (*LARGE, ("removal", "before"))),
    Row("obj-stock-flush-required", "drain-vs-release", "null-deref:obj_stock_flush_required()"),
    Row("list-lru-add-without-rcu", "lru-of-module", "use-after-free:Memcg"),
    Row("kmemcg-id-late", "lru-of-module", "null-deref:list_lru_add()"),
    Row("update-without-loop", "attach-vs-update", "invariant:T20"),
    Row("put-under-stock-lock", "objcg-handover", "lockdep:memcg_stock.stock_lock"),
    Row(
        "root-vmstat-after-reparent",
        "last-object-vs-rmdir",
        "accounting:slab_unreclaimable of the root too high",
        (*LARGE, ("below", "root")),
    ),
    Row("bulk-free-uncharges-one", "bulk-allocation", "invariant:T6"),
    Row("no-kvfree-barrier", "destroy-vs-kfree-rcu", f"warn:{MANY}"),
    Row("barrier-without-monitor", "destroy-vs-kfree-rcu", f"warn:{MANY}"),
    Row("kobject-under-slab-mutex", "destroy-vs-shrink", "lockdep:cpu_hotplug_lock"),
)


LONG = ("list-lru-add-without-rcu", "kmemcg-id-late", "obj-stock-flush-required")
"""The rows whose search takes more than some seconds."""


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.slug, marks=[pytest.mark.slow] if row.slug in LONG else []) for row in ROWS]
)
def test_a_flaw_is_found(row: Row) -> None:
    assert any(row.signature in found for found in row.findings(BUDGET, flawed=True))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_it_is_not_found_with_the_fix(row: Row) -> None:
    assert row.findings(60, flawed=False) == []
