"""Catalogues of `list` that need the kernel and the scenarios, and so are slow to import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import scenarios
from actors.fixes import ALL_FIXES
from actors.versions.kernel_fn import differences
from explorer.kinds import SCENARIO
from explorer.references import find
from protocol.vocabulary import PROFILES
from scenarios.registry import MACHINE, Knob, Scenario


def scenario_entries() -> list[dict[str, Any]]:
    """An entry for every scenario, with its knobs."""
    return [
        {
            "name": scenario.name,
            "summary": scenario.summary,
            "also": list(scenario.also),
            "knobs": knob_entries(scenario),
        }
        for scenario in scenarios.SCENARIOS
    ]


def knob_entries(scenario: Scenario) -> list[dict[str, object]]:
    """An entry for each knob of a scenario."""
    return [_knob_entry(knob) for knob in scenario.knobs]


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


def kernel_entries() -> list[dict[str, Any]]:
    """An entry for every kernel profile, with the functions that differ from the profile before."""
    return [
        {"name": name, "summary": summary, "differs": differences(before, name)}
        for before, (name, summary) in zip([None, *PROFILES], PROFILES.items(), strict=False)
    ]


def patch_entries() -> list[dict[str, Any]]:
    """An entry for every named fix."""
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


def _knob_lines(knobs: Iterable[Knob]) -> list[str]:
    return [f"{knob.name}={knob.default}: {knob.summary} ({knob.values_in_words})" for knob in knobs]


def knob_lines_of(scenario: str) -> Iterator[str]:
    """Lines for the knobs of a scenario that are its own, or have another default than usual."""
    common = common_knob_lines()
    return (line for line in _knob_lines(find(SCENARIO, scenario).things[0].knobs) if line not in common)


def common_knob_lines() -> list[str]:
    """Lines for the knobs that every scenario has; printed once, below all scenarios."""
    return _knob_lines(MACHINE)
