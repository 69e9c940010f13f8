"""The stages that are gone through to the end: with what findings, and that nothing is left out.

That is held against samples: what strategies come to that know nothing of the search has to be of a class that the
search has been through. Minutes each.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from explorer.experiment import Experiment, RunOptions
from tests.search.stages import GoingThrough, Order, Sample, order_of, play

pytestmark = pytest.mark.slow

SAMPLES = 1_000
CHILD_NEVER_RELEASED = frozenset(
    {"leak:kmem_cache held by its kobject:", "property:eventually: no child cache is left:"}
)
NEVER_RELEASED = frozenset({"leak:kmem_cache held by its kobject:", "property:eventually: no cache is left:"})
"""A cache that was removed from sysfs twice (docs/findings.md, F5)."""

FREED_WHILE_ITS_COUNT_IS_SWITCHED = frozenset(
    {
        "invariant:I7:slab_kmem_cache_release",
        "use-after-free:KmemCache:kmemcg_cache_shutdown",
        "use-after-free:PercpuRef:percpu_ref_call_confirm_rcu",
        "use-after-free:PercpuRef:percpu_ref_exit",
        "use-after-free:PercpuRef:percpu_ref_put_many",
        "use-after-free:PercpuRef:percpu_ref_switch_to_atomic_rcu",
        "use-after-free:PercpuRef:rcu_do_batch",
        "warn:percpu_ref_exit: confirm_switch is set:percpu_ref_exit",
    }
)
"""All that comes of exit-during-atomic-switch (BUGS.md)."""


@pytest.mark.parametrize(
    ("name", "kernel", "expected"),
    [
        ("offline-vs-free", "5.4-fixed", CHILD_NEVER_RELEASED),
        ("offline-vs-destroy", "5.4-fixed", NEVER_RELEASED),
        ("offline-vs-destroy", "5.3", NEVER_RELEASED | FREED_WHILE_ITS_COUNT_IS_SWITCHED),
    ],
)
def test_a_stage_is_gone_through_and_no_sample_is_new(name: str, kernel: str, expected: frozenset[str]) -> None:
    experiment = Experiment.of(RunOptions(scenario=name, kernel=kernel))
    search = GoingThrough(experiment)
    classes: set[Order] = set()
    found: set[str] = set()
    for stage in search.runs():
        classes.add(order_of(search.search.path))
        found.update(stage.world.findings)

    assert search.ended
    assert found == expected

    for number in range(SAMPLES):
        draw = random.Random(number)
        sample = Sample(draw.choice if number % 2 else priorities(draw))
        stage = play(experiment, sample)
        if stage.world.stopped != "finding":  # otherwise others had not come to their end
            assert order_of(sample.path) in classes, number
        assert found >= set(stage.world.findings), number


def priorities(draw: random.Random) -> Callable[[Sequence[str]], str]:
    """The lane of the highest priority, which falls below the others now and then."""
    ranks: dict[str, float] = {}

    def pick(enabled: Sequence[str]) -> str:
        for lane in enabled:
            ranks.setdefault(lane, draw.random())
        best = max(enabled, key=lambda lane: ranks[lane])
        if draw.random() < 0.05:
            ranks[best] = min(ranks.values()) - draw.random()
        return max(enabled, key=lambda lane: ranks[lane])

    return pick
