"""What every search can be asked: one sampler, an exact search, or the portfolio, which is a search of searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from explorer.search.jobs import Report


class Search(Protocol):
    """Hands out the schedules of an experiment, and learns from what became of them.

    The caller runs what it is handed out, and gives it back with its report, in the order of handing out:

        while not search.done:
            planned = search.next_schedule(room)
            ...                                     # run it, or what is under way, if it is None
            search.learn(planned, report)

    What is handed out follows from the seed and from what was learnt, so that the same search goes the same way again,
    in one process or in several. It is one of two things:

    - a `Job` is some schedules of one sampler. It may be run in any process, while others are under way, and need not
      have been learnt from when the next is handed out;
    - a `Following` is one schedule of an exact search, which rests on the run before it. It is run here, alone, to its
      end: nothing else is under way then, and it is learnt from before the next is handed out. One that has diverged is
      not learnt from: what was explored proves nothing, and the search is over.
    """

    def next_schedule(self, room: int = 1) -> Any:
        """What to run next, at most *room* schedules; None if nothing is left, or what is under way has to end first.

        There is room for one at least.
        """

    def learn(self, planned: Any, report: Report) -> None:
        """Take in what became of what was handed out. The report is empty if an exact search has cut the run off."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to be run; never so of a sampler."""
