"""The judgements of known findings: which signatures are true of which kernels, on which stages, and by which cause.

docs/findings.md is the page that people read and change. `judgements.json` has its table for an installed slabrace;
`python -m benchmarks findings --table` writes it, and a test compares the two.
"""

from __future__ import annotations

import fnmatch
import functools
import json
from collections.abc import Iterable, Sequence
from importlib import resources

import attrs

from actors.versions.profiles import profile_range
from protocol.errors import UsageError
from protocol.vocabulary import PROFILES
from scenarios import OF_TODAY, SCENARIOS

FILE = "judgements.json"
ALL_BUT = "all but "


@attrs.frozen
class Judgement:
    """The verdict on signatures that match *pattern*, on these kernels and these stages.

    The signature alone is not enough: elsewhere another flaw may have it. `section` has the causes (`F5`, or `F4, B7`).
    """

    pattern: str
    kernels: frozenset[str]
    stages: frozenset[str]
    verdict: str
    section: str

    @classmethod
    def of(cls, row: Sequence[str]) -> Judgement:
        """The judgement of a row of the table: pattern, kernels, stages, verdict, section."""
        pattern, kernels, stages, verdict, section = row
        named = (kernel for part in kernels.split(",") for kernel in kernels_of(part.strip()))
        return cls(pattern, frozenset(named), frozenset(stages_of(stages)), verdict, section)

    def covers(self, kernel: str, stage: str, signature: str) -> bool:
        """Whether the row judges this finding."""
        return kernel in self.kernels and stage in self.stages and fnmatch.fnmatchcase(signature, self.pattern)


@functools.cache
def known_judgements() -> tuple[Judgement, ...]:
    """All judgements, in the order of the page."""
    text = resources.files("explorer").joinpath(FILE).read_text(encoding="utf-8")
    return tuple(Judgement.of(row) for row in json.loads(text))


def judgement_of(kernel: str, stage: str, signature: str) -> Judgement | None:
    """The first judgement of a finding; None if it has none."""
    return next((one for one in known_judgements() if one.covers(kernel, stage, signature)), None)


def elsewhere(kernel: str, signature: str) -> str:
    """The causes that have this signature on other stages of the kernel, with commas; it may be another flaw."""
    rows = (one for one in known_judgements() if kernel in one.kernels and fnmatch.fnmatchcase(signature, one.pattern))
    return ", ".join(dict.fromkeys(one.section for one in rows))


def stages_of(text: str) -> Iterable[str]:
    """`canary, nested`, or `all but canary, nested`, which leaves out those of today's kernels alone."""
    names = [name.strip() for name in text.removeprefix(ALL_BUT).split(",")]
    known = [scenario.name for scenario in SCENARIOS]
    for name in names:
        if name not in (*known, *(scenario.name for scenario in OF_TODAY)):
            msg = f"docs/findings.md: there is no stage {name}"
            raise UsageError(msg)
    return [name for name in known if name not in names] if text.startswith(ALL_BUT) else names


def kernels_of(text: str) -> Iterable[str]:
    """`v2..v7`, `v4#5..v4#7`, `all` (the ten kernels) or one kernel."""
    return PROFILES if text == "all" else profile_range(text)
