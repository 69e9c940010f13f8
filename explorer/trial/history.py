"""The history of a flaw: which kernels have it, what introduces it, what cures it, and what masks it.

The kernels are probed in an order that asks only questions that can change the answer:

- the profiles, and the steps of the series;
- the log's own kernel without each of its patches, and with each fix that changes a function of the failing run;
- each kernel next to one with the flaw: without each fix that it has, and, if other findings were seen, with each fix
  that it lacks. If it shows the flaw only without a fix, that fix cures it; only with a fix, the fixed flaw masks it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import attrs

from explorer.trial.kernels import BEFORE_STEPS, STEPS, Kernel
from explorer.trial.probes import Probe, Question, probe
from explorer.trial.tasks import in_order
from protocol.vocabulary import PROFILES

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
    `parts` are those of the log's kernel without one of its changes.
    """

    question: Question
    own: Kernel
    workers: int = 1
    progress: Callable[[Probe], None] | None = None
    plain: dict[str, Probe] = attrs.field(factory=dict)
    parts: list[Probe] = attrs.field(factory=list)
    added: dict[tuple[str, str], Probe] = attrs.field(factory=dict)
    removed: dict[tuple[str, str], Probe] = attrs.field(factory=dict)

    def write(self) -> None:
        """Probe all kernels; after a KeyboardInterrupt the history has the answers up to then."""
        for answer in self._probes(Kernel(name) for name in (*PROFILES, *STEPS)):
            self.plain[answer.kernel.profile] = answer
        for answer in self._probes(self.own.parts()):
            self.parts.append(answer)
        self._add_fixes([self.own])
        edges = [self.plain[name].kernel for name in self._edges()]
        self._remove_fixes(edges)
        self._add_fixes([kernel for kernel in edges if self.plain[kernel.profile].others])

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

    def _remove_fixes(self, kernels: Sequence[Kernel]) -> None:
        wanted = [(str(one), fix, other) for one in kernels for fix, other in one.without_fixes(self._matters_on(one))]
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
        return [list(PROFILES), *([[BEFORE_STEPS, *STEPS]] if STEPS else [])]

    @property
    def cures(self) -> list[str]:
        """The fixes that cure the flaw on the log's own kernel."""
        return [fix for (name, fix), one in self.added.items() if name == str(self.own) and self._is_gone(one)]

    @staticmethod
    def _is_gone(one: Probe) -> bool:
        return not one.sign and not one.refused and not one.is_masked

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

    def _edges(self) -> list[str]:
        """The kernels without the flaw that come directly before or after one with it in a chain."""
        shown = {name for name, one in self.plain.items() if one.sign}
        pairs = [pair for chain in self.chains for pair in itertools.pairwise(chain)]
        pairs += [pair[::-1] for pair in pairs]
        return list(dict.fromkeys(name for name, other in pairs if name not in shown and other in shown))
