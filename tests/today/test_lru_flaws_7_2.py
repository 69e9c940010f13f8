"""The flaws of 7.2's LRU lists, and of a memcg that cannot go online: found without the fix, and not with it."""

from __future__ import annotations

import attrs
import pytest

from actors.fixes import FIXES
from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign

KERNEL, BUDGET = "7.2", 2_000


@attrs.frozen
class Row:
    """A flaw: its slug, the stage that shows it, and the signature that must be found."""

    slug: str
    stage: str
    signature: str
    settings: tuple[tuple[str, str], ...] = ()
    faults: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        return self.slug

    def findings(self, budget: int, *, flawed: bool) -> list[str]:
        """The signatures that a search of *budget* schedules finds; with the flaw it stops at the wanted one."""
        has_fix = KERNEL in FIXES[self.slug].built_into
        options = RunOptions(
            scenario=self.stage,
            kernel=KERNEL,
            strategy="portfolio",
            driver="stepper",
            settings=self.settings,
            faults=self.faults,
            without=(self.slug,) if flawed and has_fix else (),
            patches=(self.slug,) if flawed and not has_fix else (),
        )
        campaign = Campaign(Experiment.of(options), options, budget=budget, first_only=flawed and not self.faults)
        campaign.run()
        return list(campaign.found)


ROWS = (
    Row("list-lru-slot-first", "lru-moves-up", "lockdep:&l->lock is not held:list_lru_del"),
    Row("shrinker-bit-of-dying", "lru-moves-up", "invariant:Q8-shrinker-bit", (("takes", "0"),)),
    Row("child-list-not-dead", "lru-moves-up", "lockdep:&l->lock is not held:list_lru_del"),
    Row("lists-for-dying", "lru-moves-up", "invariant:U4", (("puts", "0"), ("takes", "0"), ("late", "1"))),
    Row("online-error-leaks-objcg", "mkdir-fails", "invariant:U5", (("nodes", "2"),), (("percpu", 0.3),)),
)
RARE = Row("list-lru-add-without-rcu", "lru-moves-up", "use-after-free:Memcg", (("takes", "0"),))


@pytest.mark.parametrize("row", [*ROWS, pytest.param(RARE, marks=pytest.mark.slow)], ids=str)
def test_a_flaw_is_found(row: Row) -> None:
    budget = 40 if row.faults else BUDGET
    assert any(row.signature in found for found in row.findings(budget, flawed=True))


@pytest.mark.parametrize("row", [*ROWS, RARE], ids=str)
def test_it_is_not_found_with_the_fix(row: Row) -> None:
    assert not any(row.signature in found for found in row.findings(60, flawed=False))


@pytest.mark.slow
def test_an_id_that_is_given_again_leads_an_add_to_the_new_memcg_s_list() -> None:
    """A flaw of 7.2 as it is: removal keeps the kmemcg_id, which is free without a grace period."""
    for kernel, expected in (("6.12", False), (KERNEL, True)):
        options = RunOptions(scenario="lru-of-reused-id", kernel=kernel, strategy="portfolio", driver="stepper")
        campaign = Campaign(Experiment.of(options), options, budget=BUDGET, first_only=True)
        campaign.run()
        assert any("invariant:LRU list" in found for found in campaign.found) == expected
