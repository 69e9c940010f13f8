"""The smallest stages of today's kernels, to the end: every trace class is run, and a flaw shows in some of them."""

from __future__ import annotations

import attrs
import pytest

from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign
from tests.search.stages import GoingThrough

BUDGET = 60_000
"""More schedules than any of these searches needs."""


@attrs.frozen
class Exact:
    """A stage that dpor exhausts, and the fix without which it finds *signature*."""

    name: str
    settings: tuple[tuple[str, str], ...]
    kernel: str
    fix: str
    signature: str

    def search(self, *without: str) -> Campaign:
        """All schedules, *without* these fixes."""
        options = RunOptions(
            scenario=self.name, kernel=self.kernel, strategy="dpor", settings=self.settings, without=without
        )
        campaign = Campaign(Experiment.of(options), options, budget=BUDGET)
        campaign.run()
        return campaign


EAGER = ("rcu", "eager")
LAST_OBJECT = (("objects", "2"), ("size", "4096"), ("below", "root"), ("removal", "before"), ("until", "moved"), EAGER)
ROOT = ("root-vmstat-after-reparent", "accounting:slab_unreclaimable of the root too high")
ONE_PAGE = (("pages", "1"), ("removal", "before"), EAGER)
BARE = (("sides", "bare"), EAGER)
READ_TWICE = ("obj-stock-flush-required", "null-deref:obj_stock_flush_required()")

STAGES = [
    pytest.param(Exact("last-object-vs-rmdir", LAST_OBJECT, "6.12", *ROOT), id="last object on 6.12"),
    pytest.param(Exact("last-object-vs-rmdir", LAST_OBJECT, "7.2", *ROOT), id="last object on 7.2"),
    pytest.param(
        Exact("isolate-vs-reparent", ONE_PAGE, "7.2", "lruvec-no-recheck", "invariant:T10"),
        id="isolated page on 7.2",
        marks=pytest.mark.slow,
    ),
    pytest.param(Exact("drain-vs-release", BARE, "6.12", *READ_TWICE), id="drain on 6.12", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_found_in_any_class(stage: Exact) -> None:
    campaign = stage.search()
    assert (campaign.stopped, list(campaign.found)) == ("exhausted", [])


@pytest.mark.parametrize("stage", STAGES)
def test_without_the_fix_some_classes_show_the_flaw(stage: Exact) -> None:
    campaign = stage.search(stage.fix)
    assert campaign.stopped == "exhausted"
    assert any(stage.signature in signature for signature in campaign.found)


def test_until_moved_keeps_the_rest_of_a_removal_out_of_the_race() -> None:
    whole = tuple(pair for pair in LAST_OBJECT if pair[0] != "until")
    assert steps_of_race(LAST_OBJECT) < steps_of_race(whole) / 2


def steps_of_race(settings: tuple[tuple[str, str], ...]) -> int:
    """The steps of the race in the first schedule on 7.2."""
    options = RunOptions(scenario="last-object-vs-rmdir", kernel="7.2", settings=settings)
    schedule, _ = next(GoingThrough(Experiment.of(options), 1).schedules())
    return len(schedule.path)
