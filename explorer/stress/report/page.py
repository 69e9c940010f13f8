"""The report as one HTML file. It has no script, and loads nothing; its policy forbids both.

Names and texts of a store come from users' files: all of them are escaped, and control characters are made visible.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
import jinja2
import msgspec

from explorer.streams import as_text, shell_word
from explorer.stress.queries import Row, is_new
from explorer.stress.report import curve
from explorer.stress.report.facts import Facts

MOST_ROWS = 200
"""Rows of a long table; `slabrace query` has them all."""

MOST_NAMES = 6
"""Causes that one place of the matrix names."""


@attrs.define
class Place:
    """A place of the matrix: the cells of a scenario on a kernel, and the causes that they have shown."""

    cells: int = 0
    schedules: int = 0
    closed: int = 0
    causes: list[Row] = attrs.field(factory=list)


@attrs.frozen
class Matrix:
    """The places by scenario and kernel."""

    scenarios: Sequence[str]
    kernels: Sequence[str]
    places: dict[tuple[str, str], Place]


def to_html(facts: Facts) -> str:
    """The page."""
    causes = {cause["id"]: cause for cause in facts.causes}
    ways = list(dict.fromkeys(row["way"] for row in sorted(facts.tables["first"], key=lambda row: row["way"])))
    return (
        _environment()
        .get_template("report.html")
        .render(
            facts=facts,
            summary=facts.summary,
            request=None if facts.request is None else json.dumps(msgspec.to_builtins(facts.request), indent=1),
            store=shell_word(facts.store),
            panels=curve.panels(facts),
            frame=curve,
            causes=causes,
            new=facts.new,
            others=[cause for cause in facts.causes if not is_new(cause)],
            matrix=matrix_of(facts),
            most_names=MOST_NAMES,
            most_rows=MOST_ROWS,
            ways=ways,
            first=first_by_cause(facts),
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("explorer.stress.report", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=printable,
    )
    environment.tests["new"] = is_new
    environment.filters["label"] = label
    environment.filters["number"] = "{:,}".format
    environment.filters["percent"] = "{:.2%}".format
    return environment


def printable(value: Any) -> Any:
    """A value to be put into the page: control characters of a text are visible, lines stay lines."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "\n".join(map(as_text, value.split("\n")))


def label(cause: Row) -> str:
    """A short name for a cause: the section that judges it, or its number."""
    return str(cause["cause"]) if cause["judged"] else f"#{cause['id']}"


def matrix_of(facts: Facts) -> Matrix:
    """The matrix of scenarios and kernels, in the order of the cells."""
    cells = sorted(facts.tables["cells"], key=lambda cell: cell["id"])
    places: dict[tuple[str, str], Place] = {}
    seen: dict[tuple[str, str], set[int]] = {}
    for cell in cells:
        key = cell["scenario"], cell["kernel"]
        place = places.setdefault(key, Place())
        place.cells += 1
        place.schedules += cell["schedules"]
        place.closed += cell["state"] == "closed"
        seen.setdefault(key, set()).update(facts.seen.get(cell["id"], {}))
    for key, place in places.items():
        place.causes = [cause for cause in facts.causes if cause["id"] in seen[key]]
    return Matrix(
        list(dict.fromkeys(cell["scenario"] for cell in cells)),
        list(dict.fromkeys(cell["kernel"] for cell in cells)),
        places,
    )


def first_by_cause(facts: Facts) -> dict[int, dict[str, int]]:
    """For each cause the schedules of each way until it first showed it."""
    found: dict[int, dict[str, int]] = {}
    for row in facts.tables["first"]:
        found.setdefault(row["id"], {})[row["way"]] = row["schedules"]
    return found
