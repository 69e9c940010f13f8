"""The command `list`: what there is to choose from."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from actors.fixes import ALL_FIXES
from actors.versions.kernel_fn import differences
from actors.versions.profiles import PROFILES
from explorer.cli.options import add_json
from explorer.json_out import print_json
from explorer.plans import PORTFOLIO_SUMMARY
from explorer.report import make_console, styled
from explorer.strategies import STRATEGIES, StrategyEntry
from explorer.strategies.exact import EXACT, ExactEntry
from protocol.findings import ORACLES
from scenarios import SCENARIOS, find_scenario
from scenarios.registry import MACHINE, Knob


def add_list(parser: argparse.ArgumentParser) -> None:
    """`list`."""
    parser.add_argument(
        "what",
        nargs="?",
        metavar="WHAT",
        help=f"one of {', '.join(_CATALOGUES)} (default: all)",
        choices=[*_CATALOGUES, "all"],
        default="all",
    )
    add_json(parser, "print a JSON list of objects instead")
    parser.set_defaults(command=_list)


def _scenario_entries() -> list[dict[str, object]]:
    return [
        {
            "name": scenario.name,
            "summary": scenario.summary,
            "also": list(scenario.also),
            "knobs": [_knob_entry(knob) for knob in scenario.knobs],
        }
        for scenario in SCENARIOS
    ]


def _knob_entry(knob: Knob) -> dict[str, object]:
    is_number = not (knob.choices or knob.is_slabinfo)
    return {
        "name": knob.name,
        "default": knob.default,
        "choices": list(knob.choices) or None,
        "least": knob.least if is_number else None,
        "most": knob.most if is_number else None,
        "summary": knob.summary,
    }


def _kernel_entries() -> list[dict[str, object]]:
    return [
        {"name": name, "summary": summary, "differs": differences(before, name)}
        for before, (name, summary) in zip([None, *PROFILES], PROFILES.items(), strict=False)
    ]


def _patch_entries() -> list[dict[str, object]]:
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


def _strategy_entries() -> list[dict[str, object]]:
    entries: list[StrategyEntry | ExactEntry] = [*STRATEGIES.values(), *EXACT.values()]
    portfolio: dict[str, object] = {"name": "portfolio", "argument": "", "summary": PORTFOLIO_SUMMARY}
    return [portfolio, *[dict[str, object](name=e.name, argument=e.argument, summary=e.summary) for e in entries]]


def _oracle_entries() -> list[dict[str, object]]:
    return [{"name": name, "summary": summary} for name, summary in ORACLES.items()]


_CATALOGUES = {
    "scenarios": _scenario_entries,
    "kernels": _kernel_entries,
    "patches": _patch_entries,
    "strategies": _strategy_entries,
    "oracles": _oracle_entries,
}


def _list(options: argparse.Namespace) -> int:
    chosen = list(_CATALOGUES) if options.what == "all" else [options.what]
    if options.json:
        entries = [{"kind": what, **entry} for what in chosen for entry in _CATALOGUES[what]()]
        print_json(entries)
        return 0
    console = make_console()
    for what in chosen:
        entries = _CATALOGUES[what]()
        width = max(len(str(entry["name"])) for entry in entries)
        console.print(styled((what, "bold")))
        for entry in entries:
            console.print(f"  {entry['name']!s:{width}}  {entry['summary']}")
            for line in _details(entry):
                console.print(f"  {'':{width}}    {line}")
        if what == "scenarios":
            console.print("every scenario, unless it says otherwise above")
            for line in _knob_lines(MACHINE):
                console.print(f"  {line}")
    return 0


def _knob_lines(knobs: Iterable[Knob]) -> list[str]:
    return [f"{knob.name}={knob.default}: {knob.summary} ({knob.values_in_words})" for knob in knobs]


def _details(entry: dict[str, Any]) -> Iterator[str]:
    """What else there is to say of one entry, a line each."""
    if "knobs" in entry:
        yield from (f"also called {name}" for name in entry["also"])
        common = _knob_lines(MACHINE)  # said once, below all scenarios
        yield from (line for line in _knob_lines(find_scenario(entry["name"]).knobs) if line not in common)
    for difference in entry.get("differs", ()):
        yield f"{difference['function']}(): {difference['summary']}"
    if "built_into" in entry:
        yield f"{entry['commit'] or 'no commit'}; built into {', '.join(entry['built_into']) or 'none'}"
