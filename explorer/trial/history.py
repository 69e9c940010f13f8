"""The history of a flaw: which kernels have it, what introduces it, what cures it, and what masks it.

The kernels are probed in an order that asks only questions that can change the answer:

- the profiles, and the steps of the series;
- the log's own kernel without each of its patches, and with each fix that changes a function of the failing run;
- the first kernel that does not have the flaw any more, without each fix that is new in it: if it shows the flaw then,
  that fix cures it;
- a kernel without the flaw between two that have it, or one whose schedules mostly end with other findings, with each
  fix that it lacks: if it shows the flaw then, the fixed flaw masks it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import attrs

from actors.versions.profiles import FIRST
from explorer.trial.kernels import Kernel
from explorer.trial.probes import Probe, Question, probe, search_again
from explorer.trial.tasks import in_order
from protocol.vocabulary import KERNELS, PROFILES, STEPS

ENOUGH = 3
"""A kernel without the flaw has to be searched so many times longer than it takes to find it on the log's kernel."""

Status = Literal["shown", "absent", "masked", "another", "refused"]


@attrs.frozen
class Change:
    """The flaw comes or goes between two kernels of a chain; `at` are the kernels that may have changed it.

    These are several if kernels in between have no answer.
    """

    at: tuple[str, ...]
    is_cure: bool


@attrs.define
class History:
    """The probes of one flaw. `own` is the kernel of the log.

    `added` and `removed` are the probes of a kernel with one more fix, and with one fix less, by kernel and fix.
    `parts` are those of the log's kernel without one of its changes. `search` is a search on the log's kernel, which
    tells how long the flaw takes to find.
    """

    question: Question
    own: Kernel
    workers: int = 1
    progress: Callable[[Probe], None] | None = None
    search: Probe | None = None
    plain: dict[str, Probe] = attrs.field(factory=dict)
    parts: list[Probe] = attrs.field(factory=list)
    added: dict[tuple[str, str], Probe] = attrs.field(factory=dict)
    removed: dict[tuple[str, str], Probe] = attrs.field(factory=dict)

    def write(self) -> None:
        """Probe all kernels; after a KeyboardInterrupt the history has the answers up to then."""
        (self.search,) = in_order(search_again, [(str(self.own), (self.question, self.own))], workers=1)
        for answer in self._probes(Kernel(name) for name in KERNELS):
            self.plain[answer.kernel.profile] = answer
        for answer in self._probes(self.own.parts()):
            self.parts.append(answer)
        self._add_fixes([self.own])
        self._remove_fixes()
        self._add_fixes([self.plain[name].kernel for name in self._maybe_masked()])

    def _probes(self, kernels: Iterable[Kernel]) -> Iterable[Probe]:
        wanted = list(kernels)
        for answer in in_order(probe, [(str(one), (self.question, one)) for one in wanted], self.workers):
            if self.progress is not None:
                self.progress(answer)
            yield answer

    def _add_fixes(self, kernels: Sequence[Kernel]) -> None:
        wanted = [(str(one), fix, other) for one in kernels for fix, other in one.with_fixes(self._matters_on(one))]
        for (name, fix, _), answer in zip(wanted, self._probes(other for *_, other in wanted), strict=True):
            self.added[name, fix] = answer

    def _remove_fixes(self) -> None:
        """Take the fixes out of each kernel that has them new, and does not show the flaw of the kernel before it."""
        wanted = [
            (after, fix, other)
            for before, after in self._neighbours()
            if self.plain[before].sign and not self.plain[after].sign
            for fix, other in self.plain[after].kernel.without_fixes(self._matters_on(self.plain[after].kernel))
            if not self.plain[before].kernel.has_built_in(fix)
        ]
        for (name, fix, _), answer in zip(wanted, self._probes(other for *_, other in wanted), strict=True):
            self.removed[name, fix] = answer

    def _matters_on(self, kernel: Kernel) -> Callable[[list[str]], bool]:
        """A fix matters on a kernel if a function that it changes runs there."""
        known = self.plain.get(str(kernel))
        return lambda names: known is None or not known.functions.isdisjoint(names)

    # -- the answer ---------------------------------------------------------------------------------------------------

    @property
    def chains(self) -> list[list[str]]:
        """The profiles in their order, and the steps after the kernel that they were applied to."""
        return [list(PROFILES), [FIRST, *STEPS]]

    @property
    def cures(self) -> list[str]:
        """The fixes that cure the flaw on the log's own kernel."""
        return [fix for (name, fix), one in self.added.items() if name == str(self.own) and self._is_gone(one)]

    def _is_gone(self, one: Probe) -> bool:
        return not one.sign and not one.refused and not one.is_masked and self.is_enough(one)

    def is_enough(self, one: Probe) -> bool:
        """Whether a kernel was searched long enough for the flaw to show, if it is as rare as on the log's kernel."""
        found = self.search
        return one.is_all or (found is not None and bool(found.sign) and one.schedules >= ENOUGH * found.schedules)

    def status(self, one: Probe) -> Status:
        """The status of a kernel.

        A kernel that shows the flaw's sign, although it has a fix built in that cures the flaw on the log's kernel, has
        another flaw with this sign.
        """
        if one.refused:
            return "refused"
        if one.sign:
            return "another" if any(one.kernel.has_built_in(fix) for fix in self.cures) else "shown"
        return "masked" if one.is_masked or self.masks(one.kernel) else "absent"

    def masks(self, kernel: Kernel) -> list[str]:
        """The fixes with which a kernel shows the flaw that it does not show by itself."""
        return [fix for (name, fix), one in self.added.items() if name == str(kernel) != str(self.own) and one.sign]

    def cured_by(self, kernel: Kernel) -> list[str]:
        """The fixes of a kernel without which it shows the flaw."""
        return [fix for (name, fix), one in self.removed.items() if name == str(kernel) and one.sign]

    def changes(self, chain: Sequence[str]) -> list[Change]:
        """Where the flaw comes and goes in a chain of kernels; it comes with the first kernel if that has it."""
        found: list[Change] = []
        has_it, unknown = False, list[str]()
        for name in chain:
            if name not in self.plain:
                break
            status = self.status(self.plain[name])
            if status in {"masked", "refused"}:
                unknown.append(name)
                continue
            if (status == "shown") is not has_it:
                found.append(Change((*unknown, name), is_cure=has_it))
                has_it = not has_it
            unknown.clear()
        return found

    def _neighbours(self) -> list[tuple[str, str]]:
        """The kernels that follow each other in a chain."""
        return [pair for chain in self.chains for pair in itertools.pairwise(chain) if self.plain.keys() >= {*pair}]

    def _maybe_masked(self) -> list[str]:
        """The kernels without the flaw that have it on both sides, or whose schedules mostly end with other findings.

        Only those next to a kernel with the flaw count: the others do not change the answer.
        """
        pairs = self._neighbours()
        after_it = {after for before, after in pairs if self.plain[before].sign and not self.plain[after].sign}
        before_it = {before for before, after in pairs if self.plain[after].sign and not self.plain[before].sign}
        disturbed = {name for name, one in self.plain.items() if one.is_disturbed}
        return sorted((after_it & before_it) | ((after_it | before_it) & disturbed))
