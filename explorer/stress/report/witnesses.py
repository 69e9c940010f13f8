"""A witness of each cause: one log that shows it, shrunk and explained as far as the time allows.

Code that a log carries runs only with trust, as everywhere.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import msgspec

from explorer.experiment import Experiment, Given
from explorer.explain import explain_log
from explorer.explain.text import GO_ON, sections
from explorer.report import PlainConsole, as_arguments, show_finding
from explorer.schedule import Follow
from explorer.session import record
from explorer.shrink import Shrinker, reproduce
from explorer.streams import as_text
from explorer.stress.bugs import beside
from explorer.stress.store import FINDINGS, StoreError
from explorer.trace import trace_log
from protocol.errors import UsageError
from protocol.findings import Finding
from protocol.log import LogReader

if TYPE_CHECKING:
    from sqlite3 import Row

    from explorer.stress.store import Store

SHRINK_RUNS, EXPLAIN_RUNS = 500, 200
"""Most runs to shrink a log, and to look for the conflicts of its finding."""

SHARE = 4
"""A log may have this part of the whole time, so that one long log does not leave the others without any."""

OUT_OF_TIME = "the time of this report was used up; --seconds gives it more"


@attrs.define
class Witness:
    """A log that shows a cause, first in schedule number *first* of a cell, and its shrunk log, if there is one.

    `explanation` has the sections of `slabrace explain`. `why_not` says why it is not shrunk, or not explained.
    """

    store: Path
    bug: int
    cell: int
    cell_name: str
    job: int
    first: int
    finding: Finding
    log: str
    short: str
    explanation: list[tuple[str, list[str]]] = attrs.field(factory=list)
    why_not: str = ""

    @classmethod
    def of(cls, folder: Path, row: Row) -> Witness:
        """The witness of a row of the query below."""
        finding = msgspec.json.decode(row["finding"], type=Finding)
        return cls(
            folder, row["bug"], row["cell"], row["name"], row["job"], row["first"], finding, row["log"], row["short"]
        )

    @property
    def path(self) -> Path:
        """The log to look at: the shrunk one, if there is one."""
        name = Path(as_text(self.short or self.log)).name  # the store may come from anywhere
        return self.store / FINDINGS / name

    @property
    def commands(self) -> list[str]:
        """The next commands, for copying, with the files that the log needs; none if it cannot be read."""
        try:
            with closing(LogReader(self.path)) as log:
                arguments = as_arguments(self.path, log.header)
        except UsageError:
            return []
        names = ["replay", "explain", *([] if self.short else ["shrink"]), "keep"]
        return [f"slabrace {name} {arguments}" for name in names]

    @property
    def report(self) -> str:
        """The finding as the kernel would print it."""
        out = io.StringIO()
        show_finding(PlainConsole(out), self.finding, ())
        return out.getvalue()


def witnesses_of(store: Store) -> dict[int, Witness]:
    """A witness of each bug: of its latest campaign; one that is shrunk already, or the first."""
    rows = store.rows(
        "WITH choice AS ("
        "  SELECT bug, cell, name, signature, witnesses.job, witnesses.first, finding, log, short, row_number() OVER"
        "  (PARTITION BY bug ORDER BY campaign DESC, short = '', witnesses.job, cell, signature) AS place"
        "  FROM witnesses JOIN (SELECT DISTINCT cell, signature, bug FROM sightings) USING (cell, signature)"
        "  JOIN cells ON cells.id = cell)"
        " SELECT * FROM choice WHERE place = 1 ORDER BY bug"
    )
    return {row["bug"]: Witness.of(store.folder, row) for row in rows}


def study(witnesses: Sequence[Witness], seconds: float, *, trust: bool, told: Callable[[str], None]) -> None:
    """Shrink and explain logs until the time is used up; a witness that cannot be gets the reason.

    *told* is called with a line before each of them.
    """
    begin = time.monotonic()
    for number, witness in enumerate(witnesses, 1):
        now = time.monotonic()
        told(f"cause {number} of {len(witnesses)}: {witness.finding.message}")
        if now >= begin + seconds:
            witness.why_not = OUT_OF_TIME
            continue
        try:
            if not witness.short:
                shorten(witness, min(begin + seconds, now + seconds / SHARE), trust=trust)
            experiment = open_log(witness.path, trust=trust)
            explanation = explain_log(experiment, witness.path, witness.finding.signature, budget=EXPLAIN_RUNS)
        except UsageError as error:
            witness.why_not = str(error)
        else:
            witness.finding = explanation.finding
            witness.explanation = [part for part in sections(explanation) if part[0] != GO_ON]


def open_log(path: Path, *, trust: bool) -> Experiment:
    """The experiment of a log; UsageError if it is damaged, or carries code that is not trusted."""
    with closing(LogReader(path)) as log:
        files = [code.name for code in log.header.code if code.is_code]
        if files and not trust:
            msg = f"the log carries code of {', '.join(files)}, which runs only with --trust"
            raise UsageError(msg)
        experiment = Experiment.of_log(log, Given(trust=trust))
        log.check_undamaged()
        return experiment


def shorten(witness: Witness, end: float, *, trust: bool) -> None:
    """Shrink the log of a witness until *end*, and keep the short one in the store; UsageError if that fails."""
    experiment, path = open_log(witness.path, trust=trust), witness.path
    logged = trace_log(experiment, path, witness.finding.signature)
    start, controls_clock = reproduce(experiment, logged.schedule, logged.signature)
    shrinker = Shrinker(experiment, start, controls_clock=controls_clock, budget=SHRINK_RUNS, end=end)
    shrinker.shrink()
    best = shrinker.best
    assert best.found is not None, "a shrinker keeps only runs that show the flaw"
    short = path.with_suffix(".short.log")
    remove(short)
    follow = Follow(best.schedule, controls_clock=controls_clock)
    record(shrinker.experiment, "shrunk", follow, best.found, short)
    keep(witness, short.name)


def remove(short: Path) -> None:
    """Remove a short log that the store does not know (any more), or a link of that name to another place."""
    try:
        short.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{short}: cannot replace it: {error.strerror}"
        raise StoreError(msg) from None


def keep(witness: Witness, short: str) -> None:
    """Note the short log in the store, unless a campaign has replaced the long one meanwhile."""
    with beside(witness.store) as database:
        changed = database.execute(
            "UPDATE witnesses SET short = ? WHERE cell = ? AND signature = ? AND job = ? AND first = ?",
            (short, witness.cell, witness.finding.signature, witness.job, witness.first),
        ).rowcount
    if not changed:
        msg = f"{witness.path}: the campaign has replaced this log meanwhile; make the report again"
        raise StoreError(msg)
    witness.short = short
