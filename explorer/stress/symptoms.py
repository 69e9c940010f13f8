"""Symptoms: new signatures that are one cause, as `explore` groups them (`explorer.explain.grouping`).

The store has for each signature the number of schedules that showed it, and the sum of hashes of their numbers. Where
both are equal on every cell, the same schedules showed the signatures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from explorer.experiment import Experiment
from explorer.explain.grouping import gone_with, rank
from explorer.streams import complain
from explorer.stress.bugs import MOVED
from explorer.stress.matrix import Point
from explorer.stress.store import FINDINGS
from explorer.trace import trace_log
from protocol.errors import UsageError
from protocol.findings import Finding

if TYPE_CHECKING:
    from sqlite3 import Row

    from explorer.stress.store import Store

NOTE = "symptom"


def mark_symptoms(store: Store, campaign: int, seed: int) -> None:
    """Mark new causes that are symptoms of another new cause as duplicates of it.

    A cause that was marked before, and that other schedules show by now, is new again. A bug that somebody has moved,
    or that has a note of somebody, stays as it is.
    """
    judged = [row[0] for row in store.rows("SELECT json_extract(fields, '$.bug') FROM events WHERE event = ?", MOVED)]
    with store.changing() as db:
        db.execute(
            "UPDATE bugs SET state = 'open', of = NULL, note = '' WHERE state = 'dup' AND note = ? AND id IN"
            " (SELECT bug FROM sightings JOIN cells ON cells.id = cell WHERE campaign = ?)"
            " AND id NOT IN (SELECT value FROM json_each(?))",
            (NOTE, campaign, msgspec.json.encode(judged).decode()),
        )
    for group in groups(store, campaign):
        left = group
        while len(left) > 1:
            first, *others = left
            try:
                gone = gone_without(store, first, seed)
            except UsageError as error:
                complain(f"{error}; which causes are symptoms of others is not known")
                break
            same = [other for other in others if other["bug"] not in judged and is_symptom(first, other, gone)]
            with store.changing() as db:
                db.executemany(
                    "UPDATE bugs SET state = 'dup', of = ?, note = ? WHERE id = ?",
                    [(first["bug"], NOTE, other["bug"]) for other in same],
                )
            left = [other for other in others if other not in same]


def groups(store: Store, campaign: int) -> Iterator[list[Row]]:
    """The witnesses of new causes that the same schedules show, the one to blame first."""
    shown: dict[int, dict[int, tuple[int, int]]] = {}
    for row in store.rows(
        "SELECT bug, cell, sum(count) count, sum(spread) & 0xFFFFFFFFFF spread FROM sightings"
        " JOIN bugs ON bugs.id = bug JOIN cells ON cells.id = cell"
        " WHERE bugs.state = 'open' AND cells.campaign = ? GROUP BY bug, cell",
        campaign,
    ):
        shown.setdefault(row["bug"], {})[row["cell"]] = row["count"], row["spread"]
    together: dict[frozenset[tuple[int, tuple[int, int]]], list[int]] = {}
    for bug, cells in shown.items():
        together.setdefault(frozenset(cells.items()), []).append(bug)
    for bugs in together.values():
        if len(bugs) > 1:
            witnesses = [witness for bug in bugs for witness in _witness(store, bug, campaign)]
            yield sorted(witnesses, key=lambda witness: rank(finding_of(witness)))


def _witness(store: Store, bug: int, campaign: int) -> list[Row]:
    return store.rows(
        "SELECT bug, point, log, finding FROM witnesses JOIN sightings USING (cell, signature)"
        " JOIN cells ON cells.id = cell WHERE bug = ? AND campaign = ? ORDER BY witnesses.cell LIMIT 1",
        bug,
        campaign,
    )


def finding_of(witness: Row) -> Finding:
    """The finding of a witness."""
    return msgspec.json.decode(witness["finding"], type=Finding)


def gone_without(store: Store, witness: Row, seed: int) -> set[str] | None:
    """The findings that vanish when the conflict of a witness is swapped; None if it has none."""
    experiment = Experiment.of(msgspec.json.decode(witness["point"], type=Point).options(seed))
    signature = finding_of(witness).signature
    trace = trace_log(experiment, store.folder / FINDINGS / witness["log"], signature)
    return gone_with(experiment, trace.schedule, signature)


def is_symptom(first: Row, other: Row, gone: set[str] | None) -> bool:
    """Whether *other* has the cause of *first*."""
    finding = finding_of(other)
    return finding.step == finding_of(first).step if gone is None else finding.signature in gone
