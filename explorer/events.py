"""The steps of a log as structlog events: console lines, or JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TextIO

import structlog

from explorer.json_out import finding_json, with_schema
from explorer.report import make_console
from explorer.streams import as_text
from protocol.log import LogReader
from protocol.records import FindingRecord, MovedRecord, Names, PhaseRecord, Record, Step, ValueRecord

LogEvent = tuple[str, dict[str, Any]]


def make_logger(file: TextIO, *, json: bool) -> structlog.typing.FilteringBoundLogger:
    """A logger that prints events to *file*."""
    renderers: list[structlog.typing.Processor] = (
        [add_schema, structlog.processors.JSONRenderer()]
        if json
        else [
            join_stack,
            show_as_text,
            structlog.dev.ConsoleRenderer(colors=has_colors(), pad_event_to=8, sort_keys=False),
        ]
    )
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(file),
        processors=renderers,
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    return logger


def add_schema(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add the version of the schema; docs/json.md describes the fields."""
    return with_schema(event)


def join_stack(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Join a finding's stack to one text, innermost first: the renderer would take `stack` for a Python stack."""
    if "stack" in event:
        event["called"] = " < ".join(event.pop("stack"))
    return event


def show_as_text(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape control characters in keys and texts, so that none reaches a terminal; other values have a plain repr."""
    return {as_text(str(key)): as_text(value) if isinstance(value, str) else value for key, value in event.items()}


def has_colors() -> bool:
    """Whether standard output is a terminal with colours, and NO_COLOR is not set."""
    console = make_console()
    return console.color_system is not None and not console.no_color


def read_events(log: LogReader, *, first: int, last: int | None) -> Iterator[LogEvent]:
    """The events of *log* from step *first* to *last*, in order, with numbers replaced by names."""
    names = Names()
    number, now = 0, 0
    for _, record in log.records():
        if isinstance(record, Step):
            now += record.dt
            if last is not None and number > last:
                return
            if number >= first:
                yield "step", _describe_step(names, record, number, now)
            number += 1
            continue
        names.learn(record)
        if number > first:
            yield from _describe_other(names, record, number - 1)


def _describe_step(names: Names, step: Step, number: int, now: int) -> dict[str, Any]:
    lane = names.lane(step)
    operation, access = names.operations[step.operation]
    return {
        "step": number,
        "time": now,
        "flow": lane.name,
        "kind": lane.kind,
        "cpu": lane.cpu,
        "function": names.functions[step.function],
        "operation": operation,
        "access": access,
        "owner": names.owners[step.owner],
        "choice": step.index,
        "enabled": names.enabled(step),
    }


def _describe_other(names: Names, record: Record, number: int) -> Iterator[LogEvent]:
    match record:
        case ValueRecord():
            yield "value", {"step": number, "value": record.value, "of": record.count}
        case PhaseRecord():
            yield "phase", {"step": number, "name": record.name}
        case MovedRecord():
            yield "moved", {"step": number, "flow": names.lanes[record.lane].name, "cpu": record.cpu}
        case FindingRecord():
            yield "finding", finding_json(record.finding)
