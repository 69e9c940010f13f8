"""DFS: every schedule, or every schedule with at most so many departures from the base order (SEARCH.md 4.7).

In the base order a lane continues until it has to wait; then the next lane in the order of slots continues. A
*preemption* switches away from a lane that could go on (Musuvathi, Qadeer, "Iterative Context Bounding", PLDI 2007); a
*delay* skips one lane in the base order (Emmi, Qadeer, Rakamaric, "Delay-Bounded Scheduling", POPL 2011). Guarantee:
without a bound every schedule is run exactly once; with a bound, every schedule within it. Choices of values and faults
are enumerated. Time passes only when nothing else can happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from explorer.search.strategies.prefix import Following, State

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World
    from explorer.search.jobs import JobReport
    from protocol.schedule import Choice


@attrs.define(eq=False)
class PathChoice:
    """One choice on the path: which of `count` possibilities is tried now; they are tried in order.

    `of` describes the alternatives, for comparison: a state, or values in words.
    """

    taken: int
    count: int
    of: State | str

    @property
    def is_left(self) -> bool:
        """Whether a possibility has not been tried yet."""
        return self.taken + 1 < self.count


class Dfs:
    """The search (`explorer.search.protocol`): the path is the current schedule; its last choice is changed next."""

    def __init__(self, *, preemptions: int | None = None, delays: int | None = None) -> None:
        self.preemptions = preemptions
        self.delays = delays
        self.path: list[PathChoice] = []
        self._has_begun = False

    @property
    def text(self) -> str:
        """The search as a `--strategy` text."""
        bounds = {"preemptions": self.preemptions, "delays": self.delays}
        return ":".join(["dfs", *(f"{name}={most}" for name, most in bounds.items() if most is not None)])

    def next_schedule(self, room: int = 1) -> Descent | None:  # noqa: ARG002 -- it hands out one at a time
        """The next schedule; None if there is none left within the bounds."""
        if not self._has_begun:
            self._has_begun = True
            return Descent(self)
        while self.path:
            choice = self.path[-1]
            if choice.is_left:
                choice.taken += 1
                return Descent(self)
            self.path.pop()
        return None

    def learn(self, follow: Descent, report: JobReport) -> None:  # noqa: ARG002 -- the protocol
        """Do nothing: the run itself has extended the path."""
        assert follow.divergence is None, "a search that diverged proves nothing"

    @property
    def done(self) -> bool:
        """Whether every choice of the path is at its last possibility."""
        return self._has_begun and not any(choice.is_left for choice in self.path)


class Descent(Following):
    """One schedule: along the path, then in the base order."""

    name = "dfs"
    controls_clock = True
    is_replay = False

    def __init__(self, search: Dfs) -> None:
        super().__init__()
        self.strategy = search.text
        self._search = search
        self._choices: list[Choice] = []
        self._given = len(search.path)
        self._next = 0
        self._last: Lane | None = None
        self._last_slot = -1
        self._preemptions_left = search.preemptions
        self._delays_left = search.delays

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        """Take the path's possibility, among the ones that the bounds allow."""
        first = next((index for index, lane in enumerate(lanes) if lane.slot >= self._last_slot), 0)
        could_go_on = lanes[first] is self._last  # a lane that was created later may have the slot of an ended one
        state = State.of(tuple(lane.name for lane in lanes), self._last)
        taken = self._take(self._allowed(len(lanes), could_go_on=could_go_on), state)
        if taken and could_go_on and self._preemptions_left is not None:
            self._preemptions_left -= 1
        if self._delays_left is not None:
            self._delays_left -= taken
        index = (first + taken) % len(lanes)
        self._last, self._last_slot = lanes[index], lanes[index].slot
        self._choices.append(lanes[index].name)
        return index

    @property
    def choices(self) -> list[Choice]:
        """The choices of the run."""
        return self._choices

    def _allowed(self, count: int, *, could_go_on: bool) -> int:
        if could_go_on and self._preemptions_left == 0:
            return 1
        return count if self._delays_left is None else min(count, self._delays_left + 1)

    def _take(self, count: int, of: State | str) -> int:
        path = self._search.path
        if self._next == len(path):
            path.append(PathChoice(0, count, of))
        choice = path[self._next]
        if (choice.count, choice.of) != (count, of):
            self.part(choice.of, of)
            return 0
        self._next += 1
        return choice.taken

    def choose_value(self, count: int) -> int:
        """Values are enumerated like lanes."""
        value = self._take(count, f"one of {count} values")
        self._choices.append(value)
        return value

    def choose_fault(self, _probability: float) -> bool:
        """A fault is a choice like any other."""
        fails = self._take(2, "whether something fails")
        self._choices.append(fails)
        return fails == 1

    def end(self, world: World) -> None:  # noqa: ARG002 -- the protocol
        """Check at the end of the run that the whole path was followed."""
        if self._next < self._given:
            self.part(self._search.path[self._next].of, "the end of the run")
