"""The fixture `explore`: a search in a test, whose report is the failure."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from explorer.assertions import explored
from explorer.cli import main
from protocol.errors import UsageError
from tests.helpers import install, make_scenario, quiet, warns

PLUGIN = () if metadata.entry_points(group="pytest11", name="slabrace") else ("-p", "slabrace.pytest_plugin")
"""The option that loads the plugin if its entry point is not installed; it must not be loaded twice."""

RunTests = Callable[..., pytest.RunResult]

SIGNATURE_IS_FOUND = "bug:canary: an update was lost:canary_check is found"
SCREEN = 60
"""Lines of a terminal that shows a report at once."""


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
    result.stdout.no_fnmatch_line("*slabrace/pytest_plugin.py*")


@pytest.mark.parametrize("options", [(), ("-vv",), ("-n", "1")])
@pytest.mark.parametrize("ci", ["", "true"])
def test_a_failure_is_reported_once(
    run_tests: RunTests, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], ci: str
) -> None:
    """In the summary, too, where pytest shows a message in full on CI and with -vv."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.delenv("BUILD_NUMBER", raising=False)
    result = run_tests(
        "def test_it(explore):\n    explore('canary', settings={'rounds': 1}, seed=1)\n",
        "--junitxml=junit.xml",
        *options,
    )
    report = result.outlines[result.outlines.index(SIGNATURE_IS_FOUND) :]
    (failure,) = ET.parse("junit.xml").iter("failure")  # noqa: S314 -- pytest wrote it

    assert failure.get("message") == f"Failed: {SIGNATURE_IS_FOUND}"
    assert SIGNATURE_IS_FOUND in (failure.text or "").splitlines()
    assert result.outlines.count(SIGNATURE_IS_FOUND) == 1
    assert sum(line.startswith("the same search: ") for line in report) == 1
    assert [line for line in report if line.startswith("___")] == []
    result.stdout.no_fnmatch_line("*During handling of the above exception*")
    result.stdout.no_fnmatch_line("*raceback*")


@pytest.mark.parametrize(
    "search",
    ["'canary', settings={'rounds': 1}", pytest.param("'rmdir-empty', kernel='v7', budget=1", marks=pytest.mark.slow)],
)
def test_a_long_report_is_shortened_to_a_screen(
    run_tests: RunTests, monkeypatch: pytest.MonkeyPatch, search: str
) -> None:
    if "canary" in search:
        monkeypatch.setattr("explorer.assertions.MOST_LINES", 30)
    result = run_tests(f"def test_it(explore):\n    explore({search})\n", "--explore-logs=logs")
    first = next(number for number, line in enumerate(result.outlines) if line.endswith(" is found"))
    last = next(number for number, line in enumerate(result.outlines) if line.startswith("the same search: "))

    assert last - first < SCREEN
    result.stdout.fnmatch_lines(
        [
            "* of * steps of the race matter *",
            "*  <- conflict: first*",
            "*  <- conflict: second*",
            "*  <- finding: *",
            "the conflict",
            "*and * more of such pairs",
            "  in full: slabrace explain logs/*.log",
        ]
    )


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
        def test_shows_a_flaw(explore, kernel, without):
            explore("rmdir-empty", kernel=kernel, without=without, budget=2, expect="use-after-free")
        """
    )

    result.assert_outcomes(passed=4)


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


def test_a_scenario_of_ones_own_gets_no_commands_that_do_not_know_it(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        explored(make_scenario("mine", warns), budget=1, logs=tmp_path)

    assert "slabrace replay" not in str(caught.value)
    assert "log: " in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("'canari'", "slabrace: canari: there is no such scenario; do you mean 'canary'? *"),
        ("'canary', kernel='5.33'", "slabrace: --kernel 5.33: there is no such *"),
        ("'canary', strategy='portfolo'", "slabrace: --strategy portfolo: there is no such strategy; *"),
        ("'canary', patches=['birds']", "slabrace: *birds*"),
        ("'canary', without=['birds']", "slabrace: *birds*"),
        ("'canary', settings={'birds': 1}", "slabrace: --set birds: *"),
        ("'canary', faults={'birds': 0.5}", "slabrace: --fault birds: *"),
        ("'canary', budget=0", "slabrace: budget=0: give a whole number, one or more and below 2*64"),
        ("'canary', kernel=5.3", "slabrace: kernel=5.3: give one line of text, in quotes"),
        ("'canary', patches='x.py'", "slabrace: patches='x.py': give a list"),
        ("'canary', kernal='5.3'", "slabrace: kernal=...: there is no such argument; do you mean 'kernel'? *"),
        ("", "slabrace: missing a required argument: 'scenario'; give the scenario first, and all else by name"),
        ("'canary', '5.3'", "slabrace: too many positional arguments; give the scenario first, and all else by name"),
        ("'canary', scenario='canary'", "slabrace: multiple values for argument 'scenario'; *"),
        (r"'ca\nnary'", r"slabrace: ca\nnary: there is no such scenario*"),
        (r"'canary', strategy='\ud800'", r"slabrace: --strategy \ud800: there is no such strategy*"),
    ],
)
def test_a_misspelt_name_is_one_line(run_tests: RunTests, wrong: str, line: str) -> None:
    result = run_tests(f"def test_it(explore):\n    explore({wrong})\n")

    result.assert_outcomes(failed=1)
    (heading,) = [number for number, one in enumerate(result.outlines) if one.startswith("____")]
    result.stdout.fnmatch_lines_random([line])
    assert result.outlines[heading + 1].startswith("slabrace: ")
    assert result.outlines[heading + 2].startswith("====")


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
    (log,) = Path(pytester.path).glob("logs/*-test_it/*.log")
    shown = log.relative_to(pytester.path)
    result.stdout.fnmatch_lines([f"  replay: slabrace replay {shown}", f"log: {shown}"])
    capsys.readouterr()

    assert main(["replay", str(log)]) == 1


def test_a_scenario_of_a_file_is_replayed_by_the_line_to_paste(
    run_tests: RunTests, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    pytester.makepyfile(
        mine="""
        from actors.api import WARN_ON
        from scenarios.api import MACHINE, scenario

        @scenario("warns", "the kernel warns", *MACHINE)
        def warns(stage):
            stage.boot()
            async def warn(ctx):
                WARN_ON(ctx, True, "mine")
            stage.task("task", warn)
        """
    )
    result = run_tests("def test_it(explore):\n    explore('mine.py:warns', budget=5)\n", "--explore-logs", "logs")
    (command,) = (line.partition(": slabrace ")[2] for line in result.outlines if line.startswith("  replay: "))
    capsys.readouterr()

    assert main([*command.split(), "--trust"]) == 1, capsys.readouterr().err


def test_each_test_and_each_search_has_logs_of_its_own(
    run_tests: RunTests, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands can be pasted, even if the finding is the same, and after the tests have moved."""
    text = """
        import pytest

        @pytest.mark.parametrize("seed", [1, 2])
        def test_it(explore, seed, tmp_path, monkeypatch):
            explore("canary", settings={"rounds": 1}, expect="bug", seed=seed)
            monkeypatch.chdir(tmp_path)
            explore("canary", settings={"rounds": 2}, seed=seed)
    """
    result = run_tests(text, "--explore-logs", "logs")
    logs = sorted(Path(pytester.path).glob("logs/*/*.log"))
    commands = [line.partition(": slabrace ")[2] for line in result.outlines if line.startswith("  replay: ")]

    result.assert_outcomes(failed=2)
    assert len(logs) == 4
    assert len(commands) == 2
    for command in commands:
        assert main(command.split()) == 1
    for log, rounds in zip(logs, "1212", strict=True):
        capsys.readouterr()
        main(["replay", str(log)])
        assert f"rounds={rounds} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("search", "outcome", "has_failed"),
    [
        ("'rmdir-empty', kernel='5.4-fixed', budget=2", "undetermined", False),
        ("'rmdir-empty', kernel='5.4-fixed', budget=2, must_exhaust=True", "undetermined", True),
        ("'canary', settings={'rounds': 1}, strategy='dfs:preemptions=0', must_reach=False", "exhausted", False),
        ("'canary', settings={'rounds': 1}", "finding", True),
        ("'canary', settings={'rounds': 1}, expect='bug'", "finding", False),
        ("'canary', budget=1, expect='oops'", "not found", True),
        ("'destroy-vs-offline', kernel='5.4-fixed', budget=1", "unreached", True),
        ("'canari'", "usage error", True),
    ],
)
def test_the_junit_file_says_what_each_search_came_to(
    run_tests: RunTests, pytester: pytest.Pytester, search: str, outcome: str, *, has_failed: bool
) -> None:
    run_tests(f"def test_it(explore):\n    explore({search})\n", "--junitxml=junit.xml")
    (case,) = ET.parse(pytester.path / "junit.xml").iter("testcase")  # noqa: S314 -- pytest wrote it
    properties = {one.get("name"): one.get("value", "") for one in case.iter("property")}

    assert properties["slabrace.outcome"] == outcome
    assert properties["slabrace.verdict"]
    assert (case.find("failure") is not None) == has_failed


def test_a_budget_of_none_is_refused_in_one_line(run_tests: RunTests) -> None:
    result = run_tests("def test_it(explore):\n    pass\n", "--explore-budget", "0")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --explore-budget 0: a search of no schedule finds nothing; give one or more"])


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
    (log,) = Path(pytester.path).glob("logs/*/*.log")
    assert main(["keep", str(log), "--name", "lost", "--dir", str(pytester.path / "kept")]) == 0
    assert main(["keep", str(log), "--name", "meant", "--dir", str(pytester.path / "kept"), "--expect=finding"]) == 0
    capsys.readouterr()
    result = pytester.runpytest_inprocess(*PLUGIN, "kept")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*lost.json: bug:canary: an update was lost:canary_check is found*", "E *the conflict"]
    )
