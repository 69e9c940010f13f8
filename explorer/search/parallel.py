"""DPOR in several processes: the order of the schedules, and the answer, are those of one process.

A search is a walk through a tree: from each state on the path it explores the subtree of one step after the other. It
is always known which step comes next at a state, and which steps sleep then: the steps that have been tried there,
whose accesses are known. A subtree does not depend on what is tried outside of it (`Dpor`). So other processes explore
subtrees ahead of their turn. When the walk comes to such a subtree, it takes over its schedules, its remaining path,
and the steps that it wants to be tried at states above it.

The *front* is the part of the search that comes next. It is the only one that is divided. Workers explore it and the
subtrees in pieces of `PIECE` schedules. New subtrees should be large enough for one piece, and their turn should come
soon. So the search learns how many open states of the path, from its end, have to be left to the front.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

import attrs

from explorer import signals
from explorer.search.path_records import pack, unpack
from explorer.search.strategies.dpor import Branch, Dpor, Node, Tried, add_values
from explorer.workers import Task

if TYPE_CHECKING:
    from explorer.search.exact import Explored, Ran
    from explorer.search.jobs import JobReport

ALONE = 32
"""Schedules that are run in this process first: small searches need no workers."""

PIECE = 32
"""Schedules of one task."""

MOST_AHEAD = 256
"""Schedules that may wait for their turn, for each worker: a search with a budget never comes to some of them. If more
wait, only subtrees whose turn comes soon are explored ahead."""


class Workers(Protocol):
    """The part of `explorer.workers.Pool` that the search needs."""

    size: int

    def add(self, task: Task) -> None:
        """Queue *task* for the next free worker."""

    def hear(self, seconds: float | None = None) -> None:
        """Wait for messages from workers, at most so long, and handle them."""


@attrs.frozen
class Taken:
    """A schedule that another process has run, with its report."""

    report: JobReport
    strategy: str = "dpor"


@attrs.define(eq=False)
class Subtree:
    """The subtree below the first *floor* states of its path, as far as it is explored.

    With `has_next`, the last state of the path has a step that was not run yet. `schedules` wait for their turn. The
    `task` in progress, if any, explores the subtree below the first `task_floor` states.
    """

    path: list[Node]
    floor: int
    has_next: bool = True
    has_begun: bool = False
    schedules: deque[Ran] = attrs.field(factory=deque)
    task: Task | None = None
    task_floor: int = 0

    @property
    def is_done(self) -> bool:
        """Whether everything in it has been explored."""
        return self.task is None and not self.has_next and not self.open_states()

    def open_states(self) -> list[Node]:
        """The states in it at which more steps have to be tried."""
        return [node for node in self.path[self.floor :] if node.has_branch]

    def add(self, schedules: Iterable[Ran]) -> None:
        """Add schedules, and schedule the steps that they want at states in this subtree; keep the other wants."""
        for ran in schedules:
            for want in ran.wants:
                if want.at >= self.floor:
                    self.path[want.at].want(want.lanes, want.lane)
            ran.wants[:] = [want for want in ran.wants if want.at < self.floor]
        self.schedules.extend(schedules)


class Parallel:
    """The search (`explorer.search.protocol`): a `Dpor` whose subtrees are explored by *workers*.

    *task_of* makes the task for a path, a floor and a number of schedules. `_ahead` has, for states of the front's
    path, the subtrees of the steps that are tried next there, in order. `_skipped` open states are left to the front.
    """

    def __init__(self, search: Dpor, workers: Workers, task_of: Callable[[bytes, int, int], Task]) -> None:
        self._search = search
        self._workers = workers
        self._task_of = task_of
        self._alone = ALONE
        self._front: Subtree | None = None
        self._tasks: dict[Task, Subtree] = {}
        self._ahead: dict[Node, deque[Subtree]] = {}
        self._skipped = 0

    def next_schedule(self, room: int = 1) -> Branch | Taken | None:  # noqa: ARG002 -- it hands out one at a time
        """The next schedule, which another process may have run; None if everything has been explored."""
        if self._alone:
            self._alone -= 1
            return self._search.next_schedule()
        if self._front is None:
            self._front = Subtree(self._search.path, 0, has_next=False, has_begun=True)
        waiting = self._front.schedules
        if waiting and len(waiting) % PIECE == 0:
            self._workers.hear(0)
            self._give_out(self._front)
        while not waiting and not self.done:
            self._give_out(self._front)
            if not waiting:
                self._workers.hear()
        return Taken(waiting[0].report) if waiting else None

    def learn(self, planned: Branch | Taken, report: JobReport) -> None:
        """Learn a schedule that was run here; the others are learnt where they are run."""
        if isinstance(planned, Branch):
            self._search.learn(planned, report)
        elif self._front is not None:
            self._front.schedules.popleft()

    @property
    def state(self) -> tuple[list[Node], bool, list[JobReport]]:
        """The path, whether the step at its last state was not run yet, and the schedules that wait for their turn."""
        front = self._front
        if front is None:
            return self._search.state
        return front.path, front.has_next or front.task is not None, [ran.report for ran in front.schedules]

    @property
    def done(self) -> bool:
        """Whether no schedule is left."""
        if self._front is None:
            return self._search.done
        return self._front.is_done and not self._front.schedules

    # -- results ------------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Take the results of all tasks that have ended; an error is raised when its subtree's turn comes."""
        for task in [task for task in self._tasks if task.is_done]:
            subtree = self._tasks[task]
            if task.error is None:
                del self._tasks[task]
                subtree.task = None
                is_first = not subtree.has_begun
                take(subtree, task.answer)
                if is_first and subtree is not self._front:
                    self._learn_size(subtree)
            elif subtree is self._front and not subtree.schedules:
                raise task.error

    def _learn_size(self, subtree: Subtree) -> None:
        """Adapt the distance of new subtrees, so that one task is about enough for them."""
        if subtree.open_states():
            self._skipped = max(self._skipped - 1, 0)
        elif len(subtree.schedules) < PIECE // 2:
            self._skipped += 1

    def _go_on(self, subtree: Subtree) -> None:
        """Go to the next step to be tried in the subtree, through all subtrees that were explored ahead."""
        search = Dpor(subtree.path, subtree.floor)
        while subtree.task is None and not subtree.has_next and search.go_on():
            subtree.has_next = True
            node = subtree.path[-1]
            waiting = self._ahead.get(node)
            if waiting:
                self._absorb(subtree, waiting.popleft())
            if not waiting:
                self._ahead.pop(node, None)

    def _absorb(self, subtree: Subtree, other: Subtree) -> None:
        """Take over another subtree: of the step that comes next."""
        node, root = subtree.path[-1], other.path[other.floor - 1]
        assert node.event.lane == root.event.lane, "the next step at a state is known ahead"
        assert node.sleeping == root.sleeping, "the sleeping steps at a state are known ahead"
        if other.has_begun:
            begin(node, root.event)
        subtree.path += other.path[other.floor :]
        subtree.add(other.schedules)
        subtree.has_next, subtree.task, subtree.task_floor = other.has_next, other.task, other.task_floor
        if subtree.task is not None:
            self._tasks[subtree.task] = subtree

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _give_out(self, front: Subtree) -> None:
        """Take results, and give all workers something to do; no signal comes in between."""
        with signals.held_back():
            self._collect()
            self._go_on(front)
            self._divide(front)

    def _divide(self, front: Subtree) -> None:
        """Start tasks for the front, and for subtrees ahead of it, which are divided from it first."""
        free = self._workers.size - len(self._tasks) - front.has_next
        ahead = list(itertools.islice(self._subtrees_ahead(front), max(free, 0)))
        for subtree in (front, *ahead):
            if subtree.has_next:
                self._start(subtree)

    def _start(self, subtree: Subtree) -> None:
        """Start a task that explores the subtree, except parts that are explored ahead."""
        path = subtree.path
        floor = max(
            (at + 1 for at in range(subtree.floor, len(path)) if path[at] in self._ahead), default=subtree.floor
        )
        subtree.task_floor, subtree.has_next = floor, False
        subtree.task = task = self._task_of(pack(path), floor, PIECE)
        self._tasks[task] = subtree
        self._workers.add(task)

    def _subtrees_ahead(self, front: Subtree) -> Iterator[Subtree]:
        """Subtrees that can be explored ahead now: the nearest that is large enough, and so on; then nearer ones."""
        near: list[int] = []
        room = MOST_AHEAD * self._workers.size
        for at in range(len(front.path) - 1, -1, -1):
            for other in self._ahead.get(front.path[at], ()):
                room -= len(other.schedules)
                self._go_on(other)
                if other.has_next and room > 0:
                    yield other
            if room > 0 and self._may_divide(front, at):
                if len(near) < self._skipped:
                    near.append(at)
                else:
                    yield from self._next_at(front.path, at)
        for at in reversed(near):
            yield from self._next_at(front.path, at)

    @staticmethod
    def _may_divide(front: Subtree, at: int) -> bool:
        """Whether more steps have to be tried at a state, and no task explores them."""
        is_free = at < len(front.path) - 1 and (front.task is None or at < front.task_floor)
        return is_free and front.path[at].has_branch

    def _next_at(self, path: list[Node], at: int) -> Iterator[Subtree]:
        """The subtree of the step that comes next at a state, after those that are explored ahead, if it is known."""
        node = path[at].copy()
        for other in self._ahead.get(path[at], ()):
            if not other.has_begun:
                return
            node.go_on()
            begin(node, other.path[other.floor - 1].event)
        if node.go_on():
            subtree = Subtree([*path[:at], node], at + 1)
            self._ahead.setdefault(path[at], deque()).append(subtree)
            yield subtree


def take(subtree: Subtree, explored: Explored) -> None:
    """Add the result of a task."""
    floor = subtree.task_floor
    path = unpack(explored.path)
    if floor and floor == len(subtree.path):
        begin(subtree.path[floor - 1], path[0].event)
    subtree.has_begun = True
    subtree.path[floor:] = path[1:] if floor else path
    subtree.add(explored.schedules)


def begin(node: Node, event: Tried) -> None:
    """Let the step that is tried at *node* be *event*: a step with the same beginning that was run elsewhere."""
    node.event = attrs.evolve(event, values=node.event.values)
    add_values(node)
