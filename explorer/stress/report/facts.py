"""The facts of a report, from one state of the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from explorer.search.guided import is_unbiased
from explorer.stress.matrix import Request
from explorer.stress.queries import QUESTIONS, Row, is_new, snapshot
from explorer.stress.report.witnesses import Witness, witnesses_of

if TYPE_CHECKING:
    from pathlib import Path

    from explorer.stress.store import Store

TABLES = ("cells", "causes", "first", "gaps", "unreached", "lost", "curve")


@attrs.frozen
class Facts:
    """The facts: `summary` is None before the first campaign. `tables` are answers to questions, by their names.

    `seen` has the sightings of each cause by cell, `draws` the number of draws up to the end of each epoch.
    """

    store: Path
    summary: Row | None
    request: Request | None
    tables: Mapping[str, list[Row]]
    seen: Mapping[int, Mapping[int, int]]
    draws: Mapping[int, int]
    witnesses: Mapping[int, Witness]

    @property
    def causes(self) -> list[Row]:
        """The causes of the whole store, new ones first."""
        return self.tables["causes"]

    @property
    def new(self) -> list[Row]:
        """The causes that nobody has judged yet, and that the campaign has shown."""
        return [cause for cause in self.causes if is_new(cause)]

    @property
    def headline(self) -> str:
        """The result in one line."""
        if self.summary is None:
            return "no campaign has begun"
        new, others = len(self.new), sum(not is_new(cause) and cause["sightings"] > 0 for cause in self.causes)
        causes = f"{new} new cause{'s' if new != 1 else ''}" if new else "no new cause"
        schedules, cells = self.summary["schedules"], self.summary["cells"]
        return f"{causes}, {others} known; {schedules:,} schedules of {cells:,} cell{'s' if cells != 1 else ''}"


def gather(store: Store) -> Facts:
    """The facts of the latest campaign."""
    with snapshot(store):
        latest = store.latest()
        campaign = 0 if latest is None else latest["id"]
        return Facts(
            store.folder,
            None if latest is None else QUESTIONS["summary"].answer(store, campaign)[0],
            None if latest is None else msgspec.json.decode(latest["request"], type=Request),
            {name: QUESTIONS[name].answer(store, campaign) for name in TABLES},
            _seen(store, campaign),
            _draws(store, campaign),
            witnesses_of(store),
        )


def _seen(store: Store, campaign: int) -> dict[int, dict[int, int]]:
    seen: dict[int, dict[int, int]] = {}
    for row in store.rows(
        "SELECT cell, bug, sum(count) AS count FROM sightings JOIN cells ON cells.id = cell WHERE campaign = ?"
        " GROUP BY cell, bug ORDER BY cell, bug",
        campaign,
    ):
        seen.setdefault(row["cell"], {})[row["bug"]] = row["count"]
    return seen


def _draws(store: Store, campaign: int) -> dict[int, int]:
    rows: list[Any] = store.rows(
        "SELECT epoch, way, sum(count) AS count FROM jobs WHERE campaign = ? AND state = 'done'"
        " GROUP BY epoch, way ORDER BY epoch",
        campaign,
    )
    draws, total = dict[int, int](), 0
    for row in rows:
        total += row["count"] * is_unbiased(row["way"])
        draws[row["epoch"]] = total
    return draws
