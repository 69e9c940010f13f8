"""JSON output of the commands, for other programs; docs/json.md describes every field."""

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
"""The version of the schema in docs/json.md. A new field keeps it; a field removed or redefined increases it."""


def with_schema(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object, with the version of its schema as first field."""
    return {"schema": SCHEMA, **value}


def json_text(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """The object, or the list of objects, as one line of ASCII; each object has the version of its schema."""
    told = with_schema(value) if isinstance(value, Mapping) else [with_schema(entry) for entry in value]
    return json.dumps(told, allow_nan=False) + "\n"


def print_json(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print a command's JSON answer on standard output."""
    sys.stdout.write(json_text(value))


def as_json(value: object) -> Any:
    """A record as a value for json.dumps(): an object of its fields, enumerations as their values."""
    return msgspec.to_builtins(value)


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding, with its signature, and with the statement of the invariant if it names one."""
    return {**as_json(finding), "signature": finding.signature, "meaning": finding.meaning}


def patches_json(header: Header) -> list[str]:
    """The patches laid over the kernel, and the fixes taken out of it."""
    return [patch.name for patch in header.patches] + [f"without {name}" for name in header.without]
