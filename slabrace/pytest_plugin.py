"""The pytest plugin: the fixture `explore`, which searches a scenario in a test. docs/pytest.md describes it.

pytest loads this module in every session of an environment with slabrace installed. So nothing else of slabrace is
imported before a test uses the fixture. `slabrace.names` lets the project under test keep its own modules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slabrace.names import ours, share

if TYPE_CHECKING:
    from explorer.assertions import Explored

LONGEST_NAME = 100
"""Most characters in the name of a log directory, which is named after its test."""

REPORT = pytest.StashKey[str]()
"""The report of the search that failed the test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--explore-budget` and `--explore-logs`."""
    group = parser.getgroup("slabrace", "slabrace: searching in tests")
    group.addoption(
        "--explore-budget",
        type=int,
        metavar="SCHEDULES",
        help="default number of schedules of each search (default: 200)",
    )
    group.addoption(
        "--explore-logs",
        type=Path,
        metavar="DIR",
        help="log findings there, one directory a test, for slabrace replay, shrink, explain and keep",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a budget below one, and let the project use slabrace's import names for modules of its own."""
    budget: int | None = config.getoption("--explore-budget")
    if budget is not None and budget < 1:
        msg = f"--explore-budget {budget}: a search of no schedule finds nothing; give one or more"
        raise pytest.UsageError(msg)
    share()


@pytest.fixture
def explore(request: pytest.FixtureRequest) -> Callable[..., Explored]:
    """Search a scenario: `explore("destroy-vs-offline", kernel="5.3", patches=["mine.py"], budget=500)`.

    The arguments are those of `explorer.api.explored`. The test fails, with the explained report, if anything is
    found, or if an expected finding is not. The outcome of each search is a property of the test in the JUnit file.
    """
    defaults: dict[str, Any] = {}
    budget: int | None = request.config.getoption("--explore-budget")
    if budget is not None:
        defaults["budget"] = budget
    logs: Path | None = request.config.getoption("--explore-logs")
    searches = 0

    def explore_scenario(*args: Any, **options: Any) -> Explored:
        __tracebackhide__ = True  # the report is enough
        nonlocal searches
        searches += 1
        if logs is not None:
            defaults["logs"] = _from_here(request.config, logs) / directory_of(request.node.nodeid, searches)
        with ours():
            answer, outcome, verdict = _search(*args, **{**defaults, **options})
        request.node.user_properties += [("slabrace.outcome", outcome), ("slabrace.verdict", verdict)]
        if isinstance(answer, str):
            request.node.stash[REPORT] = answer
            pytest.fail(answer, pytrace=False)  # outside of any `except`: pytest would also print the first exception
        return answer

    return explore_scenario


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Leave one line of a search's report for pytest's summary, which shows a message in full on CI and with `-vv`."""
    made = yield
    crash = getattr(made.longrepr, "reprcrash", None)
    if call.excinfo is not None and crash is not None and str(call.excinfo.value) == item.stash.get(REPORT, None):
        crash.message = crash.message.partition("\n")[0]
    return made


def _search(*args: Any, **options: Any) -> tuple[Explored | str, str, str]:
    """The answer of a search, or the message of the failing test; with its outcome and its verdict."""
    from explorer.arguments import check_call  # noqa: PLC0415 -- only for sessions that explore
    from explorer.assertions import NotAsExpectedError, explored  # noqa: PLC0415 -- as above
    from protocol.errors import UsageError  # noqa: PLC0415 -- as above
    from protocol.formats.columns import printable  # noqa: PLC0415 -- as above

    try:
        check_call(explored, args, options)
        answer = explored(*args, **options)
    except NotAsExpectedError as error:
        return str(error), error.outcome, error.verdict
    except UsageError as error:
        line = printable(str(error))
        return f"slabrace: {line}", "usage error", line
    return answer, answer.outcome, answer.verdict


def _from_here(config: pytest.Config, logs: Path) -> Path:
    """The directory of the logs; a report's commands name it so that they work where pytest was started."""
    began = config.invocation_params.dir
    return logs if Path.cwd() == began else began / logs


def directory_of(test: str, search: int) -> str:
    """The log directory of a test's search: `test_mine.py-test_it`, for its second search `test_mine.py-test_it.2`."""
    name = re.sub(r"[^\w.]+", "-", test).strip("-")[-LONGEST_NAME:].lstrip("-.")
    return name if search == 1 else f"{name}.{search}"
