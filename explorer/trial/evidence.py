"""Evidence of counts: how likely a difference is if the two kernels are alike."""

from __future__ import annotations

import attrs

SURE = 0.05
"""Evidence is strong if a difference would come by chance more rarely than this."""


@attrs.frozen
class Count:
    """In how many schedules of how many a finding was seen; `is_all`: there are no other schedules."""

    seen: int
    schedules: int
    is_all: bool = False

    def __str__(self) -> str:
        return f"{self.seen} of {self.schedules}{', which are all' if self.is_all else ''}"


def chance(seen: Count, unseen: Count) -> float:
    """The chance that all sightings fall into the schedules of *seen*, if each schedule is as likely to have one.

    It is that of drawing that many schedules out of both sides, all of them from one side (Fisher's exact test). If the
    other side has run every schedule that there is, it is 0.
    """
    if unseen.is_all:
        return 0.0
    product = 1.0
    for drawn in range(seen.seen):
        product *= (seen.schedules - drawn) / (seen.schedules + unseen.schedules - drawn)
    return product
