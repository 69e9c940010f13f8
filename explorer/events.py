"""The steps of a log as structlog events: console lines, or JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TextIO

import structlog

from explorer.json_out import with_schema
from protocol.log import LogReader, Names, Step

Event = tuple[str, dict[str, Any]]


def make_logger(file: TextIO, *, json: bool) -> structlog.typing.FilteringBoundLogger:
    """A logger that prints events to *file*."""
    renderers: list[structlog.typing.Processor] = (
        [add_schema, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if json
        else [join_stack, structlog.dev.ConsoleRenderer(colors=file.isatty(), pad_event_to=8, sort_keys=False)]
    )
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(file),
        processors=renderers,
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    return logger


def add_schema(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Which schema the line is of; docs/json.md names its fields."""
    return with_schema(event)


def join_stack(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A finding's stack as one text, innermost first; the renderer takes `stack` for one of Python's."""
    if "stack" in event:
        event["called"] = " < ".join(event.pop("stack"))
    return event


def read_events(log: LogReader, *, first: int, last: int | None) -> Iterator[Event]:
    """The events of *log* from step *first* to *last*, in order, with names for numbers."""
    names = Names()
    number, now = 0, 0
    for _, record in log.records():
        if isinstance(record[0], int):
            step = Step(*record)
            now += step.dt
            if last is not None and number > last:
                return
            if number >= first:
                yield "step", _describe_step(names, step, number, now)
            number += 1
            continue
        names.learn(record)
        if number > first:
            yield from _describe_other(names, record, number - 1)


def _describe_step(names: Names, step: Step, number: int, now: int) -> dict[str, Any]:
    flow, kind, cpu = names.lane(step)
    operation, access = names.operations[step.operation]
    return {
        "step": number,
        "time": now,
        "flow": flow,
        "kind": kind,
        "cpu": cpu,
        "function": names.functions[step.function],
        "operation": operation,
        "access": access,
        "owner": names.owners[step.owner],
        "choice": step.index,
        "enabled": names.enabled(step),
    }


def _describe_other(names: Names, record: list[Any], number: int) -> Iterator[Event]:
    match record:
        case ["value", count, value]:
            yield "value", {"step": number, "value": value, "of": count}
        case ["phase", name]:
            yield "phase", {"step": number, "name": name}
        case ["moved", lane, cpu]:
            yield "moved", {"step": number, "flow": names.lanes[lane][0], "cpu": cpu}
        case ["finding", finding]:
            yield "finding", finding
