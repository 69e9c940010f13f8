"""The interface of every search: one sampler, an exact search, or the portfolio, which combines searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from explorer.search.jobs import JobReport


class Search(Protocol):
    """Plans the schedules of an experiment, and learns from their results.

    The caller runs what is planned, and returns it with its report, in the order of planning:

        while not search.done:
            planned = search.next_schedule(room)
            ...                                     # run it; if it is None, wait for a job in progress
            search.learn(planned, report)

    The plan depends only on the seed and on the reports so far, so the same search takes the same course again, in one
    process or in several. There are two kinds of planned work:

    - A `Job` is some schedules of one sampler. It may run in any process, while others are in progress. The next job
      may be planned before its report is there.
    - A `Following` is one schedule of an exact search, which continues from the run before it. It runs in this process,
      alone, and its report is needed before the next is planned. If it diverges, its report is not learnt: the
      exploration so far proves nothing, and the search is over.
    - A `Taken` is such a schedule that another process has run already, with its report.
    """

    def next_schedule(self, room: int = 1) -> Any:
        """The next work, at most *room* schedules (one or more); None if nothing is left, or a job has to end first."""

    def learn(self, planned: Any, report: JobReport) -> None:
        """Learn the report of planned work. The report is empty if an exact search has cut the run off."""

    @property
    def done(self) -> bool:
        """Whether no schedule is left; always false for a sampler."""
