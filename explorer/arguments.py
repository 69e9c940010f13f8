"""The arguments of `explored` and of the fixture `explore`: names, types and ranges, checked before anything runs.

The command line reads texts, and checks them with its own parsers; an argument may be any Python object. What an
argument names (a kernel, a strategy, a knob) is looked up later, with the command line's messages.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from protocol.errors import UsageError
from protocol.formats.columns import U64, printable
from protocol.names import no_such
from scenarios.registry import Scenario


@attrs.frozen
class Rule:
    """What a value has to be: a test, and the same in words, for the user."""

    holds: Callable[[Any], bool]
    words: str


def _is_number(value: object, *types: type) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)


def _whole(least: int, words: str) -> Rule:
    """A whole number of 64 bits, as on the command line."""
    return Rule(
        lambda value: _is_number(value, int) and least <= value < U64, f"a whole number, {words} and below 2**64"
    )


def _of(*types: type, words: str) -> Rule:
    return Rule(lambda value: isinstance(value, types), words)


TEXT = Rule(lambda value: isinstance(value, str) and value.isprintable(), "one line of text, in quotes")
TEXT_OR_NONE = Rule(lambda value: value is None or TEXT.holds(value), f"{TEXT.words}, or None")
FILE = _of(str, Path, words="a text, in quotes, or a Path")
YES_NO = _of(bool, words="True or False")
LIST = _of(list, tuple, words="a list")
NAMED = Rule(
    lambda value: value is None or (isinstance(value, Mapping) and all(isinstance(name, str) for name in value)),
    "a dictionary from names to values",
)
KNOB = Rule(
    lambda value: isinstance(value, str | Path) or (_is_number(value, int) and -U64 < value < U64),
    "a whole number of at most 64 bits, a text, or a Path",
)
PROBABILITY = Rule(lambda value: _is_number(value, int, float) and 0 <= value <= 1, "a probability from 0 to 1")

RULES: Mapping[str, Rule] = {
    "scenario": _of(str, Path, Scenario, words="a name, FILE.py:NAME, or a function that @scenario declares"),
    "kernel": TEXT,
    "budget": _whole(1, "one or more"),
    "strategy": _of(str, words="a strategy's name, or FILE.py:NAME, in quotes"),
    "seed": _whole(0, "zero or more"),
    "workers": _whole(1, "one or more"),
    "settings": NAMED,
    "faults": NAMED,
    "patches": LIST,
    "oracles": LIST,
    "without": LIST,
    "check": TEXT,
    "expect": TEXT_OR_NONE,
    "must_reach": YES_NO,
    "must_exhaust": YES_NO,
    "logs": _of(str, Path, type(None), words="a text, in quotes, a Path, or None"),
}
ELEMENTS: Mapping[str, Rule] = {
    "settings": KNOB,
    "faults": PROBABILITY,
    "patches": FILE,
    "oracles": FILE,
    "without": TEXT,
}
"""The rules for each element of a list, and each value of a dictionary."""


def check_call(function: Callable[..., object], arguments: tuple[object, ...], options: Mapping[str, object]) -> None:
    """UsageError if *function* takes no such arguments: a name is unknown, or the scenario is missing or not alone."""
    signature = inspect.signature(function)
    for name in options:
        if name not in signature.parameters:
            msg = f"{name}=...: {no_such('argument', name, signature.parameters)}"
            raise UsageError(msg)
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        msg = f"{error}; give the scenario first, and all else by name"
        raise UsageError(msg) from None


def check_arguments(arguments: Mapping[str, object]) -> None:
    """UsageError, with its name and what to give, for the first argument that is not what it has to be."""
    for name, value, rule in _with_elements(arguments):
        if not rule.holds(value):
            msg = f"{printable(name)}={_shown(value)}: give {rule.words}"
            raise UsageError(msg)


def _with_elements(arguments: Mapping[str, object]) -> Iterator[tuple[str, object, Rule]]:
    """Each argument, followed by its elements, if it has any; it has been checked before they are looked at."""
    for name, value in arguments.items():
        yield name, value, RULES[name]
        pairs = (
            value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
        )
        for key, element in pairs:
            yield f"{name}[{key!r:.40}]", element, ELEMENTS[name]


def _shown(value: object) -> str:
    """The beginning of a value's text, in one line; Python has no text for a number of thousands of digits."""
    try:
        return printable(f"{value!r:.40}")
    except ValueError:
        return f"<{type(value).__name__}>"
