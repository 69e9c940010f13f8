"""Scenarios gone through by exact search, schedule by schedule; and what of a run two schedules of a class share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence

import attrs

from explorer.experiment import Experiment, RunOptions
from explorer.strategies.dpor import ASLEEP, Branch, Dpor, Node, Tried
from explorer.watch import CONTEXTS, Watch
from protocol.operations import COMMUTE, UPDATE
from scenarios.registry import MACHINE, RCU, Scenario
from scenarios.stage import Stage

Body = Callable[[Stage], None]
Order = frozenset[tuple[Hashable, tuple[frozenset[tuple[str, int]], ...]]]


def toy(body: Body, rcu: str = "eager") -> Experiment:
    """A scenario of a test's own, with the knobs of a machine."""
    options = RunOptions(scenario="toy", settings={"rcu": rcu})
    return Experiment.of(options, Scenario("toy", "a test's", (*MACHINE, RCU), body))


def play(experiment: Experiment, schedule: Branch) -> Stage:
    """Run the experiment once, by a branch of the search."""
    stage = experiment.set_stage(schedule)
    watch = stage.world.observer = Watch(stage.world, wants_accesses=True)
    schedule.watched_by(watch)
    stage.start()
    experiment.drive(stage.world)
    schedule.end_event()
    return stage


@attrs.define
class GoingThrough:
    """An exact search: `ended` once nothing is left, `search` counts what it took."""

    experiment: Experiment
    most: int = 20_000
    search: Dpor = attrs.field(factory=Dpor)
    ended: bool = False

    def runs(self) -> Iterator[Stage]:
        """Every run that comes to its end, until nothing is left or *most* are through."""
        while self.search.completed < self.most:
            schedule = self.search.next_schedule()
            if schedule is None:
                self.ended = True
                return
            stage = play(self.experiment, schedule)
            self.search.learn(schedule, stage.world)
            if stage.world.stopped != ASLEEP:
                yield stage


class Sample(Branch):
    """One schedule that *pick* chooses, step by step, noted as the search notes its own."""

    def __init__(self, pick: Callable[[Sequence[str]], str]) -> None:
        self.path: list[Node] = []
        super().__init__(self.path)
        self._pick = pick

    def _extend(self, enabled: tuple[str, ...], lanes: object) -> Node:  # noqa: ARG002 -- as in Branch
        node = Node(enabled, {}, Tried(self._pick(enabled)))
        self.path.append(node)
        return node


def order_of(path: Sequence[Node]) -> Order:
    """In which order different lanes accessed what: things by name, steps by lane and number.

    Left out is what makes no difference to anybody: which readers a grace period waits for, as long as nobody sees its
    end any sooner; and the delivery of a store that nobody looks at afterwards (at an actor that ends it gets lost).
    """
    numbers: Counter[str] = Counter()
    groups: defaultdict[Hashable, list[tuple[int, set[tuple[str, int]]]]] = defaultdict(list)
    for node in path:
        lane = node.event.lane
        numbers[lane] += 1
        for thing, mode in node.event.named.items():
            if thing in (CONTEXTS, f"lane {lane}") or (mode != UPDATE and is_of_grace_periods(str(thing))):
                continue
            before = groups[thing]
            if not before or before[-1][0] != mode or mode == UPDATE:
                before.append((mode, set()))
            before[-1][1].add((lane, numbers[lane]))
    for thing, steps in groups.items():
        if str(thing).startswith("view of ") and steps[-1][0] == COMMUTE:
            steps.pop()
    return frozenset(
        (thing, tuple(frozenset(group) for _, group in steps))
        for thing, steps in groups.items()
        if len({lane for _, group in steps for lane, _ in group}) > 1
    )


def is_of_grace_periods(thing: str) -> bool:
    """Whether it is the callbacks that a grace period hands on when its last reader leaves."""
    return thing.startswith(("done of rcu_data", "rcu_data", "softirqs of"))
