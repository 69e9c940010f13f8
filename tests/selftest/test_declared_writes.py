"""A step declares its changes: all writes to attributes of shared objects are compared with the declared accesses.

Only attributes are watched, not the containers that an object owns; the commutation self-test covers these.
"""

from __future__ import annotations

import attrs
import pytest

from actors.system.actor import Shared
from actors.system.cpu import Cpu
from actors.system.lane import Lane
from actors.system.world import World
from explorer.experiment import Experiment, RunOptions
from explorer.selftest import StandingWalk
from explorer.watch import Watch
from protocol.operations import READ
from tests.helpers import each_scenario, small_settings

KEPT_BY_THE_SEAM = {"trace", "waiters", "number", "freed"}
"""Attributes that belong to the actor system or an observer; `freed` is declared where it is set."""

NO_STATE = {
    ("KmemCache", "charged_pages"): "the ledger's own",
    ("KmemCache", "inflight"): "the ledger's own",
    ("KmemCache", "object_size"): "of a cache that gets an alias: slab_mutex is held, also by all that read it",
    ("PercpuRef", "own_refs"): "the ledger's own",
    ("Slab", "live"): "the ledger's own: which objects are in use",
    ("Slab", "readers_gone"): "the ledger's own: when the slab may go",
    ("Slab", "slab_list"): "which list a slab is on belongs to the list, whose operation changes it",
    ("Slab", "freelist"): "SLAB: belongs to the node, whose operation changes it; SLUB: of a slab that is new",
    ("Slab", "inuse"): "as the free list",
    ("Slab", "frozen"): "of a slab that is new",
    ("Slab", "pobjects"): "read by the CPU alone on whose list the slab is",
    ("SlabNode", "next_reap"): "slab_mutex is held",
    ("ArrayCache", "entries"): "of a node's shared array: list_lock is held",
    ("Dentry", "is_hashed"): "belongs to the superblock, whose operation changes it",
    ("EagerRcu", "completed"): "a figure",
    ("EagerRcu", "started"): "a figure",
    ("Rcu", "completed"): "a figure",
    ("Rcu", "started"): "a figure",
    ("Work", "queued_by"): "for reports alone",
}
"""Writes without a declaration, each with the reason why no flow can observe it."""


@attrs.define
class Writes:
    """The undeclared writes of all steps of a race, as class and attribute.

    An object belongs to the lane that made it until another lane has accessed it.
    """

    lane: Lane | None = None
    written: list[tuple[Shared, str]] = attrs.field(factory=list)
    maker: dict[Shared, Lane] = attrs.field(factory=dict)
    undeclared: set[tuple[str, str]] = attrs.field(factory=set)

    def write(self, thing: Shared, name: str) -> None:
        """Record that an attribute is set."""
        if self.lane is not None and name not in KEPT_BY_THE_SEAM:
            if name == "actor":  # the first attribute of a new object
                self.maker[thing] = self.lane
            self.written.append((thing, name))

    def end_step(self, watch: Watch) -> None:
        """Compare the writes of the step that has ended with its declared accesses."""
        changed = set()
        for accessed, mode in watch.accesses.items():
            thing = accessed[0] if isinstance(accessed, tuple) else accessed  # of a part, the object
            if isinstance(thing, Shared) and self.maker.get(thing) is not self.lane:
                self.maker.pop(thing, None)
            if mode != READ:
                changed.add(thing)
        for thing, name in self.written:
            if not (thing in changed or thing in self.maker or isinstance(thing, Cpu)):
                self.undeclared.add((type(thing).__name__, name))
        self.written.clear()


class Auditing(Watch):
    """A watch that records the stepping lane, and passes its accesses on at the end of the step."""

    def __init__(self, world: World, writes: Writes) -> None:
        super().__init__(world, wants_accesses=True)
        self.writes = writes

    def step(self, world: World, enabled: object, index: int, lane: Lane) -> None:
        """Begin a step, which ends the previous one."""
        self.end_step()
        super().step(world, enabled, index, lane)  # type: ignore[arg-type]  # as the watch's
        self.writes.lane = lane if self._watches else None

    def end_step(self) -> None:
        """End the step."""
        super().end_step()
        if self.writes.lane is not None:
            self.writes.end_step(self)
            self.writes.lane = None


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    """Record every attribute that is set on a shared object."""
    seen = Writes()

    def set_attribute(thing: Shared, name: str, value: object) -> None:
        seen.write(thing, name)
        object.__setattr__(thing, name, value)

    monkeypatch.setattr(Shared, "__setattr__", set_attribute)
    return seen


def audit(writes: Writes, name: str, kernel: str, allocator: str) -> None:
    """Run a scenario once."""
    options = RunOptions(
        scenario=name, kernel=kernel, driver="stepper", settings={**small_settings(name), "allocator": allocator}
    )
    experiment = Experiment.of(options)
    stage = experiment.set_stage(StandingWalk(1))
    watch = Auditing(stage.world, writes)
    stage.world.observers = (watch,)
    stage.start()
    experiment.drive(stage.world)
    watch.end_step()


@each_scenario
@pytest.mark.parametrize(("kernel", "allocator"), [("v1", "slub"), ("5.3", "slub"), ("5.4-fixed", "slab")])
def test_no_step_makes_an_undeclared_write(writes: Writes, name: str, kernel: str, allocator: str) -> None:
    audit(writes, name, kernel, allocator)

    assert writes.undeclared <= NO_STATE.keys()
