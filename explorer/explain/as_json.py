"""An explanation as one JSON object, for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explorer.explain.conflict import Conflict
from explorer.explain.rows import Row, StepRow, rows_of
from explorer.explain.text import why_no_conflict
from explorer.json_out import as_json, finding_json, patches_json
from explorer.report import is_file_text

if TYPE_CHECKING:
    from explorer.explain.explanation import Explanation
    from explorer.trace import TracedStep


def to_json(explanation: Explanation) -> dict[str, Any]:
    """The facts of the text as JSON. docs/json.md describes the keys."""
    header, finding, trace = explanation.header, explanation.finding, explanation.trace
    return {
        "outcome": "finding",
        "scenario": header.scenario,
        "kernel": header.kernel,
        "parameters": short_parameters(header.parameters),
        "patches": patches_json(header),
        "faults": dict(header.faults),
        "log": str(explanation.log) if explanation.log is not None else None,
        "signature": finding.signature,
        "finding": finding_json(finding),
        "steps": len(trace.steps),
        "steps_that_matter": len(explanation.important),
        "rows": [row_json(row) for row in rows_of(explanation)],
        "cause": list(explanation.cause),
        "conflict": conflict_json(explanation),
        "first_difference": difference_json(explanation),
        "plain_order_shows_it": explanation.plain_shows_it,
        "needs_timing": explanation.needs_timing,
        "reproduced": {
            "runs": explanation.runs,
            "shown": sum(explanation.reproduced.values()),
            "by_driver": dict(explanation.reproduced),
        },
    }


def short_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """The knobs, without the texts of whole files: the log has them."""
    return {name: value for name, value in parameters.items() if not is_file_text(value)}


def step_json(step: TracedStep) -> dict[str, Any]:
    """One step as JSON."""
    return {
        "step": step.number,
        "time": step.time,
        "flow": step.lane,
        "kind": step.kind,
        "cpu": step.cpu,
        "function": step.function,
        "operation": step.operation,
        "owner": step.owner,
        "values": list(step.values),
        "enabled": list(step.enabled),
    }


def row_json(row: Row) -> dict[str, Any]:
    """One line of the table as JSON."""
    if isinstance(row, StepRow):
        return {"row": "step", **step_json(row.step), "ran_ahead_of": row.ahead_of or None, "notes": list(row.notes)}
    return {"row": "steps", **as_json(row)}


def conflict_json(explanation: Explanation) -> dict[str, Any]:
    """The racing pair that is the cause, and the next ones; or the reason why there is none."""
    conflicts = explanation.conflicts
    if not conflicts.found:
        return {"found": False, "why": why_no_conflict(explanation)}
    nearest, *others = (pair_json(explanation, conflict) for conflict in conflicts.found)
    return {"found": True, **nearest, "runs": conflicts.runs, "next": others}


def pair_json(explanation: Explanation, conflict: Conflict) -> dict[str, Any]:
    """One racing pair as JSON."""
    return {
        "thing": conflict.thing,
        "nearness": conflict.nearness.name.lower(),
        "first": side_json(explanation, conflict, is_first=True),
        "second": side_json(explanation, conflict, is_first=False),
        "first_before_second": explanation.finding.signature,
        "second_before_first": list(conflict.others),
        "way": conflict.way.name.lower(),
    }


def side_json(explanation: Explanation, conflict: Conflict, *, is_first: bool) -> dict[str, Any]:
    """One step of a racing pair as JSON."""
    place = conflict.first if is_first else conflict.second
    return {**step_json(explanation.trace.steps[place]), "access": conflict.how[0 if is_first else 1]}


def difference_json(explanation: Explanation) -> dict[str, Any] | None:
    """The first difference from a run that passes, as JSON; None if there is no such run."""
    difference = explanation.difference
    if difference is None:
        return None
    here, there = difference.here, difference.there
    return {
        "from": difference.which,
        "here": step_json(here) if here is not None else None,
        "there": step_json(there) if there is not None else None,
    }
