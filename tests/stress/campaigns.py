"""Small campaigns for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from explorer.stress.campaign import Limits, Stress, begin
from explorer.stress.engines import Engine, Inline, Replaced, Result
from explorer.stress.matrix import Request, expand
from explorer.stress.store import Store
from explorer.stress.work import Order, work

SMALL = Request(scenarios=("charge-vs-charge", "canary"), kernels=("5.3",), strategies=("guided", "random"))
"""Four cells with short runs; the canary has a planted flaw."""

ANSWERS = ("SELECT id, key, schedules, with_findings, steps, draws, once, classes, level, hex(guide) FROM cells",)
TABLES = (
    "SELECT campaign, epoch, place, cell, way, first, count, state, digest FROM jobs ORDER BY campaign, epoch, place",
    "SELECT * FROM classes",
    "SELECT * FROM pairs",
    "SELECT * FROM functions",
    "SELECT * FROM reaches",
    "SELECT * FROM sightings",
    "SELECT cell, signature, job, first, finding, log FROM witnesses",
    "SELECT id, cause, state, judged FROM bugs ORDER BY id",
    "SELECT number, schedules, steps, classes, pairs, causes, chance, digest FROM epochs",
    "SELECT epoch, digest FROM campaigns",
)
"""All that a campaign knows, without times."""


def run(
    folder: Path,
    budget: int,
    *,
    request: Request = SMALL,
    engine: Engine | None = None,
    told: Callable[[str, dict[str, Any]], None] | None = None,
    **limits: Any,
) -> Stress:
    """Run a campaign in *folder*, or go on with the one that is there."""
    with Store(folder, writes=True) as store:
        latest = store.latest()
        campaign = begin(store, request, expand(request)) if latest is None else latest["id"]
        stress = Stress(store, campaign, request, engine or Inline(), Limits(budget, **limits))
        stress.told = told or stress.told
        trio.run(stress.run)
        return stress


def knowledge(folder: Path) -> list[list[tuple[Any, ...]]]:
    """All that a store knows of its campaigns, and the logs of findings."""
    with Store(folder, writes=False) as store:
        rows = [[tuple(row) for row in store.rows(query)] for query in (*ANSWERS, *TABLES)]
    logs = [(path.name, path.read_bytes()) for path in sorted((folder / "findings").iterdir())]
    return [*rows, logs]


class Shuffled:
    """An engine that answers in another order: the latest job first. It runs every job twice if *repeats*."""

    def __init__(self, room: int = 7, *, repeats: bool = False) -> None:
        self.room = room
        self._repeats = repeats
        self._orders: list[Order] = []
        self._again: list[Result] = []
        self.ran: list[int] = []

    def submit(self, order: Order) -> None:
        self._orders.append(order)

    async def result(self) -> Result | Replaced:
        await trio.lowlevel.checkpoint()
        if self._again:
            return self._again.pop()
        order = self._orders.pop()
        self.ran.append(order.number)
        if self._repeats:
            self._again.append(Result(order.number, "done", work(order)))
        return Result(order.number, "done", work(order))

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


class Failing(Inline):
    """An engine that gives up the jobs with these numbers."""

    def __init__(self, lost: Sequence[int]) -> None:
        super().__init__()
        self._lost = lost

    async def result(self) -> Result | Replaced:
        if self._orders[0].number in self._lost:
            return Result(self._orders.popleft().number, "lost", why="three workers were lost")
        return await super().result()
