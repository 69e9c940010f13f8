"""The stated causes: a missing wait, a leaked reference, an injected fault; and the order of the pairs."""

from __future__ import annotations

import re

import pytest

from explorer.experiment import Experiment, RunOptions
from explorer.explain import Explanation, explain_schedule
from explorer.explain.pairs import Nearness
from explorer.explain.swaps import Way
from explorer.search.campaign import Campaign


def explained(scenario: str, kernel: str, pattern: str, *, faults: dict[str, float] | None = None) -> Explanation:
    """The explanation of the first schedule of a search with a finding that matches *pattern*."""

    def look(campaign: Campaign) -> None:
        if any(re.match(pattern, signature) for signature in campaign.found):
            campaign.stopped = campaign.stopped or "first"

    options = RunOptions(
        scenario=scenario, kernel=kernel, strategy="portfolio", driver="stepper", faults=dict(faults or {})
    )
    campaign = Campaign(Experiment.of(options), options, budget=1_000, progress=look)
    campaign.run()
    signature = next(signature for signature in campaign.found if re.match(pattern, signature))
    return explain_schedule(campaign.experiment, campaign.found[signature].schedule, signature)


@pytest.fixture(scope="module")
def too_early() -> Explanation:
    """The flaw of a264df74df38: destroying the root does not wait for a count that is still being switched."""
    return explained("destroy-vs-offline", "5.3", "warn:percpu_ref_exit")


def test_the_wait_that_came_too_early_is_the_first_conflict(too_early: Explanation) -> None:
    conflict, steps = too_early.conflict, too_early.trace.steps

    assert conflict is not None
    assert conflict.nearness is Nearness.WAIT
    assert conflict.way is Way.HELD
    first, second = steps[conflict.first], steps[conflict.second]
    assert (first.lane, first.function) == ("rmmod", "rcu_barrier")
    assert (second.lane.split("/")[0], second.function) == ("kworker", "call_rcu")
    assert "__percpu_ref_switch_to_atomic" in too_early.details[conflict.second].stack


def test_the_missing_wait_is_said_in_words(too_early: Explanation) -> None:
    (said,) = too_early.cause

    assert re.fullmatch(
        r"nothing waits for call_rcu at step \d+ \(kworker/\d:\d in __percpu_ref_switch_to_atomic\(\)\); "
        r"rcu_barrier\(\) of rmmod looked at step \d+, before that",
        said,
    )


def test_each_conflict_is_nearer_than_the_next(too_early: Explanation) -> None:
    found = too_early.conflicts.found

    assert 1 < len(found) <= 3
    assert all(conflict.nearness is not Nearness.MACHINE for conflict in found)
    assert len({(conflict.first, conflict.second) for conflict in found}) == len(found)


def test_a_use_after_free_says_who_is_not_waited_for(explanation: Explanation) -> None:
    (said,) = explanation.cause

    assert re.fullmatch(
        r"free at step \d+ \(freer in box_free\(\)\) is not ordered with use at step \d+ \(user in box_use\(\)\): "
        r"nothing waits for user, which is in user\(\) since step \d+",
        said,
    )


def test_a_use_behind_the_free_in_one_flow_is_said_to_be_wrong_in_every_order() -> None:
    found = explained("rmdir-empty", "v1", "use-after-free")

    assert any("happens before use at step" in line for line in found.cause)


@pytest.mark.slow
def test_a_leak_says_what_was_taken_and_which_fault_was_injected() -> None:
    found = explained("create-vs-offline", "5.3", "leak:css", faults={"work": 0.5})
    text = "\n".join(found.cause)

    assert "refcnt of css of job: references that are left: 1" in text
    assert "in memcg_schedule_kmem_cache_create())" in text
    assert "injected: the fault 'work' at step" in text


@pytest.mark.slow
def test_a_leaked_kobject_is_the_reference_that_the_second_announcement_took() -> None:
    found = explained("destroy-vs-offline", "5.3", "leak:kmem_cache held by its kobject")
    (line,) = (line for line in found.cause if "never dropped" in line)

    assert re.fullmatch(r"  taken and never dropped, it seems: step \d+ \(rmmod in sysfs_slab_remove\(\)\)", line)
