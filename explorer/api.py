"""The stable names for strategies and tests: names are added, and never removed.

    from explorer.api import Knowledge, Lane, Strategy, strategy

A strategy chooses among lanes. Each lane has a `name` and a `request`, which is None for an actor's message. The
request describes the lane's next step: `request.info` is the declared operation, `request.target` the object, if there
is one, with its `label`. `Knowledge` holds statistics of earlier runs. docs/your-own.md shows a whole project,
docs/pytest.md the tests.
"""

from actors.system.lane import Lane
from actors.system.strategy import Strategy
from explorer.assertions import Explored, explored
from explorer.experiment import RunOptions
from explorer.keep import assert_as_expected, kept_files
from explorer.profile import Knowledge
from explorer.search.own import strategy
from explorer.search.strategies.simple import RandomWalk
from explorer.session import Result, run
from protocol.errors import UsageError
from protocol.findings import Finding

__all__ = (
    "Explored",
    "Finding",
    "Knowledge",
    "Lane",
    "RandomWalk",
    "Result",
    "RunOptions",
    "Strategy",
    "UsageError",
    "assert_as_expected",
    "explored",
    "kept_files",
    "run",
    "strategy",
)
