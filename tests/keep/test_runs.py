"""Kept findings are run again by the check, by their generated test, and at the start of every search."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explorer.cli import main
from explorer.keep import assert_as_expected
from tests.keep.test_files import edit

STALE = ["count0", "nobody", "count1", "count0", "count1", "count0", "count1"]


def check(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """The answer of `keep --check` about the only file."""
    main(["keep", "--check", "regressions", "--json"])
    (answer,) = json.loads(capsys.readouterr().out)["kept"]
    assert isinstance(answer, dict)
    return answer


# -- the check --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expects", "code"), [("nothing", 1), ("finding", 0)])
def test_the_check_fails_if_a_file_expects_something_else(
    expects: str, code: int, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(kept, expects=expects)

    assert main(["keep", "--check", "regressions"]) == code
    assert f"1 kept, {code} not as expected, 0 stale" in capsys.readouterr().out


def test_a_stale_schedule_says_where_it_stopped_matching_and_goes_on(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(kept, schedule=STALE)

    answer = check(capsys)

    stale = answer["stale"]
    assert isinstance(stale, dict)
    assert (stale["at"], stale["of"], stale["choice"]) == (1, len(STALE), "nobody")
    assert "count1" in stale["enabled"]
    assert answer["shows_it"] is True  # the matching part of the schedule was followed


def test_a_flaw_that_is_gone_is_said_to_be(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(kept, schedule=[])

    answer = check(capsys)

    assert answer["shows_it"] is False
    assert answer["as_expected"] is True
    edit(kept, expects="finding")
    assert check(capsys)["as_expected"] is False


# -- the test ---------------------------------------------------------------------------------------------------------


def test_the_assertion_is_the_explained_report(kept: Path) -> None:
    with pytest.raises(AssertionError, match="an update was lost") as caught:
        assert_as_expected(kept)

    assert "10/10" in str(caught.value)
    assert "the conflict" in str(caught.value)


def test_the_assertion_holds_if_the_flaw_is_expected(kept: Path) -> None:
    edit(kept, expects="finding")

    assert_as_expected(kept)


@pytest.mark.usefixtures("kept")
def test_the_written_test_fails_until_the_flaw_is_gone(tmp_path: Path, pytester: pytest.Pytester) -> None:
    directory = tmp_path / "regressions"
    pytester.runpytest_inprocess(directory, "-p", "no:cacheprovider").assert_outcomes(failed=1)

    edit(directory / "lost.json", schedule=[])

    pytester.runpytest_inprocess(directory, "-p", "no:cacheprovider").assert_outcomes(passed=1)


# -- the search -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("kept")
def test_a_search_runs_what_was_kept_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "canary", "--budget", "1", "--no-log", "--json"]) == 1

    answer = json.loads(capsys.readouterr().out)
    assert answer["schedules"] == 1
    (finding,) = answer["findings"]
    assert (finding["first_schedule"], finding["strategy"]) == (0, "kept lost.json")
    assert [one["shows_it"] for one in answer["kept"]] == [True]
    assert answer["by_strategy"]["kept"]["schedules"] == 1


@pytest.mark.usefixtures("kept")
def test_the_first_finding_of_a_kept_schedule_ends_a_search_for_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", "canary", "--budget", "50", "--first", "--json"]) == 1

    answer = json.loads(capsys.readouterr().out)
    assert answer["schedules"] == 1
    assert answer["stopped"] == "first"
    assert main(["replay", answer["findings"][0]["log"], "--driver", "stepper"]) == 1


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("arguments", [["--kernel", "5.4-fixed"], ["--set", "rounds=2"]])
def test_findings_kept_of_other_runs_are_left_out(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["explore", "canary", *arguments, "--budget", "1", "--no-log", "--json"])

    assert json.loads(capsys.readouterr().out)["kept"] == []


@pytest.mark.usefixtures("kept")
def test_a_budget_of_kept_schedules_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    main(["explore", "canary", "--budget", "20", "--no-log", "--json", "--strategy", "random"])

    assert json.loads(capsys.readouterr().out)["schedules"] == 20


def test_a_search_reports_the_results_of_kept_schedules(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(kept, schedule=STALE)

    main(["explore", "canary", "--budget", "1", "--no-log"])

    out = capsys.readouterr().out
    assert f"kept {kept}: bug:canary: an update was lost" in out
    assert "stale: choice 1 of 7 (nobody) does not fit any more" in out
