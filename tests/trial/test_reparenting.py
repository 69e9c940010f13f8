"""A change of 7.2's reparenting, as a user would write it: right in one form, subtly wrong in five others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Command

PATCHES = Path(__file__).with_name("patches") / "reparenting"

WRONG = {
    "lists_after_unlock": ("isolate-vs-reparent", "invariant:T10", ()),
    "objcgs_after_unlock": ("isolate-vs-reparent", "invariant:T10", ()),
    "parent_unlocked": ("isolate-vs-reparent", "invariant:T10", ()),
    "inherited_left": ("nested", "use-after-free:", ()),
    "one_killed": ("isolate-vs-reparent", "invariant:U5", ("--set", "nodes=2")),
}
"""The stage that shows each, and the beginning of a signature."""


def explore(command: Command, patch: str, stage: str, budget: int, *more: str) -> list[str]:
    """The signatures of what a search finds."""
    options = ("--kernel", "7.2", "--budget", budget, "--no-log", "--json", *more)
    answer = command("explore", stage, "--patch", PATCHES / f"{patch}.py", *options)
    assert answer.out, answer.err
    return [finding["signature"] for finding in json.loads(answer.out)["findings"]]


@pytest.mark.slow
@pytest.mark.parametrize("patch", WRONG)
def test_a_wrong_change_is_found(slabrace: Command, patch: str) -> None:
    stage, signature, settings = WRONG[patch]
    found = explore(slabrace, patch, stage, 2_000, "--first", *settings)

    assert any(name.startswith(signature) for name in found), found


@pytest.mark.parametrize("stage", ["isolate-vs-reparent", "reclaim-vs-reparent", "migrate-vs-reparent", "nested"])
def test_the_right_change_shows_nothing(slabrace: Command, stage: str) -> None:
    assert explore(slabrace, "at_once", stage, 30) == []
