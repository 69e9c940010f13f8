"""The answer of a job, reduced where the schedules ran: counts, hashes of classes, new pairs, findings."""

from __future__ import annotations

import hashlib
from array import array
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from explorer.profile import Knowledge
from explorer.replay import Divergence
from explorer.search.jobs import Shown
from explorer.stress.plain import pack
from explorer.watch import RacingPair, mix
from protocol.findings import Finding

if TYPE_CHECKING:
    from explorer.search.jobs import JobReport

SPREAD_MASK = (1 << 40) - 1
"""Sums of spreads stay within SQLite's integers."""


class Seen(Struct, forbid_unknown_fields=True):
    """One signature in the schedules of a job: how often, in which first, and the finding there.

    `spread` is the sum of hashes of the schedules' numbers: two signatures with the same count and spread were seen in
    the same schedules. `log` is the log of the first schedule, if the cell did not know the signature.
    """

    signature: str
    count: int
    first: int
    spread: int
    finding: Finding
    log: bytes = b""


class Answer(Struct, forbid_unknown_fields=True):
    """The reduced results of a job.

    `steps` and `switches` are minimum, sum and maximum. `classes` has 8 bytes a schedule, in the order of the
    schedules. `pairs` and `functions` are those that the cell did not know; `shown` is what its guide learns.
    `disagreement` is set if the other driver had another answer.
    """

    schedules: int = 0
    with_findings: int = 0
    steps: tuple[int, int, int] = (1 << 62, 0, 0)
    switches: tuple[int, int, int] = (1 << 62, 0, 0)
    classes: bytes = b""
    lengths: Knowledge = msgspec.field(default_factory=Knowledge)
    pairs: list[RacingPair] = []
    functions: list[str] = []
    unreached: list[str] | None = None
    seen: list[Seen] = []
    shown: list[Shown] = []
    divergence: Divergence | None = None
    disagreement: str = ""

    def digest(self) -> str:
        """A hash of all of it except the logs: 32 hexadecimal digits."""
        bare = [msgspec.structs.replace(seen, log=b"") for seen in self.seen]
        return hashlib.blake2b(pack(msgspec.structs.replace(self, seen=bare)), digest_size=16).hexdigest()


def reduce(report: JobReport) -> Answer:
    """The answer of a job with this report."""
    answer = Answer(
        schedules=len(report.outcomes),
        with_findings=sum(bool(outcome.findings) for outcome in report.outcomes),
        steps=_spread_of([outcome.steps for outcome in report.outcomes]),
        switches=_spread_of([outcome.switches for outcome in report.outcomes]),
        classes=array("Q", [int(outcome.trace_class, 16) for outcome in report.outcomes]).tobytes(),
        lengths=report.lengths,
        pairs=sorted(report.pairs),
        functions=sorted(report.functions),
        unreached=None if report.unreached is None else sorted(report.unreached),
        shown=report.shown,
        divergence=report.divergence,
    )
    seen: dict[str, Seen] = {}
    for outcome in report.outcomes:
        for finding in outcome.findings:
            one = seen.setdefault(finding.signature, Seen(finding.signature, 0, outcome.number, 0, finding))
            one.count += 1
            one.spread = (one.spread + mix(outcome.number, 0)) & SPREAD_MASK
    answer.seen = [seen[signature] for signature in sorted(seen)]
    return answer


def _spread_of(values: list[int]) -> tuple[int, int, int]:
    return (min(values), sum(values), max(values)) if values else (1 << 62, 0, 0)
