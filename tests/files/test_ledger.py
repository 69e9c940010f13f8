"""Shadow accounting at any step, over random scenarios, machines and schedules; `books` has the equations."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.files.crash_reader import look
from actors.linux.mm.kmem_cache import KmemCache
from actors.system.flow import Flow
from actors.versions.kernel_fn import Body
from actors.versions.patching import Patch
from protocol.formats.slabinfo import parse_kmem_slabinfo
from protocol.records import PatchRecord
from scenarios import SCENARIOS
from scenarios.stage import Stage
from tests.files.books import Books
from tests.files.helpers import FEW_CACHES, Stand, play

NOT_ACCOUNTED = {
    "kmem-toggle",  # kmem accounting is off at times, and allocations in that time are not charged
    "charge-vs-charge",  # the set-up takes a reference to a memcg for another task
    "charge-vs-drain",  # as charge-vs-charge
    "mkdir-fails",  # a css whose creation failed holds its parent until it is freed, but is in no list
    "creation-fails",  # v3 to 5.3 lose references there (F8)
    "canary",  # loses updates on purpose
}
KERNELS = ("original", "v2", "v3", "v4", "v5", "v6", "v7", "5.3", "5.4-fixed")
"""Without v1, which uncharges pages that it has not charged (KERNEL-v1-v3 2.4)."""

machines = st.fixed_dictionaries(
    {
        "allocator": st.sampled_from(["slub", "slab"]),
        "cgroup": st.sampled_from(["v1", "v2"]),
        "cpus": st.integers(1, 3),
        "nodes": st.integers(1, 2),
        "memory": st.sampled_from(["plenty", "short"]),
    }
)
scenarios = st.sampled_from([scenario.name for scenario in SCENARIOS if scenario.name not in NOT_ACCOUNTED])


@attrs.define(repr=False)
class Watch:
    """Does the shadow accounting of a run, and now and then compares the text of /proc/slabinfo with it.

    `reparented` counts the steps in which a cache got another memcg: such a step must not change the number of objects
    (Q9).
    """

    look_every: int = 7
    books: Books | None = None
    owners: dict[KmemCache, Any] = attrs.field(factory=dict)
    reparented: int = 0
    looks: int = 0

    @property
    def differences(self) -> list[str]:
        """The violated equations."""
        assert self.books is not None
        return self.books.differences

    def check(self, stage: Stage, flow: Flow) -> None:
        """Check everything after a step of *flow*."""
        if stage.world.stopped == "finding":
            return
        if self.books is None:
            self.books = Books(stage)
        before = dict(self.books.last)
        self.books.check(flow)
        if self.books.is_closed:
            return
        self._check_reparenting(stage, before)
        if stage.world.steps % self.look_every == 0:
            self._check_text(stage)

    def _check_reparenting(self, stage: Stage, before: dict[Any, int]) -> None:
        owners = {cache: cache.memcg for cache in stage.machine.child_caches if cache.memcg is not None}
        moved = [cache for cache, memcg in owners.items() if self.owners.get(cache, memcg) is not memcg]
        self.owners = owners
        if moved:
            self.reparented += 1
            now = self.books.last if self.books is not None else {}
            for kind in ("slabs", "objects", "refcnt"):
                assert all(before.get((kind, cache)) == now.get((kind, cache)) for cache in moved)

    def _check_text(self, stage: Stage) -> None:
        """Each row of slabinfo is the sum over its caches, plus the amounts in hand; live objects count as active."""
        assert self.books is not None
        self.looks += 1
        machine = stage.machine
        for row in parse_kmem_slabinfo(look(machine, "slabinfo").decode(), source="slabinfo"):
            root, *others = (cache for cache in machine.slab_root_caches.caches if cache.name == row.name)
            if others:
                continue  # one of them is being destroyed, and the text does not tell them apart
            caches = [root, *root.children]
            slabs = [slab for cache in caches for slab in cache.slabs if not slab.rcu_head.queued]
            in_hand = {
                kind: sum(hand[kind, cache] for hand in self.books.in_hand.values() for cache in caches)
                for kind in ("slabs", "objects")
            }
            assert row.num_slabs == len(slabs) + in_hand["slabs"]
            assert row.num_objs == sum(slab.objects for slab in slabs) + in_hand["objects"]
            assert sum(cache.live_objects for cache in caches) <= row.active_objs <= row.num_objs
            assert row.active_slabs <= row.num_slabs


def keep(name: str, kernel: str, seed: int, machine: dict[str, object], *patches: Patch) -> tuple[Stand, Watch]:
    """Run a scenario to its end, or to its first fatal finding, with a `Watch`."""
    watch = Watch()
    stand = play(name, kernel, seed=seed, settings=machine, check=watch.check, caches=FEW_CACHES, patches=patches)
    return stand, watch


def check_books(name: str, kernel: str, seed: int, machine: dict[str, object]) -> None:
    """Check that all equations held after every step of a run."""
    _, watch = keep(name, kernel, seed, machine)

    assert watch.differences == []


@settings(max_examples=30)
@given(scenarios, st.sampled_from(KERNELS), st.integers(0, 10**6), machines)
@example("readers-vs-rmdir", "5.3", 1, {"allocator": "slub", "cgroup": "v1"})
@example("readers-vs-rmdir", "original", 1, {"allocator": "slab", "cgroup": "v1", "nodes": 2})
@example("nested", "5.4-fixed", 1, {"allocator": "slub", "cgroup": "v2", "cpus": 3})
@example("mount-vs-reclaim", "original", 0, {"cpus": 1, "nodes": 2})  # a node without a CPU
@example("reclaim-below-limit", "original", 0, {"cpus": 1})  # a task of the scenario has pages in hand
def test_everything_adds_up_at_any_step(name: str, kernel: str, seed: int, machine: dict[str, object]) -> None:
    check_books(name, kernel, seed, machine)


@pytest.mark.slow
@settings(max_examples=200)
@given(scenarios, st.sampled_from(KERNELS), st.integers(0, 10**6), machines)
def test_everything_adds_up_at_any_step_of_many_runs(
    name: str, kernel: str, seed: int, machine: dict[str, object]
) -> None:
    check_books(name, kernel, seed, machine)


@pytest.mark.parametrize("kernel", ["5.3", "5.4-fixed", "v7"])
def test_reparenting_moves_no_object(kernel: str) -> None:
    """Q9. The property is not vacuous: caches with objects in use were reparented."""
    _, watch = keep("nested", kernel, 0, {})

    assert watch.reparented >= 2
    assert watch.looks > 20


def test_no_flow_has_an_amount_in_hand_at_quiescence() -> None:
    """At quiescence no amount is in hand: K = B."""
    _, watch = keep("rmdir-under-load", "5.3", 3, {})

    assert watch.books is not None
    assert not any(value for hand in watch.books.in_hand.values() for value in hand.values())
    assert not any(watch.books.last.values())
    assert {kind for kind, _ in watch.books.last} >= {"pages", "node", "slabs", "objects", "memory", "css"}


# -- the accounting notices losses ------------------------------------------------------------------------------------


async def lose(*_arguments: Any, **_options: Any) -> bool:
    """Do nothing, and return success."""
    return True


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        ("memcg_kmem_uncharge_memcg", {"memory", "kmem"}),
        ("memcg_kmem_charge_memcg", {"memory", "kmem", "css"}),
        ("percpu_ref_put_many", {"refcnt", "css"}),
        ("css_get_many", {"css"}),
        ("mod_lruvec_state", {"node"}),
        ("__free_pages", {"pages"}),
        ("drain_stock", {"memory", "css"}),
    ],
)
def test_a_kernel_that_loses_something_is_noticed(function: str, kinds: set[str]) -> None:
    """Each function is replaced by one that does nothing; an equation of the expected kind is violated first."""
    patch = Patch(PatchRecord("lose"), {function: Body(lose, function, "lost", KERNELS)})
    _, watch = keep("kmem-limit", "5.3", 1, {"cgroup": "v1"}, patch)

    assert watch.differences, "nobody noticed"
    assert watch.differences[0].split(": ")[2].split(" of ")[0] in kinds
