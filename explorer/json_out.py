"""JSON that commands print, for other programs: docs/json.md names every field."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from protocol.findings import Finding
    from protocol.records import Header

SCHEMA = 1
"""The version of what docs/json.md says: another one once a field goes or means something else, not for a new one."""


def with_schema(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object that says first which schema it is of."""
    return {"schema": SCHEMA, **value}


def json_text(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """The object, or the list of objects, as one line of ASCII; each of them says which schema it is of."""
    told = with_schema(value) if isinstance(value, Mapping) else [with_schema(entry) for entry in value]
    return json.dumps(told, allow_nan=False) + "\n"


def print_json(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print it: a command's answer, on standard output."""
    sys.stdout.write(json_text(value))


def as_json(value: object) -> Any:
    """A record as what json.dumps() takes: an object of its fields, enumerations as their values."""
    return msgspec.to_builtins(value)


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding, with its signature and the statement that an invariant's name stands for."""
    return {**as_json(finding), "signature": finding.signature, "meaning": finding.meaning}


def patches_json(header: Header) -> list[str]:
    """What was laid over the kernel, and taken out of it."""
    return [patch.name for patch in header.patches] + [f"without {name}" for name in header.without]
