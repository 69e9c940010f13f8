"""Scenarios gone through by exact search, schedule by schedule; and what of a run two schedules of a class share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator

import attrs

from actors.system.lane import Lane
from actors.system.strategy import Strategy
from explorer.accesses import CONTEXTS, name_of
from explorer.experiment import Experiment, RunOptions
from explorer.profile import seed_of
from explorer.search.jobs import Report
from explorer.search.registry import make_strategy
from explorer.search.strategies.dpor import ASLEEP, Branch, Dpor, Node, Tried
from explorer.watch import Watch
from protocol.operations import COMMUTE, UPDATE, Access
from scenarios.registry import MACHINE, RCU, Scenario
from scenarios.stage import Stage

Body = Callable[[Stage], None]
Step = tuple[str, int]
"""The lane, and which of its steps."""

Order = frozenset[tuple[str, Step, tuple[frozenset[Step], ...]]]


def toy(body: Body, rcu: str = "eager") -> Experiment:
    """A scenario of a test's own, with the knobs of a machine."""
    options = RunOptions(scenario="toy", settings={"rcu": rcu})
    return Experiment.of(options, Scenario("toy", "a test's", (*MACHINE, RCU), body))


def play(experiment: Experiment, schedule: Branch) -> Stage:
    """Run the experiment once, by a branch of the search."""
    stage = experiment.set_stage(schedule)
    watch = Watch(stage.world, wants_accesses=True)
    stage.world.observers = (watch,)
    schedule.watched_by(watch)
    stage.start()
    experiment.drive(stage.world)
    schedule.end(stage.world)
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
        for _, stage in self.schedules():
            yield stage

    def schedules(self) -> Iterator[tuple[Branch, Stage]]:
        """The same, each with its schedule."""
        while self.search.completed < self.most:
            schedule = self.search.next_schedule()
            if schedule is None:
                self.ended = True
                return
            stage = play(self.experiment, schedule)
            self.search.learn(schedule, Report())
            if stage.world.stopped != ASLEEP:
                yield schedule, stage


class Sample(Branch):
    """One schedule that a sampling strategy chooses, noted as the search notes its own; time passes with its steps."""

    def __init__(self, strategy: Strategy) -> None:
        super().__init__([])
        self.controls_clock = strategy.controls_clock
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
        for schedule, stage in search.schedules():
            gone.orders.add(order_of(schedule))
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
        is_new = stage.world.stopped != "finding" and order_of(sample) not in self.orders
        return f"{strategy} {number}: another class" if is_new else ""


def order_of(run: Branch) -> Order:
    """In which order different lanes accessed what: things by name and first step, steps by lane and number.

    Left out is what makes no difference to anybody: which readers a grace period waits for, as long as nobody sees its
    end any sooner; and the delivery of a store that nobody looks at afterwards (at an actor that ends it gets lost).
    """
    names: dict[Hashable, str] = {number: name_of(thing, in_full=True) for thing, number in run.numbers.items()}
    numbers: Counter[str] = Counter()
    groups: defaultdict[Hashable, list[tuple[Access, set[Step]]]] = defaultdict(list)
    for node in run.path:
        lane = node.event.lane
        numbers[lane] += 1
        for thing, mode in node.event.accesses.items():
            name = names[thing]
            if name in (CONTEXTS, f"lane {lane}") or (mode != UPDATE and is_of_grace_periods(name)):
                continue
            before = groups[thing]
            if not before or before[-1][0] != mode or mode == UPDATE:
                before.append((mode, set()))
            before[-1][1].add((lane, numbers[lane]))
    for thing, steps in groups.items():
        if names[thing].startswith("view of ") and steps[-1][0] == COMMUTE:
            steps.pop()
    return frozenset(
        (names[thing], min(steps[0][1]), tuple(frozenset(group) for _, group in steps))
        for thing, steps in groups.items()
        if len({lane for _, group in steps for lane, _ in group}) > 1
    )


def is_of_grace_periods(thing: str) -> bool:
    """Whether it is the callbacks that a grace period hands on when its last reader leaves."""
    return thing.startswith(("done of rcu_data", "rcu_data", "softirqs of"))
