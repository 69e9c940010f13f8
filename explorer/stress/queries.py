"""The common questions to a store, each with a name: the answers of `slabrace query`, and the tables of reports.

A question about a campaign is about the latest one. The questions about causes are about the whole store, because a bug
has one life in all its campaigns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import attrs
import msgspec

from explorer.search.jobs import Job
from explorer.stress.plain import expand
from explorer.stress.store import Store, StoreError
from explorer.stress.summary import NEW_STATES, totals_of

Row = dict[str, Any]
Answer = Callable[[Store, int], list[Row]]

STATES = ("open", "known", "fixed", "dup", "invalid")
"""The states of a bug, as in the schema."""

JSON_COLUMNS = frozenset({"kernels", "scenarios", "signatures", "ways", "fields"})


@attrs.frozen
class Question:
    """A question with its line of help. `needs_campaign`: without a campaign there is no answer."""

    summary: str
    answer: Answer
    needs_campaign: bool = True


def ask(store: Store, name: str) -> list[Row]:
    """The rows that answer a question."""
    question = QUESTIONS[name]
    with snapshot(store):
        campaign = store.value("SELECT max(id) FROM campaigns")
        if campaign is None and question.needs_campaign:
            return []
        return question.answer(store, campaign or 0)


@contextlib.contextmanager
def snapshot(store: Store) -> Iterator[None]:
    """A block whose queries all see one state of the store, whatever a running campaign commits meanwhile.

    StoreError if a text in it is not what it should be.
    """
    store.rows("BEGIN")
    try:
        yield
    except msgspec.MsgspecError as error:
        msg = f"{store.folder}: the store is damaged: {error}"
        raise StoreError(msg) from None
    finally:
        store.rows("COMMIT")


def rows_of(query: str) -> Answer:
    """The answer of a SELECT, whose parameter `?1` is the campaign; texts of JSON are read."""
    return lambda store, campaign: [as_row(row) for row in store.rows(query, *([campaign] if "?1" in query else []))]


def as_row(row: Any) -> Row:
    """A row as a dictionary."""
    return {name: read_json(row[name]) if name in JSON_COLUMNS else row[name] for name in row.keys()}  # noqa: SIM118 -- a row of SQLite iterates over its values


def read_json(text: str) -> Any:
    """The value of a column of JSON; lists of names in their order."""
    value = msgspec.json.decode(text)
    return sorted(value) if isinstance(value, list) else value


def in_utc(seconds: float) -> str:
    """Seconds since 1970 as a date and a time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# -- the questions ----------------------------------------------------------------------------------------------------


def _summary(store: Store, campaign: int) -> list[Row]:
    totals = totals_of(store, campaign)
    (begun,) = store.rows("SELECT * FROM campaigns WHERE id = ?", campaign)
    states = {row[0]: row[1] for row in store.rows("SELECT state, count(*) FROM bugs GROUP BY state")}
    ended = store.rows(
        "SELECT schedules, seconds FROM epochs WHERE campaign = ? ORDER BY number DESC LIMIT 1", campaign
    )
    rate = next((row["schedules"] / row["seconds"] for row in ended if row["seconds"] > 0), None)
    return [
        {
            "campaigns": store.value("SELECT count(*) FROM campaigns"),
            "campaign": campaign,
            "began": in_utc(begun["began"]),
            "slabrace": begun["slabrace"],
            "model": begun["model"],
            "epochs": totals.epochs,
            "digest": totals.digest,
            "seconds": round(max(totals.seconds, *(row["seconds"] for row in ended), 0.0), 3),
            "schedules": totals.schedules,
            "schedules_per_second": None if rate is None else round(rate, 1),
            "steps": totals.steps,
            "cells": totals.cells,
            "closed_cells": totals.closed,
            "lost_jobs": totals.lost,
            "trace_classes": totals.classes,
            "trace_classes_exact": totals.is_exact,
            "chance_of_new_class": totals.chance,
            "drawn": totals.draws,
            "pairs": totals.pairs,
            **_NUMBER_OF_GAPS(store, campaign)[0],
            "unreached": sum(row["cells"] == row["of"] for row in _UNREACHED(store, campaign)),
            "new_causes": len(totals.new),
            **{state: states.get(state, 0) for state in STATES},
        }
    ]


_CELLS = rows_of(
    "SELECT id, name, scenario, kernel, strategy, state, why, schedules, with_findings, steps,"
    " (SELECT count(DISTINCT bug) FROM sightings WHERE cell = cells.id) AS causes,"
    " (SELECT count(*) FROM pairs WHERE cell = cells.id) AS pairs,"
    " classes << level AS trace_classes"
    " FROM cells WHERE campaign = ?1 ORDER BY gain / (spent + 1) DESC, id"
)

_CAUSES = rows_of(
    "WITH earliest AS ("
    "  SELECT bug, way, name, first, row_number() OVER (PARTITION BY bug ORDER BY job, first, signature) AS place"
    "  FROM sightings JOIN cells ON cells.id = cell)"
    " SELECT bugs.id, cause, bugs.state, judged, of, note, bugs.campaign, fixed_in,"
    " coalesce(sum(count) FILTER (WHERE cells.campaign = ?1), 0) AS sightings,"
    " coalesce(sum(count), 0) AS sightings_ever,"
    " count(DISTINCT cell) FILTER (WHERE cells.campaign = ?1) AS cells,"
    " json_group_array(DISTINCT kernel) FILTER (WHERE kernel IS NOT NULL) AS kernels,"
    " json_group_array(DISTINCT scenario) FILTER (WHERE scenario IS NOT NULL) AS scenarios,"
    " json_group_array(DISTINCT signature) FILTER (WHERE signature IS NOT NULL) AS signatures,"
    " coalesce((SELECT name FROM earliest WHERE bug = bugs.id AND place = 1), '') AS first_cell,"
    " coalesce((SELECT way FROM earliest WHERE bug = bugs.id AND place = 1), '') AS first_way,"
    " (SELECT first FROM earliest WHERE bug = bugs.id AND place = 1) AS first_schedule"
    " FROM bugs LEFT JOIN sightings ON bug = bugs.id LEFT JOIN cells ON cells.id = cell"
    " GROUP BY bugs.id ORDER BY bugs.state != 'open', sightings DESC, bugs.id"
)

_FIRST = rows_of(
    "WITH seen AS ("
    "  SELECT bug, way, job, first, row_number() OVER (PARTITION BY bug, way ORDER BY job, first) AS place"
    "  FROM sightings JOIN cells ON cells.id = cell WHERE campaign = ?1),"
    " earliest AS MATERIALIZED (SELECT * FROM seen WHERE place = 1),"
    " done AS ("
    "  SELECT id, first, sum(count) OVER (PARTITION BY way ORDER BY id) - count AS before"
    "  FROM jobs WHERE campaign = ?1 AND state = 'done'),"
    " shown AS MATERIALIZED (SELECT * FROM done WHERE id IN (SELECT job FROM earliest))"
    " SELECT bugs.id, cause, way, before + earliest.first - shown.first + 1 AS schedules"
    " FROM earliest JOIN shown ON shown.id = job JOIN bugs ON bugs.id = bug"
    " ORDER BY bugs.state != 'open', bugs.id, schedules, way"
)

_JOBS = rows_of(
    "SELECT way, sum(state = 'planned') AS planned, sum(state = 'leased') AS leased, sum(state = 'done') AS done,"
    " sum(state = 'lost') AS lost, coalesce(sum(count) FILTER (WHERE state = 'done'), 0) AS schedules"
    " FROM jobs WHERE campaign = ?1 GROUP BY way ORDER BY schedules DESC, way"
)

_GAPS_IN_ANY_ORDER = (
    "WITH seen AS ("
    "  SELECT DISTINCT scenario, first, second FROM pairs JOIN cells ON cells.id = cell WHERE campaign = ?1)"
    " SELECT scenario, second AS before, first AS after FROM seen EXCEPT SELECT scenario, first, second FROM seen"
)
_GAPS = rows_of(f"{_GAPS_IN_ANY_ORDER} ORDER BY 1, 2, 3")
_NUMBER_OF_GAPS = rows_of(f"SELECT count(*) AS gaps FROM ({_GAPS_IN_ANY_ORDER})")  # noqa: S608 -- the text above

_UNREACHED = rows_of(
    "WITH run AS (SELECT id, scenario FROM cells WHERE campaign = ?1 AND schedules > 0)"
    " SELECT scenario, property, count(*) AS cells,"
    " (SELECT count(*) FROM run AS other WHERE other.scenario = run.scenario) AS of"
    " FROM reaches JOIN run ON run.id = cell WHERE job IS NULL"
    " GROUP BY scenario, property ORDER BY cells < of, scenario, property"
)

_CURVE = rows_of(
    "SELECT number, schedules, steps, classes AS trace_classes, pairs, causes, chance AS chance_of_new_class, seconds,"
    " digest FROM epochs WHERE campaign = ?1 ORDER BY number"
)


def _lost(store: Store, campaign: int) -> list[Row]:
    """The lost jobs with all that a job is made of."""
    rows = store.rows(
        "SELECT jobs.id, epoch, cell, name, way, first, count, tries, kills, jobs.why, point, plan"
        " FROM jobs JOIN cells ON cells.id = cell JOIN work ON job = jobs.id"
        " WHERE jobs.campaign = ? AND jobs.state = 'lost' ORDER BY jobs.id",
        campaign,
    )
    return [_lost_row(as_row(row)) for row in rows]


def _lost_row(row: Row) -> Row:
    plan = row.pop("plan")
    return {**row, "point": msgspec.json.decode(row["point"]), "seed": expand(plan, Job).seed}


def _events(store: Store, campaign: int) -> list[Row]:
    rows = store.rows(
        "SELECT id, campaign, at, event, fields FROM events WHERE campaign = ? OR campaign IS NULL ORDER BY id",
        campaign,
    )
    return [{**as_row(row), "at": in_utc(row["at"])} for row in rows]


def _schema(_store: Store, _campaign: int) -> list[Row]:
    return [{"sql": schema_text()}]


def schema_text() -> str:
    """The schema of the stores of this slabrace, with its comments."""
    return resources.files("explorer.stress").joinpath("schema.sql").read_text(encoding="utf-8")


QUESTIONS: dict[str, Question] = {
    "summary": Question("the totals of the campaign", _summary),
    "cells": Question("the cells, those with the highest recent yield first", _CELLS),
    "causes": Question("the causes of all campaigns, new ones first", _CAUSES, needs_campaign=False),
    "first": Question("the schedules of each way until it first showed each cause", _FIRST),
    "gaps": Question("pairs of racing operations that a scenario has shown in the other order only", _GAPS),
    "unreached": Question("the `sometimes` properties that cells have not reached", _UNREACHED),
    "lost": Question("the jobs that were given up, with their arguments", _lost),
    "jobs": Question("the number of jobs of each way, by state", _JOBS),
    "curve": Question("the totals at the end of each epoch", _CURVE),
    "events": Question("the events, without those of single jobs", _events),
    "schema": Question("the schema of the database", _schema, needs_campaign=False),
}


def is_new(cause: Row) -> bool:
    """Whether nobody has judged the cause yet, and the latest campaign has shown it."""
    return cause["state"] in NEW_STATES and bool(cause["sightings"])
