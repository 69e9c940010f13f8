"""The kinds of things that a text on the command line can name: scenarios and oracles (`explorer.references`)."""

from __future__ import annotations

import operator
from collections.abc import Mapping

import scenarios
from actors.oracles.own import Oracle
from explorer.references import ReferenceKind
from scenarios.registry import Scenario


def _scenarios() -> Mapping[str, Scenario]:
    """Slabrace's own scenarios by each of their names; a name that two scenarios share means the first."""
    return {
        name: one for one in reversed((*scenarios.SCENARIOS, *scenarios.OF_TODAY)) for name in (one.name, *one.also)
    }


SCENARIO = ReferenceKind("scenario", "scenarios", Scenario, operator.attrgetter("build"), _scenarios)
ORACLE = ReferenceKind("oracle", "oracles", Oracle, operator.attrgetter("find"), dict, option="--oracle ")
