"""A store of a small campaign, for tests: known and new causes, code of a user's file with odd names, a lost job."""

from __future__ import annotations

import functools
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import attrs
import pytest
import trio

from explorer.stress.campaign import Limits, Stress, begin
from explorer.stress.engines import Inline, Replaced, Result
from explorer.stress.matrix import Request, expand
from explorer.stress.store import FILE, Store

ODD = "mine <b>&'`|*.py"
"""The name of the scenario's file: it has characters of HTML, XML, Markdown and shells."""

BUDGET = 80
WITHOUT = "b749ecfaf6c5"
NEW = "null-deref:memcg_uncharge_slab(): s->memcg_params.memcg:memcg_uncharge_slab"
MESSAGE = "an update <script>alert(1)</script> ``` was lost \x1b[31m"
LOST = "worker <lost>\x1b[31m: killed"

MINE = f"""
import attrs
from actors.api import BUG_ON, READ, UPDATE, Actor, Shared, operation
from scenarios.api import MACHINE, scenario


@attrs.define(eq=False)
class Counter(Shared):
    value: int = attrs.field(default=0, init=False)
    label = "a counter"

    @operation(READ)
    def read(self):
        return self.value

    @operation(UPDATE)
    def write(self, value):
        self.value = value


@scenario("mine", "a lost update", *MACHINE)
def mine(stage):
    counter = Counter(Actor(stage.boot("dentry").world, "mine"))

    async def add(ctx):
        await ctx.ask(counter.write, await ctx.ask(counter.read) + 1)

    async def check(ctx):
        BUG_ON(ctx, counter.value != 2, {MESSAGE!r})

    stage.task("one", add, cpu=0)
    stage.task("two", add, cpu=1)
    stage.wind_up(check)
    stage.sometimes("never <b>so</b>", lambda: counter.value > 5)
"""


class Lossy(Inline):
    """An engine that loses one of its jobs."""

    def __init__(self, lost: int) -> None:
        super().__init__()
        self._lost = lost

    async def result(self) -> Result | Replaced:
        """Run the next job, or lose it."""
        result = await super().result()
        return Result(result.number, "lost", why=LOST) if result.number == self._lost else result


@attrs.frozen
class Built:
    """A store, and the user's file that its campaign ran."""

    folder: Path
    file: Path


@functools.cache
def built_in(base: Path) -> Built:
    """The store in a folder of the tests' process; no test changes it."""
    folder, file = base / "campaign", base / ODD
    file.write_text(MINE)
    run_campaign(folder, request_of(file), budget=BUDGET, lost=9)
    return Built(folder, file)


def request_of(file: Path, seed: int = 1) -> Request:
    """A matrix of six cells."""
    return Request(
        scenarios=("canary", "destroy-typesafe", f"{file}:mine"),
        kernels=("5.4-fixed",),
        variants=("", f"-{WITHOUT}"),
        strategies=("guided",),
        settings={"rounds": "1"},
        seed=seed,
    )


def run_campaign(folder: Path, request: Request, *, budget: int, lost: int = 0) -> None:
    """Run a new campaign to its budget."""
    with Store(folder, writes=True) as store:
        campaign = begin(store, request, expand(request))
        trio.run(Stress(store, campaign, request, Lossy(lost), Limits(budget=budget)).run)


def rows(folder: Path, query: str, *values: object) -> list[sqlite3.Row]:
    """The rows of a SELECT, asked of SQLite itself."""
    with closing(sqlite3.connect(f"file:{folder / FILE}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        return database.execute(query, values).fetchall()


def change(folder: Path, statement: str, *values: object) -> None:
    """Change a store behind the back of slabrace."""
    with closing(sqlite3.connect(folder / FILE)) as database, database:
        database.execute(statement, values)


@pytest.fixture
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the store, to be read only."""
    return built_in(tmp_path_factory.getbasetemp()).folder


@pytest.fixture
def own(campaign: Path, tmp_path: Path) -> Path:
    """A copy of the store, in the folder in which commands run."""
    return shutil.copytree(campaign, tmp_path / "store")
