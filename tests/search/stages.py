"""Scenarios gone through by exact search, schedule by schedule; and what of a run two schedules of a class share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence

import attrs

from actors.system.lane import Lane
from actors.system.strategy import Strategy
from explorer.experiment import Experiment, RunOptions
from explorer.strategies import make_strategy, seed_of
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
    """One schedule that a sampling strategy chooses, noted as the search notes its own; time passes with its steps."""

    def __init__(self, strategy: Strategy) -> None:
        self.path: list[Node] = []
        super().__init__(self.path)
        self.keeps_time = strategy.keeps_time
        self._strategy = strategy

    def _extend(self, enabled: tuple[str, ...], lanes: tuple[Lane, ...]) -> Node:
        node = Node(enabled, {}, Tried(enabled[self._strategy.choose(lanes)]))
        self.path.append(node)
        return node

    def choose_value(self, count: int) -> int:
        """As the strategy does."""
        return self._strategy.choose_value(count)

    def choose_fault(self, probability: float) -> bool:
        """As the strategy does."""
        return self._strategy.choose_fault(probability)


@attrs.define
class Gone:
    """What an exact search has been through: the orders of all its classes, and the signatures of all findings."""

    orders: set[Order] = attrs.field(factory=set)
    found: set[str] = attrs.field(factory=set)
    ended: bool = False

    @classmethod
    def through(cls, experiment: Experiment, *, most: int = 20_000) -> Gone:
        """Search to the end, or for *most* schedules."""
        search, gone = GoingThrough(experiment, most), cls()
        for stage in search.runs():
            gone.orders.add(order_of(search.search.path))
            gone.found.update(stage.world.findings)
        gone.ended = search.ended
        return gone

    def missed(self, experiment: Experiment, strategy: str, number: int) -> str:
        """What schedule *number* of a sampler shows that the search has not; empty if nothing.

        A schedule that ends with a fatal finding is of no class: others had not come to their end.
        """
        sample = Sample(make_strategy(strategy, seed_of(0, number)))
        stage = play(experiment, sample)
        others = set(stage.world.findings) - self.found
        if others:
            return f"{strategy} {number}: found {', '.join(sorted(others))}"
        is_new = stage.world.stopped != "finding" and order_of(sample.path) not in self.orders
        return f"{strategy} {number}: another class" if is_new else ""


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
