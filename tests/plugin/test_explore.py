"""The fixture `explore`: a search in a test, whose report is the failure."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from explorer.assertions import explored
from explorer.cli import main
from protocol.errors import UsageError
from tests.helpers import install, make_scenario, quiet, warns

PLUGIN = () if metadata.entry_points(group="pytest11", name="slabrace") else ("-p", "explorer.pytest_plugin")
"""The option that loads the plugin if its entry point is not installed; it must not be loaded twice."""

RunTests = Callable[..., pytest.RunResult]


@pytest.fixture
def run_tests(pytester: pytest.Pytester) -> RunTests:
    """Run a test file with the plugin in this process."""

    def run(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        return pytester.runpytest_inprocess(*PLUGIN, *options)

    return run


# -- findings ---------------------------------------------------------------------------------------------------------


def test_a_finding_fails_the_test_with_the_explained_report(run_tests: RunTests) -> None:
    result = run_tests("def test_it(explore):\n    explore('canary', settings={'rounds': 1}, seed=1)\n")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "bug:canary: an update was lost:canary_check is found",
            "canary on 5.3: strategy portfolio, seed 1*",
            "kernel BUG: canary: an update was lost",
            "* steps of the race matter *",
            "the conflict",
            "reproduced",
            "  10/10 *",
            "first: 1 finding*",
            "the same search: slabrace explore canary --kernel 5.3 --seed 1 *--set=rounds=1 --first",
        ]
    )
    result.stdout.no_fnmatch_line("*explorer/assertions.py*")
    result.stdout.no_fnmatch_line("*explorer/pytest_plugin.py*")


def test_the_line_to_paste_finds_the_same(run_tests: RunTests, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_tests("def test_it(explore):\n    explore('canary', settings={'rounds': 1}, seed=1)\n")
    line = next(line for line in result.outlines if line.startswith("the same search: slabrace "))
    capsys.readouterr()

    assert main([*line.removeprefix("the same search: slabrace ").split(), "--no-log"]) == 1
    assert "bug:canary: an update was lost:canary_check" in capsys.readouterr().out


def test_a_search_that_finds_nothing_passes_and_says_what_it_is_worth(run_tests: RunTests) -> None:
    result = run_tests(
        """
        def test_it(explore):
            answer = explore("rmdir-empty", kernel="5.4-fixed", budget=3)
            assert answer.schedules == 3
            assert answer.findings == ()
            assert answer.stopped == "budget"
            assert "nothing found" in answer.verdict
        """
    )

    result.assert_outcomes(passed=1)


def test_patches_and_kernels_are_those_of_the_command_line(run_tests: RunTests) -> None:
    result = run_tests(
        """
        import pytest

        @pytest.mark.parametrize(("kernel", "patches"), [("v7", ["work-fn-store-after-free"]), ("5.3", [])])
        def test_holds(explore, kernel, patches):
            explore("rmdir-empty", kernel=kernel, patches=patches, budget=2)

        @pytest.mark.parametrize(("kernel", "without"), [("v7", []), ("5.3", ["work-fn-store-after-free"])])
        def test_does_not(explore, kernel, without):
            explore("rmdir-empty", kernel=kernel, without=without, budget=2)
        """
    )

    result.assert_outcomes(passed=2, failed=2)


# -- expectations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expect", ["bug", "bug:canary: an update was lost:canary_check"])
def test_a_finding_that_is_expected_passes(expect: str) -> None:
    answer = explored("canary", expect=expect)

    assert [finding.kind for finding in answer.findings] == ["bug"]
    assert answer.stopped == "first"
    assert answer.schedules < 200


def test_a_finding_that_is_expected_and_does_not_come_fails() -> None:
    with pytest.raises(AssertionError, match="use-after-free was not found; found: bug:canary"):
        explored("canary", expect="use-after-free", budget=2)


def test_a_race_that_was_never_tried_fails() -> None:
    with pytest.raises(AssertionError, match="the race was never tried") as caught:
        explored("destroy-vs-offline", kernel="5.4-fixed", budget=1)

    assert "sometimes 'the root is dying while a child's count is switched'" in str(caught.value).replace('"', "'")


def test_it_need_not_be_tried_if_that_is_said() -> None:
    answer = explored("destroy-vs-offline", kernel="5.4-fixed", budget=1, must_reach=False)

    assert answer.unreached


def test_a_search_that_must_come_to_its_end_fails_if_it_does_not() -> None:
    with pytest.raises(AssertionError, match="did not come to its end\nbudget: nothing found"):
        explored(make_scenario("quiet", quiet), budget=1, must_reach=False, must_exhaust=True)


def test_a_search_that_came_to_its_end_says_so() -> None:
    answer = explored(make_scenario("quiet", quiet), strategy="dpor", must_reach=False, must_exhaust=True)

    assert answer.stopped == "exhausted"


# -- the user's scenarios ---------------------------------------------------------------------------------------------


def test_a_scenario_of_ones_own_needs_no_name() -> None:
    with pytest.raises(AssertionError) as caught:
        explored(make_scenario("mine", warns), budget=1)

    assert "mine on 5.3" in str(caught.value)
    assert "the same search" not in str(caught.value), "the command line does not know it"


def test_a_scenario_of_ones_own_runs_in_this_process_only() -> None:
    with pytest.raises(UsageError, match="leave out workers"):
        explored(make_scenario("mine", warns), workers=2)


def test_what_does_not_fit_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)

    cases: list[dict[str, Any]] = [
        {"scenario": "birds"},
        {"kernel": "6.0"},
        {"patches": ["birds"]},
        {"settings": {"birds": 1}},
    ]
    for wrong in cases:
        with pytest.raises(UsageError, match=r"birds|6\.0"):
            explored(**{"scenario": "canary", **wrong})


# -- options ----------------------------------------------------------------------------------------------------------


def test_what_is_found_is_logged_where_that_is_wanted(
    run_tests: RunTests, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "def test_it(explore):\n    explore('canary', settings={'rounds': 1})\n"
    for _ in range(2):  # in the second run the log exists already
        result = run_tests(text, "--explore-logs", "logs")
        result.assert_outcomes(failed=1)
    (log,) = Path(pytester.path, "logs").iterdir()
    result.stdout.fnmatch_lines(["  replay: slabrace replay logs/*", f"log: logs/{log.name}"])
    capsys.readouterr()

    assert main(["replay", str(log)]) == 1


def test_the_budget_of_tests_that_name_none_can_be_set(run_tests: RunTests) -> None:
    result = run_tests(
        """
        def test_without(explore):
            assert explore("rmdir-empty").schedules == 2

        def test_with(explore):
            assert explore("rmdir-empty", budget=3).schedules == 3
        """,
        "--explore-budget",
        "2",
    )

    result.assert_outcomes(passed=2)


def test_it_works_in_tests_that_run_under_trio(run_tests: RunTests) -> None:
    result = run_tests(
        """
        import pytest

        @pytest.mark.trio
        async def test_it(explore):
            explore("canary", settings={"rounds": 1})
        """
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the conflict", "*  10/10 (5 on trio, 5 on stepper)"])


def test_the_same_search_fails_with_the_same_report() -> None:
    reports = []
    for _ in range(2):
        with pytest.raises(AssertionError) as caught:
            explored("canary", settings={"rounds": 2}, seed=3)
        reports.append([line for line in str(caught.value).splitlines() if " schedules in " not in line])

    assert reports[0] == reports[1]


# -- beside kept findings ---------------------------------------------------------------------------------------------


def test_the_tests_that_keep_writes_run_beside_it(
    run_tests: RunTests, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    run_tests("def test_it(explore):\n    explore('canary', settings={'rounds': 1})\n", "--explore-logs", "logs")
    (log,) = Path(pytester.path, "logs").iterdir()
    assert main(["keep", str(log), "--name", "lost", "--dir", str(pytester.path / "kept")]) == 0
    assert main(["keep", str(log), "--name", "meant", "--dir", str(pytester.path / "kept"), "--expect=finding"]) == 0
    capsys.readouterr()
    result = pytester.runpytest_inprocess(*PLUGIN, "kept")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*lost.json: bug:canary: an update was lost:canary_check is found*", "E *the conflict"]
    )
