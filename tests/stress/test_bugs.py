"""`slabrace bugs`: the life of bugs, moved by people and by campaigns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explorer.stress.store import Store
from tests.conftest import Command, check_usage_error
from tests.stress.stores import ODD, built_in, campaign, own, request_of, run_campaign

__all__ = ["campaign", "own"]


def bugs(slabrace: Command, folder: Path, *words: object) -> list[dict[str, Any]]:
    answer = slabrace("bugs", folder, *words, "--json")
    assert answer.code == 0, answer.err
    return list(json.loads(answer.out))


def states(slabrace: Command, folder: Path) -> dict[int, tuple[str, int | None, str]]:
    return {bug["id"]: (bug["state"], bug["of"], bug["note"]) for bug in bugs(slabrace, folder)}


def test_all_bugs_are_listed_with_their_states(slabrace: Command, campaign: Path) -> None:
    listed = bugs(slabrace, campaign)

    assert [bug["id"] for bug in listed] == sorted(bug["id"] for bug in listed)
    assert {bug["state"] for bug in listed} == {"open", "known"}
    for bug in listed:
        assert [event["event"] for event in bug["life"]] == ["new cause"]
    text = slabrace("bugs", campaign).out
    assert "\x1b" not in text
    assert "known (planted)" in text


@pytest.mark.parametrize("state", ["open", "known", "fixed", "invalid"])
def test_a_bug_is_moved_and_the_move_is_kept(slabrace: Command, own: Path, state: str) -> None:
    (bug,) = bugs(slabrace, own, 2, f"--{state}", "--note", "see <b>\x1b[1m")
    *_, event = bug["life"]

    assert (bug["state"], bug["note"]) == (state, "see <b>\x1b[1m")
    assert bug["fixed_in"] == (1 if state == "fixed" else None)
    assert (event["event"], event["state"], event["note"]) == ("bug moved", state, bug["note"])
    assert "\x1b" not in slabrace("bugs", own, 2).out


def test_a_duplicate_has_its_bug_and_another_move_takes_it_away(slabrace: Command, own: Path) -> None:
    bugs(slabrace, own, 2, 3, "--dup", 1)
    assert [states(slabrace, own)[bug][:2] for bug in (2, 3)] == [("dup", 1)] * 2

    bugs(slabrace, own, 3, "--open")
    assert states(slabrace, own)[3][:2] == ("open", None)


def test_a_note_alone_moves_nothing(slabrace: Command, own: Path) -> None:
    before = states(slabrace, own)
    bugs(slabrace, own, 1, "--note", "so")

    assert states(slabrace, own) == {**before, 1: (*before[1][:2], "so")}


@pytest.mark.parametrize(
    "words",
    [
        ["2", "99", "--known"],
        ["2", "--dup", "99"],
        ["2", "1", "--dup", "2"],
        ["1", "--dup", "3"],
        ["2", "--dup", "3"],
        ["0", "--known"],
        ["x", "--known"],
        ["--known"],
        ["--note", "so"],
        ["2", "--known", "--fixed"],
        ["2", "--note", "x" * 1001],
        ["2", "--note", "\udcff"],
        ["99"],
    ],
)
def test_a_move_that_cannot_be_is_one_line_and_changes_nothing(slabrace: Command, own: Path, words: list[str]) -> None:
    bugs(slabrace, own, 3, "--dup", 1)
    before = bugs(slabrace, own)
    check_usage_error(slabrace("bugs", own, *words))

    assert bugs(slabrace, own) == before


def test_a_bug_is_moved_while_a_campaign_owns_the_store(slabrace: Command, own: Path) -> None:
    with Store(own, writes=True) as owner:
        check_usage_error(slabrace("stress", "--store", own, "--budget", 1))
        bugs(slabrace, own, 2, "--invalid")

        assert owner.value("SELECT state FROM bugs WHERE id = 2") == "invalid"
        owner.event(1, "it goes on")


def test_a_bug_marked_as_fixed_opens_again_when_a_later_campaign_shows_it(
    slabrace: Command, own: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = built_in(tmp_path_factory.getbasetemp()).file
    assert file.name == ODD
    (canary,) = [bug["id"] for bug in bugs(slabrace, own) if bug["cause"] == "canary"]
    bugs(slabrace, own, canary, "--fixed")
    run_campaign(own, request_of(file, seed=2), budget=20)
    (bug,) = bugs(slabrace, own, canary)

    assert bug["state"] == "open"
    assert [event["state"] for event in bug["life"]] == ["known", "fixed", "open"]
    assert [event["campaign"] for event in bug["life"]] == [1, 1, 2]
    assert bug["sightings"] < bug["sightings_ever"]
