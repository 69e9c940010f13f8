"""One side of a trial: a search of one stage on one kernel, as a value that can be sent between processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from explorer.explain.grouping import group_by_cause
from explorer.search.campaign import Campaign
from explorer.trial.causes import youngest_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from explorer.experiment import Experiment, RunOptions
    from explorer.replay import Divergence
    from explorer.search.campaign import Found
    from explorer.watch import RacingPair
    from protocol.findings import Finding
    from protocol.schedule import Schedule


@attrs.frozen
class Limits:
    """The limits of one search, in schedules and in seconds; None is no limit."""

    budget: int | None
    seconds: float | None


@attrs.frozen
class Seen:
    """A finding of one side: the numbers of the schedules that showed it, and the first of these schedules.

    `symptom_of` is the signature of the finding that has the same cause.
    """

    finding: Finding
    numbers: frozenset[int]
    strategy: str
    schedule: Schedule
    symptom_of: str | None

    @classmethod
    def of(cls, found: Found) -> Seen:
        """The finding of a campaign."""
        return cls(found.finding, frozenset(found.seen), found.strategy, found.schedule, found.symptom_of)


@attrs.frozen
class Side:
    """The result of one search; `seen` is by signature. `pairs` have the functions' youngest names.

    `ended_by` are the numbers of the schedules that each fatal finding ended.
    """

    schedules: int
    is_all: bool
    seen: dict[str, Seen]
    functions: frozenset[str]
    pairs: frozenset[RacingPair]
    unreached: frozenset[str]
    divergence: Divergence | None

    @property
    def causes(self) -> list[Seen]:
        """The findings that are no symptoms of others."""
        return [one for one in self.seen.values() if one.symptom_of is None]

    def signs(self, cause: Seen) -> list[str]:
        """The signatures of a finding and of its symptoms."""
        signature = cause.finding.signature
        return [signature, *(name for name, one in self.seen.items() if one.symptom_of == signature)]


def search(
    experiment: Experiment,
    options: RunOptions,
    limits: Limits,
    *,
    groups: bool = True,
    progress: Callable[[Campaign], None] | None = None,
) -> Side:
    """Search in this process, and group the findings by cause; KeyboardInterrupt if a signal ends the search."""
    campaign = Campaign(experiment, options, budget=limits.budget, seconds=limits.seconds, progress=progress)
    campaign.run()
    if campaign.stopped == "interrupted":
        raise KeyboardInterrupt
    if groups:
        group_by_cause(campaign)
    return Side(
        schedules=campaign.schedules,
        is_all=campaign.stopped == "exhausted",
        seen={signature: Seen.of(found) for signature, found in campaign.found.items()},
        functions=frozenset(map(youngest_name, campaign.functions)),
        pairs=frozenset(
            ((youngest_name(one), doing), (youngest_name(other), doing_too))
            for (one, doing), (other, doing_too) in campaign.pairs
        ),
        unreached=frozenset(campaign.unreached or ()),
        divergence=campaign.divergence,
    )
