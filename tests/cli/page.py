"""docs/json.md as a schema: the objects that it describes, and a check of a command's output against them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from tests.tidy.sources import ROOT

PAGE = ROOT / "docs" / "json.md"
HEADING = re.compile(r"^### (.+)$", re.MULTILINE)
BASE = re.compile(r"^The fields of an? (.+), and:$", re.MULTILINE)
FIELD = re.compile(r"^\| `(\w+)` \| (.+?) \| .+ \|$", re.MULTILINE)

PLAIN: Mapping[str, type | tuple[type, ...]] = {
    "text": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "value": (int, str),
    "anything": object,
}


@attrs.frozen
class Page:
    """The tables of the page by their headings: the type of each field. `seen` are the objects checked so far."""

    tables: Mapping[str, Mapping[str, str]]
    seen: defaultdict[str, set[str]] = attrs.field(factory=lambda: defaultdict(set))

    @classmethod
    def read(cls, path: Path = PAGE) -> Page:
        """Read the page; a table may include the fields of another."""
        _, *parts = HEADING.split(path.read_text(encoding="utf-8"))
        texts = dict(zip(parts[::2], parts[1::2], strict=True))

        def table(name: str) -> dict[str, str]:
            base = BASE.search(texts[name])
            return {**(table(base[1]) if base is not None else {}), **dict(FIELD.findall(texts[name]))}

        return cls({name.replace("`", ""): table(name) for name in texts})

    def check(self, value: Any, kind: str, where: str = "") -> None:
        """Fail unless *value* is a *kind*, field by field."""
        wrong = self.wrong_with(value, kind, where or kind)
        assert wrong is None, wrong

    def wrong_with(self, value: Any, kind: str, where: str) -> str | None:
        """The reason why *value* is not a *kind*; None if it is one."""
        kinds = kind.split(" or ")
        if len(kinds) > 1 and kind.startswith("list of ") and isinstance(value, list):
            return self._first_wrong(((entry, kind.removeprefix("list of ")) for entry in value), where)
        if len(kinds) > 1:
            reasons = [self.wrong_with(value, one, where) for one in kinds]
            return None if None in reasons else "; ".join(filter(None, reasons))
        if kind.startswith("list of "):
            entries = value if isinstance(value, list) else None
            inner = kind.removeprefix("list of ")
        elif kind.startswith("map of "):
            entries = list(value.values()) if isinstance(value, dict) else None
            inner = kind.removeprefix("map of ")
        else:
            return self._wrong_with_one(value, kind, where)
        if entries is None:
            return f"{where} is {value!r:.60}, no {kind}"
        return self._first_wrong(((entry, inner) for entry in entries), where)

    def _first_wrong(self, entries: Any, where: str) -> str | None:
        return next(filter(None, (self.wrong_with(entry, kind, f"{where}[]") for entry, kind in entries)), None)

    def _wrong_with_one(self, value: Any, kind: str, where: str) -> str | None:
        if kind in PLAIN:
            fits = isinstance(value, PLAIN[kind]) and (kind in {"boolean", "anything"} or not isinstance(value, bool))
            return None if fits else f"{where} is {value!r:.60}, no {kind}"
        fields = self.tables[kind]
        if not isinstance(value, dict) or value.keys() != fields.keys():
            odd = sorted(value.keys() ^ fields.keys()) if isinstance(value, dict) else f"{value!r:.60}"
            return f"{where} is no {kind}: {odd}"
        self.seen[kind] |= value.keys()
        return next(
            filter(None, (self.wrong_with(value[name], of, f"{where}.{name}") for name, of in fields.items())), None
        )
