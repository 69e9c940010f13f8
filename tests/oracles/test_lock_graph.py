"""The lock graph knows without a search whether a class that interrupt handlers take leads to one held with them on."""

from __future__ import annotations

import random

import pytest

from actors.linux.kernel.locking.lockdep import IRQS, LockGraph

NAMES = "abcdefg"
BITS = [bit for _, *bits in IRQS for bit in bits]


def reachable(graph: LockGraph, name: str) -> set[str]:
    """The class *name* and all classes after it."""
    found, rest = {name}, [name]
    while rest:
        new = set(graph.after.get(rest.pop(), ())) - found
        found |= new
        rest += new
    return found


def is_inverted(graph: LockGraph) -> bool:
    """The same by its definition."""
    return any(
        taken_in in bits and any(taken_on in graph.usage.get(after, ()) for after in reachable(graph, name))
        for _, taken_in, taken_on in IRQS
        for name, bits in graph.usage.items()
    )


@pytest.mark.parametrize("seed", range(60))
def test_an_inversion_is_noticed_at_the_record_that_completes_it(seed: int) -> None:
    rng = random.Random(seed)
    graph = LockGraph()
    for _ in range(40):
        if rng.random() < 0.7:
            graph.learn_order(rng.choice(NAMES), rng.choice(NAMES), "f()")
        elif rng.random() < 0.5:
            graph.learn_usage(rng.choice(NAMES), rng.sample(BITS, rng.randrange(1, 3)), "f()")
        assert graph.is_inverted == is_inverted(graph)
        assert bool(list(graph.inversions())) == graph.is_inverted


def test_both_answers_occur() -> None:
    graph = LockGraph()
    graph.learn_usage("a", ["in-softirq"], "f()")
    graph.learn_usage("b", ["softirq-on"], "f()")
    assert not graph.is_inverted
    graph.learn_order("a", "b", "f()")
    assert graph.is_inverted
