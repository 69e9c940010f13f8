"""What a step changes it says: all writes to the attributes of shared objects are held against what was declared.

Containers that an object owns are not watched, only its attributes; the commutation self-test has the rest.
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
"""What the actor system, or an observer, keeps on an object; `freed` is declared where it is set."""

NO_STATE = {
    ("KmemCache", "charged_pages"): "the ledger's own",
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
"""Writes without a declaration, and why nobody can tell."""


@attrs.define
class Writes:
    """What each step of a race has written without saying so, as class and attribute.

    What a lane has made itself is its own until another lane has accessed it.
    """

    lane: Lane | None = None
    written: list[tuple[Shared, str]] = attrs.field(factory=list)
    maker: dict[Shared, Lane] = attrs.field(factory=dict)
    undeclared: set[tuple[str, str]] = attrs.field(factory=set)

    def write(self, thing: Shared, name: str) -> None:
        """An attribute is set."""
        if self.lane is not None and name not in KEPT_BY_THE_SEAM:
            if name == "actor":  # the first that is set of a new object
                self.maker[thing] = self.lane
            self.written.append((thing, name))

    def end_step(self, watch: Watch) -> None:
        """The step is over: hold what it wrote against what it said."""
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
    """A watch that knows which lane steps, and tells what it accessed when the step is over."""

    def __init__(self, world: World, writes: Writes) -> None:
        super().__init__(world, wants_accesses=True)
        self.writes = writes

    def step(self, world: World, enabled: object, index: int, lane: Lane) -> None:
        """A step begins; the one before it is over."""
        super().step(world, enabled, index, lane)  # type: ignore[arg-type]  # as the watch's
        self.writes.lane = lane if self._watches else None

    def end_step(self) -> None:
        """The step is over."""
        super().end_step()
        if self.writes.lane is not None:
            self.writes.end_step(self)
            self.writes.lane = None


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    """Every attribute that is set on a shared object is seen."""
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
def test_no_step_changes_what_it_does_not_say(writes: Writes, name: str, kernel: str, allocator: str) -> None:
    audit(writes, name, kernel, allocator)

    assert writes.undeclared <= NO_STATE.keys()
