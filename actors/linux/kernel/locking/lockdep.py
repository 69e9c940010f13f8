"""lockdep: records the order and the contexts in which lock classes are taken, and reports possible deadlocks.

kernel/locking/lockdep.c @5.3, Documentation/locking/lockdep-design.txt. The name of a lock is its class. Taking B
while A is held is the dependency A -> B. A cycle of dependencies can deadlock, even if the run did not. A class that
an interrupt handler takes must never be held with such interrupts on, and must not be taken before a class that is
(`hardirq-safe`, `softirq-unsafe` and so on). Works and RCU callbacks count as locks that are held while they run, and
waiting for them as taking these locks. So flush_workqueue() or rcu_barrier() under a lock that a work takes is a
cycle, too.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import attrs

from actors.system.flow import Kind

if TYPE_CHECKING:
    from actors.machine.context import Context

RCU_CALLBACK = "rcu_callback"
"""The class that every RCU callback holds while it runs, and that rcu_barrier() waits for."""

WAITS = (RCU_CALLBACK, "(wq_completion)", "(work_completion)")
"""Classes that stand for waiting. Interrupts while one is held are harmless, so they get no usage bits."""

IRQS = (("hardirq", "in-hardirq", "hardirq-on"), ("softirq", "in-softirq", "softirq-on"))
"""Each kind of interrupt, with the usage bits of locks taken in its handler and of locks held while it is enabled."""


class HeldLock(NamedTuple):
    """A held lock, on its holder's stack: the class, and where it was taken."""

    name: str
    is_read: bool
    where: str


@attrs.frozen
class Problem:
    """A possible deadlock: a name that does not depend on the run, a headline, and a line for each dependency."""

    name: str
    message: str
    details: tuple[str, ...]


@attrs.define(eq=False)
class LockGraph:
    """The recorded orders and usages of all lock classes; the graphs of several runs may be merged.

    `after[A][B]` is where B was first taken with A held. `usage[A]` has usage bits such as "in-softirq", each with its
    place. `_safe` has, for each kind of interrupt, the classes that its handlers take and all classes after these. As
    long as none of them `is_inverted`, held with such interrupts on, there is no inversion to look for.
    """

    after: dict[str, dict[str, str]] = attrs.field(factory=dict)
    usage: dict[str, dict[str, str]] = attrs.field(factory=dict)
    is_inverted: bool = attrs.field(default=False, init=False)
    _safe: tuple[set[str], ...] = attrs.field(factory=lambda: tuple(set() for _ in IRQS), init=False)

    def learn_order(self, held: str, name: str, where: str) -> bool:
        """Record held -> name; False if it was recorded before."""
        order = self.after.setdefault(held, {})
        if name in order:
            return False
        order[name] = where
        for safe, (_, _, taken_on) in zip(self._safe, IRQS, strict=True):
            if held in safe:
                self._make_safe(name, safe, taken_on)
        return True

    def learn_usage(self, name: str, bits: Iterable[str], where: str) -> bool:
        """Record the contexts in which *name* is taken; False if all were recorded before."""
        known = self.usage.setdefault(name, {})
        new = [bit for bit in bits if bit not in known]
        known.update(dict.fromkeys(new, where))
        for safe, (_, taken_in, taken_on) in zip(self._safe, IRQS, strict=True) if new else ():
            if taken_in in new:
                self._make_safe(name, safe, taken_on)
            if taken_on in new and name in safe:
                self.is_inverted = True
        return bool(new)

    def _make_safe(self, name: str, safe: set[str], taken_on: str) -> None:
        """Add a class, and all classes after it, to the classes that must not be held with interrupts on."""
        if name not in safe:
            safe.add(name)
            if taken_on in self.usage.get(name, ()):
                self.is_inverted = True
            for following in self.after.get(name, ()):
                self._make_safe(following, safe, taken_on)

    def merge(self, other: LockGraph) -> bool:
        """Add the records of another run; False if none is new."""
        news = [
            self.learn_order(held, name, where) for held, order in other.after.items() for name, where in order.items()
        ]
        news += [
            self.learn_usage(name, [bit], where) for name, bits in other.usage.items() for bit, where in bits.items()
        ]
        return any(news)

    def problems(self) -> Iterator[Problem]:
        """All possible deadlocks in the recorded graph, each once."""
        seen: set[str] = set()
        for held, order in self.after.items():
            for name in order:
                for problem in self.problems_of(held, name):
                    if problem.name not in seen:
                        seen.add(problem.name)
                        yield problem

    def problems_of(self, held: str, name: str) -> Iterator[Problem]:
        """Problems that the dependency held -> name completes: a cycle, or a path from irq-safe to irq-unsafe."""
        path = self._path(name, {held})
        if path:
            yield self._circle(path)
        yield from self.inversions()

    def _circle(self, path: list[str]) -> Problem:
        """The cycle closed by *path*, whose first class is taken while its last one is held."""
        start = path.index(min(path))
        circle = path[start:] + path[:start]
        pairs = list(zip(circle, [*circle[1:], circle[0]], strict=True))
        return Problem(
            " -> ".join([*circle, circle[0]]),
            "WARNING: possible circular locking dependency detected",
            tuple(self._dependency(*pair) for pair in pairs),
        )

    def inversions(self) -> Iterator[Problem]:
        """Every class that an interrupt handler takes and that leads to a class held with such interrupts on."""
        for irq, taken_in, taken_on in IRQS if self.is_inverted else ():
            safe = [name for name, bits in self.usage.items() if taken_in in bits]
            if not safe:
                continue
            unsafe = {name for name, bits in self.usage.items() if taken_on in bits}
            for name in safe:
                path = [name] if name in unsafe else self._path(name, unsafe)
                if path:
                    yield self._inversion(irq, path)

    def _inversion(self, irq: str, path: list[str]) -> Problem:
        first, last = path[0], path[-1]
        message = (
            f"WARNING: inconsistent lock state: {{IN-{irq.upper()}}} and {{{irq.upper()}-ON}}"
            if first == last
            else f"WARNING: {irq.upper()}-safe -> {irq.upper()}-unsafe lock order detected"
        )
        return Problem(
            f"{irq}: {' -> '.join(path)}",
            message,
            (
                f"{first} is taken in a {irq}: {self.usage[first][f'in-{irq}']}",
                *(self._dependency(*pair) for pair in itertools.pairwise(path)),
                f"{last} is taken with {irq}s on: {self.usage[last][f'{irq}-on']}",
            ),
        )

    def _dependency(self, held: str, name: str) -> str:
        return f"{name} is taken with {held} held: {self.after[held][name]}"

    def _path(self, start: str, goals: set[str]) -> list[str] | None:
        """A shortest chain of dependencies from *start* to one of *goals*."""
        if start not in self.after:
            return [start] if start in goals else None
        paths = [[start]]
        seen = {start}
        for path in paths:
            if path[-1] in goals:
                return path
            for name in self.after.get(path[-1], ()):
                if name not in seen:
                    seen.add(name)
                    paths.append([*path, name])
        return None


@attrs.define(eq=False)
class Lockdep:
    """lockdep of one machine: keeps the stack of held locks of every execution context, and reports new problems.

    `seen` has the situations in which a lock was taken or interrupts were enabled. A situation that comes again is
    skipped.
    """

    graph: LockGraph = attrs.field(factory=LockGraph)
    reported: set[str] = attrs.field(factory=set)
    seen: set[tuple[object, ...]] = attrs.field(factory=set)

    def acquire(
        self, ctx: Context, name: str, *, tries: bool = False, reads: bool = False, goes_without: bool = False
    ) -> None:
        """*ctx* is about to wait for a lock of class *name*, or has it if it only *tries*.

        A handler that would have gone without the lock cannot deadlock, and leaves no usage bit (mark_usage()).
        """
        where = ctx.function_of(sys._getframe(1)).co_name
        bits = contexts(ctx)
        if goes_without:
            bits = enabled_in(bits)
        situation = (name, tries, reads, bits, *ctx.held_locks)
        if situation not in self.seen:
            self.seen.add(situation)
            waited = [] if tries else ctx.held_locks
            before = [held.name for held in waited if held.name != name or not (held.is_read and reads)]
            self._learn(ctx, name, () if name.startswith(WAITS) else bits, before, where)
        ctx.held_locks.append(HeldLock(name, reads, where))

    def _learn(self, ctx: Context, name: str, bits: Sequence[str], before: list[str], where: str) -> None:
        """Record that *name* is taken with usage *bits* and locks *before* held; report the problems this completes."""
        known, after = self.graph.usage.get(name, {}), self.graph.after
        news = [held for held in before if name not in after.get(held, ())]
        if news or any(bit not in known for bit in bits):
            place = f"{where}() in {ctx.name}, step {ctx.world.step}"
            self.graph.learn_usage(name, bits, place)
            for held in news:
                self.graph.learn_order(held, name, place)
                if name in after or name == held or self.graph.is_inverted:  # no path leads on from the other classes
                    self._report_new(ctx, self.graph.problems_of(held, name))
            if not news and self.graph.is_inverted:
                self._report_new(ctx, self.graph.inversions())

    def release(self, ctx: Context, name: str) -> None:
        """*ctx* releases the lock of class *name* that it took last; report an unlock of a lock that is not held."""
        for index in range(len(ctx.held_locks) - 1, -1, -1):
            if ctx.held_locks[index].name == name:
                del ctx.held_locks[index]
                return
        ctx.world.report("lockdep", f"unlock of {name}", f"WARNING: bad unlock balance detected: {name}", flow=ctx)

    def irqs_enabled(self, ctx: Context) -> None:
        """Interrupts are enabled again: record for every held lock that it is held with interrupts on."""
        bits = enabled_in(contexts(ctx))
        situation = (bits, *ctx.held_locks)
        if situation in self.seen:
            return
        self.seen.add(situation)
        for held in ctx.held_locks:
            if held.name.startswith(WAITS):
                continue
            place = f"{held.where}() in {ctx.name}, step {ctx.world.step}"
            if self.graph.learn_usage(held.name, bits, place):
                self._report_new(ctx, self.graph.inversions())

    def _report_new(self, ctx: Context, problems: Iterable[Problem]) -> None:
        for problem in problems:
            if problem.name not in self.reported:
                self.reported.add(problem.name)
                ctx.world.report("lockdep", problem.name, problem.message, *problem.details, flow=ctx)


def contexts(ctx: Context) -> tuple[str, ...]:
    """The usage bits of a lock taken in the present context."""
    irqs_off = ctx.irqs_off or ctx.kind is Kind.HARDIRQ
    if ctx.in_handler:
        handler = "in-softirq" if ctx.kind is Kind.SOFTIRQ else "in-hardirq"
        return (handler,) if irqs_off else (handler, "hardirq-on")
    if irqs_off:
        return ()
    return ("hardirq-on",) if ctx.softirqs_off else ("hardirq-on", "softirq-on")


def enabled_in(bits: Iterable[str]) -> tuple[str, ...]:
    """Those of the usage bits that tell of interrupts on, not of a handler that runs."""
    return tuple(bit for bit in bits if not bit.startswith("in-"))


def debug_check_no_locks_held(ctx: Context) -> None:
    """Report the locks that a task holds when it ends: they are never unlocked."""
    for held in ctx.held_locks:
        text = f"WARNING: {ctx.name} still has a lock held: {held.name}, taken in {held.where}()"
        ctx.world.report("lockdep", f"{held.name} is still held", text, flow=ctx)


def lockdep_assert_held(ctx: Context, name: str) -> None:
    """Report if *ctx* does not hold a lock of class *name*."""
    if all(held.name != name for held in ctx.held_locks):
        ctx.world.report("lockdep", f"{name} is not held", f"WARNING: suspicious access: {name} is not held", flow=ctx)
