"""What to try: one scenario a file, and the list of all."""

from __future__ import annotations

from protocol.errors import UsageError
from scenarios.canary import canary
from scenarios.nested import nested
from scenarios.registry import Scenario
from scenarios.rmdir_under_load import rmdir_under_load
from scenarios.shared_dentry import shared_dentry

SCENARIOS = (shared_dentry, rmdir_under_load, nested, canary)


def find_scenario(name: str) -> Scenario:
    """The scenario of that name; UsageError names those there are."""
    for candidate in SCENARIOS:
        if candidate.name == name:
            return candidate
    known = ", ".join(candidate.name for candidate in SCENARIOS)
    msg = f"{name}: there is no such scenario; there are {known}"
    raise UsageError(msg)
