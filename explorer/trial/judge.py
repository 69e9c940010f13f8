"""The differences between a stage without a patch and with it: the causes that the patch makes, cures and masks.

A finding that one side lacks may only be rare there. So each cause that is new on the patched side is looked for on the
other side again: its schedule is repeated by names, and further schedules are searched. A cause that is gone counts as
masked, not as cured, if the patched side does not try the race any more: its schedules end before with a new finding,
no schedule reaches a `sometimes` any more, or the two steps do not race although the patch changes neither function.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import attrs

from explorer.search.report import describe
from explorer.trial.causes import Cause, cause_of, is_one_sort, shows, signature_of
from explorer.trial.evidence import SURE, Count, chance
from explorer.trial.sides import Limits, Seen, Side, search

if TYPE_CHECKING:
    from explorer.experiment import Experiment, RunOptions
    from explorer.search.campaign import Campaign
    from explorer.watch import RacingPair
    from protocol.findings import Finding
    from protocol.schedule import Schedule

FURTHER = 4
"""The budget of the search for a new cause without the patch, in budgets of a side."""

CLEAR = 1e-6
"""A difference that would come by chance more rarely than this needs no further search."""

Kind = Literal["makes", "cures", "masks", "remains"]


@attrs.frozen(kw_only=True)
class Verdict:
    """One cause of one stage: what the patch does to it, and the evidence.

    `symptoms` are the signatures of further findings with this cause. `chance` is that of a difference like this one
    between two equal kernels. `why` says more, in words. `schedule` shows the finding on the side that has it. `pair`
    are the racing steps that a difference depends on, if there are any.
    """

    kind: Kind
    finding: Finding
    symptoms: tuple[str, ...]
    without: Count
    patched: Count
    chance: float
    why: str
    strategy: str
    schedule: Schedule = attrs.field(repr=False)
    pair: RacingPair | None = None


@attrs.define
class Judge:
    """Compares the two sides of one stage. `patched_functions` are the functions that the patch replaces."""

    experiments: tuple[Experiment, Experiment]
    options: RunOptions
    limits: Limits
    without: Side
    patched: Side
    patched_functions: frozenset[str]
    _causes: dict[tuple[bool, str], Cause] = attrs.field(factory=dict, init=False)

    def verdicts(self) -> Iterator[Verdict]:
        """One verdict for each cause of either side."""
        made = [one for one in self.patched.causes if self._is_absent(one, self.patched, self.without)]
        renamed = {one.finding.signature: other for one in made if (other := self._renamed(one)) is not None}
        made = [one for one in made if one.finding.signature not in renamed]
        further = self._further_search(made)
        gone = set[str]()
        for one in made:
            there = self._there_without(one, further)
            gone |= set() if there else {one.finding.signature}
            yield self._made(one, further, there)
        for one in self.without.causes:
            if self._is_absent(one, self.without, self.patched):
                other = next((new for new, old in renamed.items() if old == one.finding.signature), "")
                yield self._remaining(one, f"with the patch it shows as {other}") if other else self._gone(one, gone)
            else:
                yield self._remaining(one, "")

    # -- new causes ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _is_absent(cause: Seen, here: Side, there: Side) -> bool:
        signs = {signature_of(here.seen[signature].finding) for signature in here.signs(cause)}
        return signs.isdisjoint(signature_of(one.finding) for one in there.seen.values())

    def _renamed(self, new: Seen) -> str | None:
        """The signature of the cause without the patch of which *new* is another sign."""
        for old in self.without.causes:
            if is_one_sort(new.finding, old.finding) and self._cause(new, 1).is_sign_of(self._cause(old, 0)):
                return old.finding.signature
        return None

    def _cause(self, seen: Seen, side: int) -> Cause:
        key = (bool(side), seen.finding.signature)
        if key not in self._causes:
            self._causes[key] = cause_of(self.experiments[side], seen.schedule, seen.finding)
        return self._causes[key]

    def _further_search(self, made: list[Seen]) -> Side | None:
        """Search without the patch for the new causes, unless the difference is clear already."""
        unclear = {
            one.finding.signature
            for one in made
            if chance(self._count(one, self.patched), self._none(self.without)) > CLEAR
        }
        if not unclear:
            return None
        budget = FURTHER * (self.without.schedules if self.limits.budget is None else self.limits.budget)
        further = attrs.evolve(self.options, seed=(self.options.seed + 1) % (1 << 64))
        stop = functools.partial(_stop_at, unclear)
        return search(
            self.experiments[0], further, attrs.evolve(self.limits, budget=budget), groups=False, progress=stop
        )

    def _there_without(self, new: Seen, further: Side | None) -> str:
        """How a new cause of the patched side was seen without the patch after all; empty if it was not."""
        signature = new.finding.signature
        again = shows(self.experiments[0], new.schedule)
        if any(signature_of(new.finding) == signature_of(one) for found in again for one in found):
            return "without the patch, the same schedule shows it"
        if further is not None and signature in further.seen:
            first = self.without.schedules + min(further.seen[signature].numbers)
            return f"without the patch, a longer search shows it first in schedule {first}"
        return ""

    def _made(self, new: Seen, further: Side | None, there: str) -> Verdict:
        schedules = self.without.schedules + (further.schedules if further is not None else 0)
        is_all = self.without.is_all or (further is not None and further.is_all)
        again = None if further is None else further.seen.get(new.finding.signature)
        seen = 0 if again is None else len(again.numbers)
        without = Count(seen, schedules, is_all)
        patched = self._count(new, self.patched)
        return self._verdict("remains" if there else "makes", new, self.patched, without, patched, there)

    # -- causes that are gone -----------------------------------------------------------------------------------------

    def _gone(self, old: Seen, made: set[str]) -> Verdict:
        """The verdict on a cause that the patched side does not show; *made* are the causes that the patch makes."""
        ended = {number for name in made for number in self._ended_by(name)}
        tried = Count(0, self.patched.schedules - len(ended), self.patched.is_all and not ended)
        count = self._count(old, self.without)
        again = shows(self.experiments[1], old.schedule)
        if any(old.finding.signature in {one.signature for one in found} for found in again):
            return self._remaining(old, "with the patch, the same schedule shows it")
        mask = self._mask(old, tried, {one.signature for found in again for one in found if one.is_fatal} & made)
        return self._verdict("masks" if mask else "cures", old, self.without, count, tried, mask)

    def _ended_by(self, signature: str) -> frozenset[int]:
        seen = self.patched.seen[signature]
        return seen.numbers if seen.finding.is_fatal else frozenset()

    def _mask(self, old: Seen, tried: Count, earlier: set[str]) -> str:
        """Why the patched side cannot show the cause *old* any more, although the patch need not cure it."""
        count = self._count(old, self.without)
        if earlier:
            return f"its schedule ends before, with {min(earlier)}"
        ended = self.patched.schedules - tried.schedules
        if ended and chance(count, tried) > SURE >= chance(count, self._none(self.patched)):
            return f"{ended} of {self.patched.schedules} schedules end before, with a new finding"
        missed = sorted(self.patched.unreached - self.without.unreached)
        if missed:
            return f"no schedule reaches {', '.join(map(repr, missed))} any more"
        pair = next(iter(self._cause(old, 0).pairs), None)
        if pair is None or {pair[0][0], pair[1][0]} & self.patched_functions:
            return ""
        if {pair, pair[::-1]} & self.patched.pairs or not {pair, pair[::-1]} & self.without.pairs:
            return ""
        return f"its steps do not race any more: {describe(pair)}"

    # -- verdicts -----------------------------------------------------------------------------------------------------

    def _remaining(self, old: Seen, why: str) -> Verdict:
        here = self.patched.seen.get(old.finding.signature)
        patched = self._none(self.patched) if here is None else self._count(here, self.patched)
        return self._verdict("remains", old, self.without, self._count(old, self.without), patched, why)

    def _verdict(  # noqa: PLR0917 -- the fields of a verdict
        self, kind: Kind, cause: Seen, side: Side, without: Count, patched: Count, why: str
    ) -> Verdict:
        one, other = (patched, without) if kind == "makes" else (without, patched)
        is_difference = kind != "remains"
        return Verdict(
            kind=kind,
            finding=cause.finding,
            symptoms=tuple(side.signs(cause)[1:]),
            without=without,
            patched=patched,
            chance=chance(one, other) if is_difference else 1.0,
            why=why,
            strategy=cause.strategy,
            schedule=cause.schedule,
            pair=next(iter(self._cause(cause, int(kind == "makes")).pairs), None) if is_difference else None,
        )

    @staticmethod
    def _count(cause: Seen, side: Side) -> Count:
        return Count(len(cause.numbers), side.schedules, side.is_all)

    @staticmethod
    def _none(side: Side) -> Count:
        return Count(0, side.schedules, side.is_all)


def _stop_at(wanted: set[str], campaign: Campaign) -> None:
    """End a search as soon as all *wanted* findings are there."""
    if not campaign.stopped and campaign.found.keys() >= wanted:
        campaign.stopped = "first"
