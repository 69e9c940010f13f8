"""Random programs, small enough for all their orders, and the differences of searches from the reference."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

import attrs

from tests.litmus.build import Reached, run_exactly, run_sampler
from tests.litmus.language import Body, Program, Statement
from tests.litmus.reference import DEADLOCK, Outcome, Reference, TooLargeError, reference

SAMPLERS = ("pos", "pct:3", "surw", "urw", "random")
RCU_MODES = ("eager", "batched")

ACCESSES = ("read", "write", "percpu_read", "percpu_write")
SECTIONS = ("rcu", "preempt", "bh", "irq", "spin", "spin_irqsave", "mutex")
CALLS = ("synchronize_rcu", "call_rcu", "rcu_barrier", "ipi", "ipi_wait", "queue", "flush", "migrate")

WEIGHTS = {"synchronize_rcu": 3, "call_rcu": 3, "ipi": 2, "ipi_wait": 2, "rcu": 3, "irq": 2, "preempt": 2, "spin": 2}
"""The weights of statements in the random choice; all others have weight 1."""


@attrs.frozen
class Where:
    """The context of a place in a program, which decides the allowed statements."""

    cpu: int | None
    is_atomic: bool = False
    irqs_off: bool = False
    is_handler: bool = False
    is_work: bool = False
    depth: int = 0
    held: frozenset[tuple[str, int]] = frozenset()

    def inside(self, statement: str, at: int) -> Where:
        """The context inside the section that the statement enters."""
        lock = {"spin": "spin", "spin_irqsave": "spin", "mutex": "mutex"}.get(statement)
        return attrs.evolve(
            self,
            is_atomic=self.is_atomic or statement != "mutex",
            irqs_off=self.irqs_off or statement in {"irq", "spin_irqsave"},
            depth=self.depth + 1,
            held=self.held | {(lock, at)} if lock else self.held,
        )

    def allows(self, statement: str) -> bool:
        """Whether the kernel allows the statement here."""
        if statement in {"mutex", "synchronize_rcu", "rcu_barrier", "flush", "migrate"} and self.is_atomic:
            return False
        if statement in {"ipi", "ipi_wait", "migrate"} and (self.cpu is None or self.is_handler):
            return False
        if statement == "ipi_wait" and self.irqs_off:
            return False
        if statement == "migrate" and self.held:
            return False
        if statement == "flush" and self.is_work:
            return False
        return self.depth < 2 or statement in ACCESSES


class Writer:
    """The random generator of one program; the statements of *theme* are among its choices."""

    def __init__(self, seed: int, theme: tuple[str, ...] = ()) -> None:
        self.draw = draw = random.Random(seed)
        self.cpus = draw.choice((1, 1, 2, 2, 2, 3))
        self.flows = draw.choice((2, 2, 2, 3, 3, 4))
        self.left = draw.randint(5, 8) if self.flows < 4 else 6
        sections = draw.sample(self._weighted(SECTIONS), 2)
        calls = draw.sample(self._weighted(CALLS), 2)
        self.actions = [*sections, *sections, *calls, "read", "read", "write", "write"]
        if draw.random() < 0.25:
            self.actions += ["percpu_read", "percpu_write"]
        if "flush" in calls:
            self.actions.append("queue")
        if "rcu_barrier" in calls:
            self.actions.append("call_rcu")
        self.actions += theme
        self.works: list[Body] = []

    def _weighted(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names for _ in range(WEIGHTS.get(name, 1))]

    def program(self) -> Program:
        """Make the program; its work items are the ones that it queues."""
        flows = []
        for number in range(self.flows):
            cpu = number % self.cpus if self.draw.random() < 0.6 else self.draw.randrange(self.cpus)
            flows.append((cpu, self.body(Where(cpu), most=self.draw.randint(1, 3))))
        return Program(tuple(flows), tuple(self.works), self.cpus)

    def body(self, where: Where, *, most: int) -> Body:
        """A sequence of up to *most* statements, at least one."""
        statements: list[Statement] = []
        for _ in range(most):
            if statements and self.left <= 0:
                break
            statement = self.statement(where)
            statements.append(statement)
            if statement.op == "migrate":
                where = attrs.evolve(where, cpu=statement.at)
        return tuple(statements)

    def statement(self, where: Where) -> Statement:
        """One statement that is allowed at *where*."""
        draw = self.draw
        self.left -= 1
        name = draw.choice([action for action in self.actions if where.allows(action)])
        if name in ACCESSES:
            at = draw.randrange(2) if name in {"read", "write"} else 0
            return Statement(name, at, draw.randint(1, 2) if "write" in name else 0)
        if name in SECTIONS:
            return self.section(name, where)
        if name in {"ipi", "ipi_wait", "call_rcu"}:
            return self.call(name, where)
        if name == "queue":
            return self.queue()
        return Statement(name, draw.randrange(self.cpus) if name == "migrate" else 0)

    def call(self, name: str, where: Where) -> Statement:
        """A handler or a callback, on another CPU if it is a handler."""
        others = [cpu for cpu in range(self.cpus) if cpu != where.cpu]
        if name != "call_rcu" and not others:
            return Statement("read", self.draw.randrange(2))
        at = 0 if name == "call_rcu" else self.draw.choice(others)
        inside = Where(None, is_atomic=True, irqs_off=name != "call_rcu", is_handler=True, depth=1)
        return Statement(name, at, 0, self.body(inside, most=self.draw.randint(1, 2)))

    def section(self, name: str, where: Where) -> Statement:
        """A section with statements in it, or an empty one."""
        at = 0
        if name in {"spin", "spin_irqsave", "mutex"}:
            at = self.draw.randrange(2) if self.draw.random() < 0.3 else 0
            if ("mutex" if name == "mutex" else "spin", at) in where.held:
                return Statement("read", at)
        return Statement(name, at, 0, self.body(where.inside(name, at), most=self.draw.randint(1, 2)))

    def queue(self) -> Statement:
        """Queue a work item, in most cases a new one."""
        if self.works and (self.draw.random() < 0.5 or len(self.works) == 2):
            return Statement("queue", self.draw.randrange(len(self.works)))
        self.works.append(())
        number = len(self.works) - 1
        self.works[number] = self.body(Where(None, is_work=True, depth=1), most=self.draw.randint(1, 2))
        return Statement("queue", number)


FEWEST_STATES, MOST_STATES = 60, 2_000
FEW_STATES = 400


@functools.lru_cache(maxsize=256)
def random_program(seed: int, theme: tuple[str, ...] = (), most_states: int = MOST_STATES) -> Program:
    """The program of this seed: the first generated one that is neither trivial nor too large for a search.

    The statements of *theme* are among its possible statements.
    """
    for number in range(1_000):
        program = Writer(seed * 1_000 + number, theme).program()
        enumerator = Reference(program, is_eager=True, most_states=most_states)
        try:
            outcomes = enumerator.outcomes()
        except TooLargeError:
            continue
        if enumerator.states >= FEWEST_STATES and len(outcomes) > 2:
            return program
    msg = f"no program of seed {seed} is of the right size"
    raise AssertionError(msg)


# -- differences of a search ------------------------------------------------------------------------------------------


@attrs.frozen
class Difference:
    """A search whose outcomes differ from the reference: `missing` or `extra` ones."""

    strategy: str
    rcu: str
    missing: frozenset[Outcome]
    extra: frozenset[Outcome]
    note: str = ""

    def __str__(self) -> str:
        parts = [f"{self.strategy} {self.rcu}"]
        parts += [f"lacks {sorted(map(shown, self.missing))}"] if self.missing else []
        parts += [f"has {sorted(map(shown, self.extra))}"] if self.extra else []
        return ": ".join([", ".join(parts), *([self.note] if self.note else [])])


def shown(outcome: Outcome) -> str:
    """The text of an outcome in reports."""
    if outcome == DEADLOCK:
        return "deadlock"
    return " ".join("-" if value is None else str(value) for value in outcome)


@attrs.define
class Comparison:
    """The result of one program's comparison. `is_too_large`: some search of it was not exhausted."""

    differences: list[Difference] = attrs.field(factory=list)
    schedules: int = 0
    cut_off: int = 0
    samples: int = 0
    outcomes: int = 0
    is_too_large: bool = False


def compare(
    program: Program,
    *,
    budget: int = 3_000,
    samples: int = 0,
    most_states: int = 20_000,
    seed: int = 0,
    modes: tuple[str, ...] = RCU_MODES,
) -> Comparison:
    """Compare the outcomes of searches of *program*, and of *samples* schedules of each sampler, with the reference."""
    comparison = Comparison()
    for rcu in modes:
        try:
            expected = reference(program, rcu, most_states=most_states)
        except TooLargeError:
            comparison.is_too_large = True
            continue
        comparison.outcomes += len(expected)
        reached = run_exactly(program, "dpor", rcu, budget=budget)
        comparison.schedules += reached.schedules
        comparison.cut_off += reached.cut_off
        comparison.is_too_large |= not reached.is_exhausted
        comparison.differences += differences("dpor", rcu, expected, reached, is_exact=reached.is_exhausted)
        for sampler in SAMPLERS if samples else ():
            reached = run_sampler(program, sampler, rcu, budget=samples, seed=seed)
            comparison.samples += reached.schedules
            comparison.differences += differences(sampler, rcu, expected, reached, is_exact=False)
    return comparison


def differences(
    strategy: str, rcu: str, expected: set[Outcome], reached: Reached, *, is_exact: bool
) -> Iterator[Difference]:
    """The difference between the outcomes of a search and the expected ones, if there is one."""
    got = set(reached.outcomes)
    missing = frozenset(expected - got if is_exact else ())
    note = "; ".join(reached.unexpected.values())
    if missing or got - expected or note:
        yield Difference(strategy, rcu, missing, frozenset(got - expected), note)
