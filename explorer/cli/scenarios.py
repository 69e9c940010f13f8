"""The catalogue of `list scenarios`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import scenarios
from explorer.kinds import SCENARIO
from explorer.references import find
from scenarios.registry import MACHINE, Knob, Scenario


def scenario_entries() -> list[dict[str, Any]]:
    """An entry for every scenario, with its knobs."""
    return [
        {
            "name": scenario.name,
            "summary": scenario.summary,
            "also": list(scenario.also),
            "kernels": list(scenario.kernels),
            "knobs": knob_entries(scenario),
        }
        for scenario in (*scenarios.SCENARIOS, *scenarios.OF_TODAY)
    ]


def knob_entries(scenario: Scenario) -> list[dict[str, object]]:
    """An entry for each knob of a scenario."""
    return [_knob_entry(knob) for knob in scenario.knobs]


def _knob_entry(knob: Knob) -> dict[str, object]:
    is_number = not (knob.choices or knob.is_slabinfo or knob.leaves_out)
    return {
        "name": knob.name,
        "default": knob.default,
        "choices": list(knob.choices) or None,
        "least": knob.least if is_number else None,
        "most": knob.most if is_number else None,
        "summary": knob.summary,
    }


def _knob_lines(knobs: Iterable[Knob]) -> list[str]:
    return [f"{knob.name}={knob.default}: {knob.summary} ({knob.values_in_words})" for knob in knobs]


def knob_lines_of(scenario: str) -> Iterator[str]:
    """Lines for the knobs of a scenario that are its own, or have another default than usual."""
    common = common_knob_lines()
    return (line for line in _knob_lines(find(SCENARIO, scenario).things[0].knobs) if line not in common)


def common_knob_lines() -> list[str]:
    """Lines for the knobs that every scenario has; printed once, below all scenarios."""
    return _knob_lines(MACHINE)
