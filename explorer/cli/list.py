"""The command `list`: the scenarios, kernels, patches, strategies, oracles and operations."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from explorer.defaults import OPERATIONS
from explorer.garbage import paused
from explorer.json_out import print_json
from explorer.report import make_console, styled
from explorer.search.registry import SEARCHES
from protocol.errors import UsageError
from protocol.findings import INVARIANTS, ORACLES
from protocol.vocabulary import GONE, PROFILES, STEPS, TODAY

if TYPE_CHECKING:
    from rich.text import Text

    from explorer.references import ReferenceKind

CatalogueEntry = dict[str, Any]

OURS = {"project": None, "error": None}
"""The project of built-in things; installed things have their project's name, and the error if they cannot be used."""


@paused()
def main(options: argparse.Namespace) -> int:
    """Print the catalogues; return the exit code."""
    if options.object is not None and options.what != OPERATIONS:
        msg = f"list {options.what} {options.object}: only list operations takes an OBJECT"
        raise UsageError(msg)
    if options.what == OPERATIONS:
        return _list_operations(options)
    chosen = list(_CATALOGUES) if options.what == "all" else [options.what]
    if options.json:
        print_json([{"kind": what, **entry} for what in chosen for entry in _CATALOGUES[what]()])
        return 0
    console = make_console()
    for what in chosen:
        console.print(*_lines(what))  # one call: each costs as much as several lines
    return 0


def _lines(what: str) -> Iterator[str | Text]:
    """The lines of one catalogue."""
    entries = _CATALOGUES[what]()
    steps = [entry for entry in entries if entry.get("step_of")]
    yield styled((what, "bold"), _HEADS.get(what, ""))
    yield from _entry_lines([entry for entry in entries if entry not in steps])
    if steps:
        yield "the steps of v4, a patch each, from original: each with the functions that differ from the one above"
        yield from _entry_lines(steps)
    yield from _common_lines(what)


def _entry_lines(entries: list[CatalogueEntry]) -> Iterator[str]:
    width = max(len(entry["name"]) for entry in entries)
    for entry in entries:
        yield f"  {entry['name']:{width}}  {entry['summary'] or 'cannot be used'}"
        yield from (f"  {'':{width}}    {line}" for line in _details(entry))


def _list_operations(options: argparse.Namespace) -> int:
    from explorer.cli.operations import operation_entries

    entries = operation_entries(options.object)
    if options.json:
        print_json([{"kind": OPERATIONS, **entry} for entry in entries])
        return 0
    rows = [_operation_row(entry) for entry in entries]
    widths = [max(map(len, column)) for column in zip(_OPERATION_HEADS, *rows, strict=True)]
    head, *lines = ("  ".join(map(str.ljust, row, widths)) for row in (_OPERATION_HEADS, *rows))
    make_console().print(styled((head, "bold")), *lines)  # a Table of rich takes longer than all the rest
    return 0


_OPERATION_HEADS = ("of", "operation", "access", "part", "may", "ns", "summary")


def _operation_row(entry: CatalogueEntry) -> tuple[str, ...]:
    may = " ".join(word for word in ("wait", "sleep") if entry[f"may_{word}"])
    operation = entry["name"].partition(".")[2]
    return entry["object"], operation, entry["access"], entry["part"], may, str(entry["cost"]), entry["summary"]


def _scenario_entries() -> list[CatalogueEntry]:
    from explorer.cli.scenarios import scenario_entries

    return [{**entry, **OURS} for entry in scenario_entries()] + _installed_scenarios()


def _installed_scenarios() -> list[CatalogueEntry]:
    if not _has_entry_points("scenarios"):
        return []
    from explorer.cli.scenarios import knob_entries
    from explorer.kinds import SCENARIO

    return _installed(SCENARIO, lambda one: {"also": [], "knobs": knob_entries(one) if one else []})


def _installed(kind: ReferenceKind[Any], more: Callable[[Any], dict[str, Any]]) -> list[CatalogueEntry]:
    """The entries of installed things; *more* are the fields of this kind, also for a thing that cannot be loaded."""
    from explorer.references import installed

    return [
        {
            "name": each.name,
            "summary": getattr(each.thing, "summary", ""),
            **more(each.thing),
            "project": each.project,
            "error": each.error,
        }
        for each in installed(kind)
    ]


def _kernel_entries() -> list[CatalogueEntry]:
    from actors.versions.kernel_fn import differences

    return [
        {"name": name, "summary": summary, "differs": differences(before, name), "step_of": step_of}
        for first, kernels, step_of in ((None, {**PROFILES, **TODAY}, None), ("original", STEPS, "v4"))
        for before, (name, summary) in zip([first, *kernels], kernels.items(), strict=False)
    ]


def _patch_entries() -> list[CatalogueEntry]:
    from actors.fixes import ALL_FIXES

    return [
        {
            "name": entry.slug,
            "commit": entry.commit,
            "summary": entry.summary,
            "built_into": list(entry.built_into),
            "goes_into": entry.goes_into,
            "comes_out_of": entry.comes_out_of,
        }
        for entry in ALL_FIXES
    ]


def _strategy_entries() -> list[CatalogueEntry]:
    entries = [{"name": e.name, "argument": e.argument, "summary": e.summary, **OURS} for e in SEARCHES.values()]
    if not _has_entry_points("strategies"):
        return entries
    from explorer.search.own import STRATEGY

    return entries + _installed(STRATEGY, lambda one: {"argument": one.argument if one else ""})


def _oracle_entries() -> list[CatalogueEntry]:
    entries: list[CatalogueEntry] = [
        {"name": name, "summary": summary, "statements": INVARIANTS if name == "invariant" else {}, **OURS}
        for name, summary in ORACLES.items()
    ]
    if not _has_entry_points("oracles"):
        return entries
    from explorer.kinds import ORACLE

    return entries + _installed(ORACLE, lambda _one: {"statements": {}})


def _has_entry_points(kind: str) -> bool:
    """Whether an installed project may declare any of that kind; a quick check that avoids slow imports."""
    from explorer.entry_points import may_be_declared

    return may_be_declared(f"slabrace.{kind}")


_CATALOGUES = {
    "scenarios": _scenario_entries,
    "kernels": _kernel_entries,
    "patches": _patch_entries,
    "strategies": _strategy_entries,
    "oracles": _oracle_entries,
}


_HEADS = {
    "kernels": ": each with what differs from the one above (--json: all); docs/which-kernel.md has those of hosts",
    "oracles": ": the kinds of findings; a finding of the kind invariant names a statement of those below it",
}


def _details(entry: CatalogueEntry) -> Iterator[str]:
    """Further lines about one entry."""
    if entry.get("error"):
        yield entry["error"]
        return
    if entry.get("project"):
        yield f"of {entry['project']}"
    if entry.get("argument"):
        yield f"also {entry['name']}:{entry['argument']}"
    if "knobs" in entry:
        from explorer.cli.scenarios import knob_lines_of

        yield from (f"also called {name}" for name in entry["also"])
        yield from knob_lines_of(entry["name"])
    yield from (f"{name}: {statement}" for name, statement in entry.get("statements", {}).items())
    yield from _difference_lines(entry.get("differs", []))
    if "built_into" in entry:
        yield f"{entry['commit'] or 'no commit'}; built into {', '.join(entry['built_into']) or 'none'}"


MANY = 40
"""The most functions that are listed one by one; the reader of a longer list looks for a file first."""


def _difference_lines(differences: list[dict[str, str]]) -> Iterator[str]:
    """What differs between two kernels: each function, or, if there are many, how many of each file."""
    if len(differences) <= MANY:
        yield from (f"{each['function']}() in {each['file']}: {each['summary']}" for each in differences)
        return
    gone = sum(each["summary"] == GONE for each in differences)
    yield f"{len(differences)} functions differ, {gone} of them do not exist any more; docs/kernel-map.md lists them"
    files = Counter(each["file"] for each in differences)
    yield from (f"{count:3} in {file}" for file, count in sorted(files.items(), key=lambda one: (-one[1], one[0])))


def _common_lines(what: str) -> Iterator[str]:
    """Lines below all entries."""
    if what == "scenarios":
        from explorer.cli.scenarios import common_knob_lines

        yield "every scenario, unless it says otherwise above"
        yield from (f"  {line}" for line in common_knob_lines())
