"""Scenarios under exhaustive search, schedule by schedule; and the order that all schedules of a trace class share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator

import attrs

from actors.system.lane import Lane
from actors.system.strategy import Strategy
from explorer.accesses import CONTEXTS, name_of
from explorer.experiment import Experiment, RunOptions
from explorer.profile import seed_of
from explorer.search.jobs import JobReport
from explorer.search.registry import make_strategy
from explorer.search.strategies.dpor import ASLEEP, Branch, Dpor, Node, Tried
from explorer.watch import Watch
from protocol.operations import COMMUTE, UPDATE, Access
from scenarios.registry import MACHINE, RCU, Scenario
from scenarios.stage import Stage

Body = Callable[[Stage], None]
Step = tuple[str, int]
"""A lane, and the number of one of its steps."""

Order = frozenset[tuple[str, Step, tuple[frozenset[Step], ...]]]


def toy(body: Body, rcu: str = "eager") -> Experiment:
    """A scenario for a test, with the parameters of a machine."""
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
    """An exhaustive search: `ended` is True when no schedule is left; `search` counts the schedules."""

    experiment: Experiment
    most: int = 20_000
    search: Dpor = attrs.field(factory=Dpor)
    ended: bool = False

    def runs(self) -> Iterator[Stage]:
        """Every completed run, until no schedule is left or *most* have run."""
        for _, stage in self.schedules():
            yield stage

    def schedules(self) -> Iterator[tuple[Branch, Stage]]:
        """Every completed run with its schedule."""
        while self.search.completed < self.most:
            schedule = self.search.next_schedule()
            if schedule is None:
                self.ended = True
                return
            stage = play(self.experiment, schedule)
            self.search.learn(schedule, JobReport())
            if stage.world.stopped != ASLEEP:
                yield schedule, stage


class Sample(Branch):
    """One schedule of a sampling strategy, recorded as the search records its own; time passes with its steps."""

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
    """The results of an exhaustive search: the orders of all its classes, and the signatures of all findings."""

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
        """A class or finding of schedule *number* of a sampler that the search has missed; empty if there is none.

        A schedule that ends with a fatal finding belongs to no class, because other flows have not ended.
        """
        sample = Sample(make_strategy(strategy, seed_of(0, number)))
        stage = play(experiment, sample)
        others = set(stage.world.findings) - self.found
        if others:
            return f"{strategy} {number}: found {', '.join(sorted(others))}"
        is_new = stage.world.stopped != "finding" and order_of(sample) not in self.orders
        return f"{strategy} {number}: another class" if is_new else ""


def order_of(run: Branch) -> Order:
    """The order of accesses by different lanes: objects by name and first step, steps by lane and number.

    Two orders that no flow can observe are omitted. The first is the set of readers that a grace period waits for, as
    long as no flow sees its end earlier. The second is the delivery of a store that is not read afterwards (an actor
    that ends drops it).
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
    """Whether *thing* is a list of callbacks that a grace period passes on when its last reader leaves."""
    return thing.startswith(("done of rcu_data", "rcu_data", "softirqs of"))
