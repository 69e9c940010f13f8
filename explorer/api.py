"""The names that strategies and tests are written with. This module is stable: names are added, and not taken away.

    from explorer.api import Knowledge, Lane, Strategy, strategy

A strategy chooses among lanes: each has a `name`, and a `request` (None for an actor's mail) that says what its next
step asks: `request.info` is the declared operation, `request.target` the object, if there is one, with its `label`.
`Knowledge` is what earlier runs have taught. docs/your-own.md shows a whole project; docs/pytest.md the tests.
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
