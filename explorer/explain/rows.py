"""The table of a run: the steps that matter, and one line for the steps between each two of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.explain.explanation import Explanation
    from explorer.trace import TracedStep

MOST_RUNS = 3
"""Most blocks of one lane that get a line each; more blocks between two steps that matter are summed up in one line."""


@attrs.frozen
class StepRow:
    """One step that matters; `ahead_of` is the lane that the non-preemptive order would have taken, if another."""

    place: int
    step: TracedStep
    ahead_of: str
    notes: tuple[str, ...]


@attrs.frozen
class GapRow:
    """Steps in between, counted by lane; `deviations` of them deviate from the non-preemptive order."""

    steps: int
    lanes: dict[str, int]
    first: str
    last: str
    deviations: int

    @property
    def in_words(self) -> str:
        """The line of the table."""
        what = self.first if self.first == self.last else f"{self.first} … {self.last}"
        if len(self.lanes) == 1:
            who = next(iter(self.lanes))
        else:
            who = ", ".join(f"{lane} ({count})" for lane, count in self.lanes.items())
        text = f"{self.steps} more step{'s' * (self.steps > 1)} of {who}: {what}"
        return text + (f"; {self.deviations} of them *" if self.deviations else "")


Row = StepRow | GapRow


def rows_of(explanation: Explanation) -> list[Row]:
    """The table of the run."""
    steps, details, deviates = explanation.trace.steps, explanation.details, explanation.deviates
    rows: list[Row] = []
    begin = 0
    for place in explanation.important:
        rows += gap_rows(explanation, begin, place)
        ahead_of = details[place].plain if deviates[place] else ""
        rows.append(StepRow(place, steps[place], ahead_of, tuple(explanation.notes.get(place, ()))))
        begin = place + 1
    return rows + gap_rows(explanation, begin, len(steps))


def gap_rows(explanation: Explanation, begin: int, end: int) -> list[Row]:
    """Lines for the steps from *begin* to before *end*: one for each block of one lane, or one for all."""
    blocks = list(blocks_of_one_lane(explanation, begin, end))
    if len(blocks) > MOST_RUNS:
        blocks = [(begin, end)]
    return [gap(explanation, *block) for block in blocks]


def blocks_of_one_lane(explanation: Explanation, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The begins and ends of blocks in which only one lane steps."""
    steps = explanation.trace.steps
    start = begin
    for place in range(begin + 1, end + 1):
        if place == end or steps[place].lane != steps[start].lane:
            yield start, place
            start = place


def gap(explanation: Explanation, begin: int, end: int) -> GapRow:
    """One line for the steps from *begin* to before *end*."""
    steps = explanation.trace.steps[begin:end]
    lanes = Counter(step.lane for step in steps)
    deviations = sum(explanation.deviates[begin:end])
    return GapRow(len(steps), dict(lanes), steps[0].function, steps[-1].function, deviations)
