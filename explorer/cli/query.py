"""The command `query`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from explorer.json_out import print_json
from explorer.report import make_console
from explorer.stress.queries import Row, ask
from explorer.stress.store import Store

BY_FIELD = ("summary",)
"""Questions with one row: a line for each field is easier to read."""

LEFT_OUT = frozenset({"point", "digest", "fixed_in", "sightings_ever", "steps"})
"""Fields that a table has no room for; `--json` has them."""


def main(options: argparse.Namespace) -> int:
    """Answer a question; return the exit code."""
    with Store(options.store, writes=False) as store:
        rows = ask(store, options.question)
    if options.json:
        print_json(rows)
    elif options.question == "schema":
        sys.stdout.write(rows[0]["sql"])
    else:
        show_rows(rows, by_field=options.question in BY_FIELD)
    return 0


def show_rows(rows: Sequence[Row], *, by_field: bool = False) -> None:
    """Print rows as a table, or a line for each field of the first row."""
    if not rows:
        make_console().print("nothing")
        return
    if by_field:
        table = Table(show_header=False, box=None, pad_edge=False)
        for name, value in rows[0].items():
            table.add_row(name.replace("_", " "), in_words(value))
    else:
        names = [name for name in rows[0] if name not in LEFT_OUT]
        table = Table(*(name.replace("_", " ") for name in names), box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(in_words(row[name]) for name in names))
    make_console().print(table)


def in_words(value: Any) -> str:
    """A value in a cell of a table."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case list():
            return ", ".join(map(in_words, value))
        case dict():
            return " ".join(f"{name}={in_words(inner)}" for name, inner in value.items())
        case _:
            return str(value)
