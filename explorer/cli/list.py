"""The command `list`: what there is to choose from."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from explorer.json_out import print_json
from explorer.report import make_console, styled
from explorer.search.registry import SEARCHES
from protocol.findings import INVARIANTS, ORACLES

Entry = dict[str, Any]


def main(options: argparse.Namespace) -> int:
    """Print it; return the exit code."""
    chosen = list(_CATALOGUES) if options.what == "all" else [options.what]
    if options.json:
        print_json([{"kind": what, **entry} for what in chosen for entry in _CATALOGUES[what]()])
        return 0
    console = make_console()
    for what in chosen:
        entries = _CATALOGUES[what]()
        width = max(len(str(entry["name"])) for entry in entries)
        console.print(styled((what, "bold"), _HEADS.get(what, "")))
        for entry in entries:
            console.print(f"  {entry['name']!s:{width}}  {entry['summary']}")
            for line in _details(entry):
                console.print(f"  {'':{width}}    {line}")
        for line in _common_lines(what):
            console.print(line)
    return 0


def _scenario_entries() -> list[Entry]:
    from explorer.cli.catalogues import scenario_entries

    return scenario_entries()


def _kernel_entries() -> list[Entry]:
    from explorer.cli.catalogues import kernel_entries

    return kernel_entries()


def _patch_entries() -> list[Entry]:
    from explorer.cli.catalogues import patch_entries

    return patch_entries()


def _strategy_entries() -> list[Entry]:
    return [{"name": e.name, "argument": e.argument, "summary": e.summary} for e in SEARCHES.values()]


def _oracle_entries() -> list[Entry]:
    return [
        {"name": name, "summary": summary, "statements": INVARIANTS if name == "invariant" else {}}
        for name, summary in ORACLES.items()
    ]


_CATALOGUES = {
    "scenarios": _scenario_entries,
    "kernels": _kernel_entries,
    "patches": _patch_entries,
    "strategies": _strategy_entries,
    "oracles": _oracle_entries,
}


_HEADS = {
    "kernels": ": each with the functions that differ from the one above; docs/which-kernel.md lists kernels of hosts",
    "oracles": ": the kinds of findings; a finding of the kind invariant names a statement of those below it",
}


def _details(entry: Entry) -> Iterator[str]:
    """What else there is to say of one entry, a line each."""
    if "knobs" in entry:
        from explorer.cli.catalogues import knob_lines_of

        yield from (f"also called {name}" for name in entry["also"])
        yield from knob_lines_of(entry["name"])
    yield from (f"{name}: {statement}" for name, statement in entry.get("statements", {}).items())
    for difference in entry.get("differs", ()):
        yield f"{difference['function']}() in {difference['file']}: {difference['summary']}"
    if "built_into" in entry:
        yield f"{entry['commit'] or 'no commit'}; built into {', '.join(entry['built_into']) or 'none'}"


def _common_lines(what: str) -> Iterator[str]:
    """What is said below all entries."""
    if what == "scenarios":
        from explorer.cli.catalogues import common_knob_lines

        yield "every scenario, unless it says otherwise above"
        yield from (f"  {line}" for line in common_knob_lines())
