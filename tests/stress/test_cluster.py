"""The cluster engine: a real scheduler and real workers on loopback, each a process that the test may kill."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from benchmarks.engines import Loopback, Mark, engines, overhead, speed_up
from explorer.experiment import Experiment
from explorer.profile import Knowledge
from explorer.search.jobs import Job
from explorer.stress import cluster
from explorer.stress.campaign import Limits, Stress, begin
from explorer.stress.cluster import Cluster, introduce, why_unfit
from explorer.stress.engines import Changed, Engine, Inline, Processes, Replaced, Result
from explorer.stress.identity import key_of
from explorer.stress.matrix import Point, Request, expand
from explorer.stress.store import Store
from explorer.stress.work import Order
from explorer.workers import MOST_LOSSES
from protocol.errors import UsageError
from tests.conftest import Command, check_usage_error
from tests.tidy.sources import ROOT, SHIPPED

REQUEST = Request(scenarios=("canary", "destroy-typesafe"), kernels=("5.3", "original"), strategies=("random", "pct"))
BUDGET = 1_500


# -- a campaign -------------------------------------------------------------------------------------------------------


@pytest.fixture
def started() -> Iterator[Loopback]:
    with Loopback() as one:
        yield one


@attrs.frozen
class Ended:
    """All that a store says of a campaign, except times, and the events."""

    tables: dict[str, list[tuple[Any, ...]]]
    replaced: int
    events: list[tuple[str, dict[str, Any]]]


TABLES = {
    "campaigns": "epoch, digest",
    "cells": "key, name, state, schedules, with_findings, steps, draws, once, classes, level, gain, spent, guide",
    "epochs": "number, schedules, steps, classes, pairs, causes, chance, digest",
    "jobs": "epoch, place, cell, way, first, count, state, digest",
    "classes": "*",
    "pairs": "cell, first, second, job",
    "functions": "*",
    "reaches": "*",
    "bugs": "*",
    "sightings": "*",
    "witnesses": "cell, signature, job, first, finding, log",
}


def campaign(folder: Path, engine: Engine, told: Callable[[str], None] = lambda _event: None) -> Ended:
    """Run a campaign, or go on with it."""
    events: list[tuple[str, dict[str, Any]]] = []

    def tell(event: str, fields: dict[str, Any]) -> None:
        events.append((event, fields))
        told(event)

    with Store(folder, writes=True) as store:
        row = store.latest()
        number = begin(store, REQUEST, expand(REQUEST)) if row is None else int(row["id"])
        stress = Stress(store, number, REQUEST, engine, Limits(budget=BUDGET), told=tell)
        trio.run(stress.run)
        tables = {
            table: sorted(map(tuple, store.rows(f"SELECT {columns} FROM {table}")))  # noqa: S608 -- the names above
            for table, columns in TABLES.items()
        }
        return Ended(tables, stress.replaced, events)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Any, ...]]]:
    """What the campaign comes to in one process."""
    return campaign(tmp_path_factory.mktemp("inline") / "store", Inline()).tables


def killer(process: subprocess.Popen[str], after: int) -> Callable[[str], None]:
    """Kill *process* when so many jobs are done."""
    done = []

    def told(event: str) -> None:
        done.extend([event] if event == "job" else [])
        if len(done) == after:
            process.kill()

    return told


# -- equal answers ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_come_to_the_same(expected: dict[str, Any], tmp_path: Path) -> None:
    assert campaign(tmp_path, Processes(2)).tables == expected
    assert expected["witnesses"]


@pytest.mark.slow
def test_two_workers_of_a_cluster_come_to_the_same_though_one_is_killed(
    started: Loopback, expected: dict[str, Any], tmp_path: Path
) -> None:
    started.worker()
    second = started.worker()

    ended = campaign(tmp_path, Cluster(started.address), killer(second, after=10))

    assert ended.tables == expected
    assert ended.replaced == 1
    assert [fields["count"] for event, fields in ended.events if event == "workers"] == [2, 1]


@pytest.mark.slow
def test_a_campaign_waits_for_a_worker_and_says_so_once(
    started: Loopback, expected: dict[str, Any], tmp_path: Path
) -> None:
    def told(event: str) -> None:
        if event == "workers" and len(started.processes) == 1:
            started.worker()

    ended = campaign(tmp_path, Cluster(started.address), told)

    assert ended.tables == expected
    assert [fields for event, fields in ended.events if event == "workers"] == [
        {"count": 0, "why": "no worker has come yet"},
        {"count": 1, "why": "workers have come"},
    ]


@pytest.mark.slow
def test_a_lost_scheduler_ends_the_campaign_and_another_engine_goes_on(
    started: Loopback, expected: dict[str, Any], tmp_path: Path
) -> None:
    started.worker()

    with pytest.raises(UsageError, match=r"^--cluster tcp://\S+: the cluster is lost .*again$") as caught:
        campaign(tmp_path, Cluster(started.address), killer(started.scheduler, after=10))

    assert "\n" not in str(caught.value)
    with Store(tmp_path, writes=False) as store:
        states = {row[0]: row[1] for row in store.rows("SELECT state, count(*) FROM jobs GROUP BY state")}
    assert states["done"] >= 10
    assert states["planned"] > 0
    assert set(states) == {"done", "planned"}
    assert campaign(tmp_path, Inline()).tables == expected


# -- jobs -------------------------------------------------------------------------------------------------------------


def an_order(count: int = 1, key: str = "") -> Order:
    options = Point(scenario="canary", kernel="5.3", strategy="random").options(0)
    return Order(7, key or key_of(Experiment.of(options)), options, Job("random", 0, 0, count, Knowledge()))


async def until_result(engine: Engine) -> tuple[Result, list[Replaced | Changed]]:
    """The first result, and the news before it."""
    news: list[Replaced | Changed] = []
    while True:
        one = await engine.result()
        if isinstance(one, Result):
            await engine.close()
            return one, news
        news.append(one)


@pytest.mark.slow
def test_a_job_that_takes_too_long_ends_its_workers_and_is_lost_in_the_end(started: Loopback) -> None:
    started.worker(nanny=True)  # it starts another worker each time
    engine = Cluster(started.address, seconds=0.2)
    engine.submit(an_order(count=1_000_000))

    result, news = trio.run(until_result, engine)

    assert (result.number, result.kind) == (7, "lost")
    assert f"{MOST_LOSSES} worker processes were lost (it took more than 0.2 s)" in result.why
    assert [one.number for one in news if isinstance(one, Replaced)] == [7] * MOST_LOSSES


@pytest.mark.slow
def test_a_job_is_lost_too_if_all_its_workers_have_one_address(
    started: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started.worker("--worker-port", str(port), nanny=True)
    engine = Cluster(started.address, seconds=0.2)
    engine.submit(an_order(count=1_000_000))

    result, news = trio.run(until_result, engine)

    assert (result.number, result.kind) == (7, "lost")
    assert f"all at tcp://127.0.0.1:{port}" in result.why
    assert not [one for one in news if isinstance(one, Replaced)]


@pytest.mark.slow
def test_a_worker_that_refuses_a_job_gets_no_other_and_the_job_stays(started: Loopback) -> None:
    started.worker()
    engine = Cluster(started.address)
    engine.submit(an_order(key="0" * 32))

    with pytest.raises(UsageError, match=r"worker tcp://\S+ cannot be used: canary on 5.3: .* has changed since"):
        trio.run(until_result, engine)


# -- workers that are refused -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_with_two_threads_is_refused(started: Loopback) -> None:
    started.worker("--nthreads", "2")

    with pytest.raises(UsageError, match=r"^--cluster \S+: worker \S+ cannot be used: it has 2 threads, .*--nworkers$"):
        Cluster(started.address)


@pytest.mark.slow
def test_a_worker_with_another_model_is_refused_and_the_others_are_used(started: Loopback, tmp_path: Path) -> None:
    for package in SHIPPED:
        shutil.copytree(ROOT / package, tmp_path / package)
    with (tmp_path / "actors" / "api.py").open("a", encoding="utf-8") as file:
        file.write("# another model\n")
    started.worker(place=tmp_path)

    with pytest.raises(UsageError, match=r"it has slabrace \S+ with model \w+, and here is .*; install the same$"):
        Cluster(started.address)

    started.worker()
    engine = Cluster(started.address)
    engine.submit(an_order())
    result, news = trio.run(until_result, engine)

    assert result.kind == "done"
    assert ["cannot be used" in one.why for one in news if isinstance(one, Changed)] == [True, False]


def test_a_worker_without_slabrace_is_refused() -> None:
    assert why_unfit(1, ModuleNotFoundError("No module named 'slabrace'")) == (
        "slabrace does not run there (ModuleNotFoundError: No module named 'slabrace'); install slabrace[cluster]"
    )
    assert why_unfit(1, introduce()) == ""


# -- no cluster -------------------------------------------------------------------------------------------------------


def test_the_package_is_optional(slabrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    answer = slabrace("stress", "canary", "--store", "store", "--cluster", "tcp://127.0.0.1:1")

    assert "pip install 'slabrace[cluster]'" in check_usage_error(answer)
    assert not Path("store").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense://a", "tcp://"])
def test_an_address_without_a_scheduler_is_refused(
    slabrace: Command, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.2)

    answer = slabrace("stress", "canary", "--store", "store", "--cluster", address)

    assert f"--cluster {address}: no scheduler answers there" in check_usage_error(answer)
    assert not Path("store").exists()


def test_a_server_that_says_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.2)
    server = socket.create_server(("127.0.0.1", 0))
    with server, pytest.raises(UsageError, match="no scheduler answers there"):
        Cluster(f"tcp://127.0.0.1:{server.getsockname()[1]}")


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_lines_of_the_page_run_a_campaign(tmp_path: Path) -> None:
    (lines,) = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL | re.MULTILINE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    shell = subprocess.Popen(  # noqa: S603 -- the lines of the page
        ["/bin/bash", "-c", lines.replace("8786", str(port))],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        out, _ = shell.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)

    assert lines.count("\n") == 4
    assert lines in (ROOT / "README.md").read_text()
    assert "budget: 0 new causes" in out
    assert "2000 schedules of 1 cell" in out


# -- the benchmark ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_benchmark_holds_the_engines_against_each_other() -> None:
    report = engines(schedules=40, rounds=1)

    assert not report.failures
    assert {row.label.partition(":")[0] for row in report.rows if row.unit == "ms/job"} == {
        "inline",
        "pool of 1",
        "pool of 2",
        "cluster of 1",
        "cluster of 2",
    }


def test_ratios_of_the_benchmark() -> None:
    one = Mark(clock=110.0, parent=4.0, workers=100.0, others=1.0)
    two = Mark(clock=56.0, parent=4.0, workers=100.0, others=1.0)

    assert overhead(one, Mark(100.0, 100.0, 0.0, 0.0)) == pytest.approx(1.05)
    assert speed_up(two, one) == pytest.approx(2 * 100 / 105)
    assert two.since(one, 2).clock == -27_000
