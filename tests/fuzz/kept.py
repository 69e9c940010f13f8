"""Damaged regression files, and the rules for a valid one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from explorer.cli import main
from tests.fuzz.logs import Good
from tests.fuzz.msgpacked import NUMBERS, TEXTS, Raw
from tests.fuzz.texts import LONG

Fields = dict[str, Any]
KEPT = "kept/one.json"

LONG_TEXT = Raw(b'"' + b"x" * 100_000 + b'"')
"""A text that is valid, and of a length that nobody expects."""

BROKEN = (
    *(
        Raw(text.encode())
        for text in ("NaN", "-Infinity", "1e999", LONG, "-1", "1.0", "01", "nul", "", '"\\ud800"', "'x'")
    ),
    Raw(b"[" * 100_000),
    Raw(b'{"a":' * 5_000 + b"0" + b"}" * 5_000),
    Raw(b'{"a": 1, "a": 2}'),
    Raw(b'"\xff"'),
    LONG_TEXT,
)
"""Texts that are not JSON, or values that a program should not accept."""

scalars = st.sampled_from([None, True, False, *TEXTS, *NUMBERS])
values = st.recursive(
    scalars | st.sampled_from(BROKEN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TEXTS), inner, max_size=3),
    max_leaves=4,
)

SENSIBLE: dict[str, tuple[Any, ...]] = {
    "knobs": ({"slabinfo": "/etc/passwd"}, {"rounds": 0}, {"rounds": True}, {"nope": 1}, {"allocator": 5}, {}),
    "patches": ([{"name": "x", "path": "\0", "sha256": ""}], [{"path": "x.py"}], {}, [{"name": "/etc/passwd"}]),
    "oracles": ([{"name": "leak"}], [{"name": "x.py"}], [{"name": "x.py", "path": "/etc/passwd", "sha256": ""}], {}),
    "scenario_code": ({"name": "canary"}, {"name": "x.py:x", "path": "x.py"}, [], "x.py", {"path": "x.py"}),
    "schedule": ([], [-1], [10**30], [True], "count0", ["count1", "count0"], [0, 1, 0, 1]),
    "faults": ({"page": 2}, {"page": -0.1}, {"page": True}, {"page": 0.5}, {"nope": 0.5}),
    "kernel": ("v7", "original", "9.9"),
    "format": (1, 3, 2.0, True, "2"),
}
"""Plausible values of fields, and some values just outside the permitted ones."""


def make_kept_file(folder: Path, good: Good) -> Fields:
    """Keep the finding of the canary's log, as one that is expected."""
    log = folder / "kept.log"
    log.write_bytes(good.data)
    assert main(["keep", str(log), "--dir", str(folder / "kept"), "--name", "one", "--expect", "finding"]) == 0
    fields: Fields = json.loads((folder / KEPT).read_text())
    return fields


def dump(value: Any) -> bytes:
    """*value* as JSON, with every `Raw` in it as it is."""
    match value:
        case Raw(data):
            return data
        case list():
            return b"[" + b", ".join(map(dump, value)) + b"]"
        case dict():
            return b"{" + b", ".join(dump(str(key)) + b": " + dump(item) for key, item in value.items()) + b"}"
    return json.dumps(value).encode()


@st.composite
def edited(draw: st.DrawFn, fields: Fields) -> Fields:
    """*fields* with one field changed, or with one value inside a field changed."""
    name = draw(st.sampled_from(sorted(fields)))
    if draw(st.integers(0, 2)) == 0:
        name = draw(st.sampled_from(sorted(SENSIBLE)))
        return {**fields, name: draw(st.sampled_from(SENSIBLE[name]))}
    inner, choice = fields[name], draw(st.integers(0, 9))
    if choice == 0:
        return {key: value for key, value in fields.items() if key != name}
    if choice == 1:
        return {**fields, draw(st.sampled_from(["unknown", "self", ""])): draw(values)}
    if isinstance(inner, list) and inner and choice < 6:
        at = draw(st.integers(0, len(inner) - 1))
        return {**fields, name: [*inner[:at], draw(values), *inner[at + 1 :]]}
    if isinstance(inner, dict) and inner and choice < 6:
        return {**fields, name: draw(edited(inner)) if set(inner) & set(fields) else {**inner, "rounds": draw(values)}}
    return {**fields, name: draw(values)}


def texts_of(fields: Fields) -> st.SearchStrategy[tuple[Fields, bytes]]:
    """Fields that differ from *fields*, and the file with them."""
    return edited(fields).map(lambda changed: (changed, dump(changed)))


# -- the rules for a valid file ---------------------------------------------------------------------------------------


def is_text(value: object) -> bool:
    return isinstance(value, str) or value == LONG_TEXT


def is_list(of: Callable[[Any], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(of, value))


def is_object(of: Callable[[Any], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(map(of, value.values()))


def is_number(value: object) -> bool:
    return type(value) is int and value >= 0


NEEDED: dict[str, Callable[[Any], bool]] = {
    "format": lambda value: type(value) is int and value == 2,
    **dict.fromkeys(["scenario", "kernel", "signature", "slabrace"], is_text),
    "schedule": is_list(lambda choice: is_text(choice) or is_number(choice)),
}
OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "expects": ("nothing", "finding").__contains__,
    "knobs": is_object(lambda value: is_text(value) or is_number(value)),
    "check": ("off", "quiescent", "step").__contains__,
    **dict.fromkeys(["patches", "oracles"], is_list(is_object(is_text))),
    "scenario_code": lambda value: value is None or is_object(is_text)(value),
    "without": is_list(is_text),
    "faults": is_object(lambda value: type(value) in (int, float) and 0 <= value <= 1),
    "keeps_time": (True, False).__contains__,
}


def fits(fields: Fields) -> bool:
    """Whether each field has a value of its kind, and there is no other field."""
    known = NEEDED | OPTIONAL
    return (
        fields.keys() <= known.keys()
        and NEEDED.keys() <= fields.keys()
        and all(known[name](value) for name, value in fields.items())
    )
