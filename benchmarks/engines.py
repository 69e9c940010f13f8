"""`engines`: the cost of a campaign's engines for each job: in this process, in worker processes, on a cluster.

Every engine runs the same campaign, so it does the same jobs; the claims include that. On a machine with other work the
clock says little, so the measure is CPU time, of each process that takes part, from the end of the first epoch on: the
processes have started then. The clock is shown beside it.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import attrs
import trio

from benchmarks.report import Ratio, Report, Row
from benchmarks.trees import ROOT
from explorer.garbage import collected_rarely
from explorer.stress.campaign import Limits, Stress, begin
from explorer.stress.cluster import Cluster
from explorer.stress.engines import Changed, Engine, Inline, Processes, Replaced, Result
from explorer.stress.matrix import Request, expand
from explorer.stress.plain import pack
from explorer.stress.store import FILE, Store
from explorer.stress.work import Order

SCHEDULES = 4_000
ROUNDS = 3
REQUEST = Request(
    scenarios=("rmdir-empty", "create-vs-offline", "destroy-typesafe"),
    kernels=("5.3", "original"),
    strategies=("guided", "random"),
)
TICKS = os.sysconf("SC_CLK_TCK")

CALM = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False", "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s"}
"""What docs/cluster.md recommends: without it dask's own work in an idle worker takes three times as long."""

MOST_OVERHEAD = 1.05
LEAST_SPEED_UP = 1.85

Pids = Callable[[], Sequence[int]]


# -- a cluster --------------------------------------------------------------------------------------------------------


class Loopback:
    """A scheduler on loopback, and its workers, each a process of its own; all that are left end with the block."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []
        self.scheduler = self._start("scheduler", "--port", "0")
        self.address = self._wait_for(self.scheduler, r"Scheduler at:\s+(tcp://127\.0\.0\.1:\d+)")

    def worker(self, *options: str, place: Path = ROOT, nanny: bool = False) -> subprocess.Popen[str]:
        """Start a worker with the code in *place*, and wait until the scheduler knows it."""
        given = ("--nthreads", "1", "--nworkers", "1", *(() if nanny else ("--no-nanny",)), *options)
        worker = self._start("worker", self.address, *given, place=place)
        self._wait_for(worker, r"Registered to:\s+(tcp://\S+)")
        return worker

    def _start(self, *words: str, place: Path = ROOT) -> subprocess.Popen[str]:
        process = subprocess.Popen(  # noqa: S603 -- a command of our own
            [sys.executable, "-m", "dask", *words, "--host", "127.0.0.1", "--no-dashboard"],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a nanny's worker ends with it
            cwd=place,
            env={**os.environ, **CALM, "PYTHONPATH": str(place)},
        )
        self.processes.append(process)
        return process

    def _wait_for(self, process: subprocess.Popen[str], pattern: str) -> str:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            found = re.search(pattern, line)
            if found is not None:
                return found[1]
        raise AssertionError("".join(seen))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            assert process.stderr is not None
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stderr.close()


# -- measuring --------------------------------------------------------------------------------------------------------


@attrs.frozen
class Mark:
    """Seconds so far: by the clock, and of CPU time in this process, the workers, and the others that take part."""

    clock: float
    parent: float
    workers: float
    others: float

    @classmethod
    def now(cls, workers: Sequence[int], others: Sequence[int]) -> Mark:
        """Read the meters."""
        return cls(time.perf_counter(), time.process_time(), sum(map(cpu_of, workers)), sum(map(cpu_of, others)))

    def since(self, before: Mark, jobs: int) -> Mark:
        """The milliseconds for each of so many jobs since then."""
        pairs = zip(attrs.astuple(self), attrs.astuple(before), strict=True)
        return Mark(*((mine - theirs) * 1e3 / jobs for mine, theirs in pairs))

    @property
    def cpu(self) -> float:
        """All CPU time."""
        return self.parent + self.workers + self.others


def cpu_of(pid: int) -> float:
    """The CPU time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@attrs.frozen
class Run:
    """One campaign: ms a job, its jobs after the first epoch, its schedules, its digest, and its store's bytes."""

    cost: Mark
    jobs: int
    schedules: int
    digest: str
    table_bytes: Mapping[str, int]


def run_campaign(engine: Engine, schedules: int, workers: Pids = tuple, others: Pids = tuple) -> Run:
    """Run the campaign in a new store; *workers* and *others* give the processes that take part beside this one."""
    marks: list[Mark] = []

    def told(event: str, _fields: Mapping[str, Any]) -> None:
        if event == "epoch":
            marks.append(Mark.now(workers(), others()))

    with tempfile.TemporaryDirectory(prefix="slabrace-") as folder, collected_rarely():
        with Store(Path(folder), writes=True) as store:
            campaign = begin(store, REQUEST, expand(REQUEST))
            trio.run(Stress(store, campaign, REQUEST, engine, Limits(budget=schedules), told=told).run)
            jobs, done = store.rows("SELECT count(*), sum(count) FROM jobs WHERE epoch > 0")[0]
            digest = store.value("SELECT digest FROM campaigns")
            tables = {row[0]: row[1] for row in store.rows("SELECT name, sum(pgsize) FROM dbstat GROUP BY name")}
        tables["all"] = Path(folder, FILE).stat().st_size
    return Run(marks[-1].since(marks[0], jobs), jobs, done, digest, tables)


class Weighed:
    """An engine whose orders and answers are weighed: `sent` and `received` are bytes, pickled and packed."""

    def __init__(self) -> None:
        self._inner = Inline()
        self.room = self._inner.room
        self.jobs = 0
        self.sent = [0, 0]
        self.received = [0, 0]

    def submit(self, order: Order) -> None:
        """Weigh a job, and take it."""
        self.jobs += 1
        add_weights(self.sent, order)
        self._inner.submit(order)

    async def result(self) -> Result | Replaced | Changed:
        """Wait for a result, and weigh its answer."""
        result = await self._inner.result()
        assert isinstance(result, Result)
        add_weights(self.received, result.answer)
        return result

    async def close(self) -> None:
        """Forget the jobs."""
        await self._inner.close()


def add_weights(sums: list[int], value: object) -> None:
    """Add the bytes of a value, pickled and packed."""
    sums[0] += len(pickle.dumps(value))
    sums[1] += len(pack(value))


# -- the contestants --------------------------------------------------------------------------------------------------


@contextmanager
def contestants(schedules: int) -> Iterator[Mapping[str, Callable[[], Run]]]:
    """The engines by name, with clusters of one worker and of two; each call runs the campaign."""
    with Loopback() as one, Loopback() as two:
        ones, twos = [one.worker().pid], [two.worker().pid, two.worker().pid]
        yield {
            "inline": lambda: run_campaign(Inline(), schedules),
            "pool of 1": lambda: run_pool(1, schedules),
            "pool of 2": lambda: run_pool(2, schedules),
            "cluster of 1": lambda: run_cluster(one, ones, schedules),
            "cluster of 2": lambda: run_cluster(two, twos, schedules),
        }


def run_pool(size: int, schedules: int) -> Run:
    """Run the campaign in worker processes."""
    engine = Processes(size)
    return run_campaign(engine, schedules, lambda: [worker.process.pid for worker in engine._pool.workers])


def run_cluster(cluster: Loopback, workers: Sequence[int], schedules: int) -> Run:
    """Run the campaign on a cluster."""
    return run_campaign(Cluster(cluster.address), schedules, lambda: workers, lambda: [cluster.scheduler.pid])


def engines(*, schedules: int = SCHEDULES, rounds: int = ROUNDS) -> Report:
    """CPU time and bytes for each job of a campaign: in one process, in worker processes, on a cluster."""
    weighed = Weighed()
    run_campaign(weighed, schedules)  # this warms up, too
    with contestants(schedules) as runners:
        runs: dict[str, list[Run]] = {name: [] for name in runners}
        order = list(runners.items())
        for _ in range(rounds):
            for name, run in order:
                runs[name].append(run())
            order.reverse()
    every = [run for found in runs.values() for run in found]
    failures = () if len({run.digest for run in every}) == 1 else ("the engines do not come to the same digest",)
    return Report(
        name="engines",
        rows=(*rows_of(runs), *weights(weighed, every[0]), *store_rows(every[0])),
        ratios=ratios_of(runs),
        failures=failures,
        notes=(
            f"{every[0].jobs} jobs with {every[0].schedules} schedules; medians of {rounds} rounds, engines in turn",
            "CPU time from the end of the first epoch on; a ratio is taken within a round",
            "speed-up of two workers by CPU time: where each of two workers has a core, and the parent shares them",
        ),
    )


def rows_of(runs: Mapping[str, Sequence[Run]]) -> Iterator[Row]:
    """The CPU time of each engine, by process, and the clock."""
    for name, found in runs.items():
        for part in ("parent", "workers", "others", "clock"):
            value = statistics.median(getattr(run.cost, part) for run in found)
            if value:
                label = {"others": "scheduler", "clock": "by the clock"}.get(part, part)
                yield Row(f"{name}: {label}", value, "ms/job")


def weights(weighed: Weighed, run: Run) -> Iterator[Row]:
    """The bytes of a job in both directions."""
    schedules = run.schedules / run.jobs
    for direction, sums in (("order", weighed.sent), ("answer", weighed.received)):
        for form, total in zip(("pickled, as a pool sends it", "packed, as a cluster gets it"), sums, strict=True):
            yield Row(f"{direction}, {form}", total / weighed.jobs, "bytes/job")
            yield Row(f"{direction}, {form}", total / weighed.jobs / schedules, "bytes/schedule")


def store_rows(run: Run) -> Iterator[Row]:
    """The bytes of the store."""
    for table in ("jobs", "classes", "pairs", "functions", "cells", "all"):
        yield Row(f"store: {table}", run.table_bytes[table], "bytes")


def ratios_of(runs: Mapping[str, Sequence[Run]]) -> tuple[Ratio, ...]:
    """The overhead against inline, and the gain of a second worker."""

    def compare(name: str, value: Callable[[Mark, Mark], float], base: str = "inline") -> float:
        return statistics.median(
            value(mine.cost, other.cost) for mine, other in zip(runs[name], runs[base], strict=True)
        )

    found = [
        Ratio("pool of 1 against inline, CPU", compare("pool of 1", overhead), "at most", MOST_OVERHEAD),
        Ratio("cluster of 1 against inline, CPU", compare("cluster of 1", overhead), "at most", MOST_OVERHEAD),
    ]
    for kind in ("pool", "cluster"):
        two, one = f"{kind} of 2", f"{kind} of 1"
        found += [
            Ratio(f"{two} against {one}, by CPU", compare(two, speed_up, one), "at least", LEAST_SPEED_UP),
            Ratio(f"{two} against {one}, by the clock", compare(two, clock_ratio, one)),
        ]
    return tuple(found)


def overhead(mine: Mark, inline: Mark) -> float:
    """The CPU time of all processes, relative to one process."""
    return mine.cpu / inline.cpu


def speed_up(two: Mark, one: Mark) -> float:
    """How much faster two workers are on two cores: one worker takes its own CPU time, as the parent runs beside it."""
    return 2 * max(one.workers, one.parent + one.others) / two.cpu


def clock_ratio(two: Mark, one: Mark) -> float:
    """The same by the clock."""
    return one.clock / two.clock
