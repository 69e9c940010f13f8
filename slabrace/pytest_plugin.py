"""The pytest plugin: the fixture `explore`, which searches a scenario in a test. docs/pytest.md teaches it.

pytest loads this module in every session of the environment that slabrace is installed in; so nothing of slabrace is
imported before a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from explorer.assertions import Explored


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--explore-budget` and `--explore-logs`."""
    group = parser.getgroup("slabrace", "slabrace: searching in tests")
    group.addoption(
        "--explore-budget",
        type=int,
        metavar="SCHEDULES",
        help="schedules of each search whose test does not say how many (default: 200)",
    )
    group.addoption(
        "--explore-logs",
        type=Path,
        metavar="DIR",
        help="log what is found there, for slabrace replay, shrink, explain and keep",
    )


@pytest.fixture
def explore(request: pytest.FixtureRequest) -> Callable[..., Explored]:
    """Search a scenario: `explore("destroy-vs-offline", kernel="5.3", patches=["mine.py"], budget=500)`.

    The arguments are those of `explorer.assertions.explored`. The test fails with the explained report if anything is
    found, or if what it expects is not.
    """
    from explorer.assertions import explored  # noqa: PLC0415 -- only sessions that explore pay for the import

    defaults: dict[str, Any] = {"logs": request.config.getoption("--explore-logs")}
    budget: int | None = request.config.getoption("--explore-budget")
    if budget is not None:
        defaults["budget"] = budget

    def explore_scenario(*args: Any, **options: Any) -> Explored:
        __tracebackhide__ = True  # the report says it all
        try:
            return explored(*args, **{**defaults, **options})
        except AssertionError as error:
            pytest.fail(str(error), pytrace=False)

    return explore_scenario
