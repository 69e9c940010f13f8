"""The steps of a log as structlog events: console lines, or JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TextIO

import structlog

from explorer.report import make_console
from explorer.streams import as_text
from protocol.log import LogReader, Names, Step

Event = tuple[str, dict[str, Any]]


def make_logger(file: TextIO, *, json: bool) -> structlog.typing.FilteringBoundLogger:
    """A logger that prints events to *file*."""
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.JSONRenderer()]
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


def join_stack(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A finding's stack as one text, innermost first; the renderer takes `stack` for one of Python's."""
    if "stack" in event:
        event["called"] = " < ".join(event.pop("stack"))
    return event


def show_as_text(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Let no name or value do anything to a terminal; what is no text is shown by its repr, which is plain."""
    return {as_text(str(key)): as_text(value) if isinstance(value, str) else value for key, value in event.items()}


def has_colors() -> bool:
    """Whether standard output is a terminal that shows colours, and they are wanted."""
    console = make_console()
    return console.color_system is not None and not console.no_color


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
