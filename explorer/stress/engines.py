"""Engines: they run the jobs of a campaign, here or elsewhere, and answer in any order.

The store has the jobs, so an engine that is closed, or lost with its process, loses only the work in progress.
"""

from __future__ import annotations

import os
import time
import traceback
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import attrs
import trio

from explorer import defaults, signals
from explorer.stress.work import Order, work
from explorer.workers import Pool, Task, WorkerLostError
from protocol.errors import UsageError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from explorer.stress.answer import Answer

QUEUED_PER_WORKER = 2
"""Jobs that an engine is given for each worker: one runs, and the next is there when it ends."""

TICK_SECONDS = 0.2

PAGE = os.sysconf("SC_PAGE_SIZE")

Kind = Literal["done", "refused", "failed", "lost", "interrupted"]


@attrs.frozen
class Result:
    """The end of a job: its answer; or why it was `refused` (the user's fault), `failed` (ours) or `lost` its workers.

    `interrupted` means that a signal came while it ran in this process.
    """

    number: int
    kind: Kind
    answer: Answer | None = None
    why: str = ""


@attrs.frozen
class Replaced:
    """A worker was lost, or ended because it went beyond a limit; the job is tried again, or given up.

    `tries` are all workers that were lost with the job, `kills` those that something else killed (`Task`).
    """

    number: int
    why: str
    tries: int
    kills: int = 0


@attrs.frozen
class Changed:
    """A cluster has so many workers from now on; `why` is one line."""

    workers: int
    why: str


class Engine(Protocol):
    """Runs jobs. `room` is how many it takes at once."""

    @property
    def room(self) -> int:
        """The number of jobs; it may change."""

    def submit(self, order: Order) -> None:
        """Take a job."""

    async def result(self) -> Result | Replaced | Changed:
        """Wait for the next end of a job, loss of a worker, or change of `room`; UsageError if the engine is lost."""

    async def close(self) -> None:
        """Cancel all jobs in progress, and end all workers."""


class Inline:
    """Runs jobs in this process, one after the other; a suspect in another one, so that it can end only that."""

    room = 1

    def __init__(self) -> None:
        self._orders: deque[Order] = deque()
        self._apart: Processes | None = None

    def submit(self, order: Order) -> None:
        """Take a job."""
        self._orders.append(order)
        if order.is_suspect:
            self._apart = self._apart or Processes(1)
            self._apart.submit(order)

    async def result(self) -> Result | Replaced:
        """Run the next job. A signal ends it after its current step."""
        await trio.lowlevel.checkpoint()
        order = self._orders[0]
        if order.is_suspect and self._apart is not None:
            result = await self._apart.result()
            if isinstance(result, Result):
                self._orders.popleft()
            return result
        self._orders.popleft()
        try:
            with signals.let_through():
                return Result(order.number, "done", work(order))
        except KeyboardInterrupt:
            return Result(order.number, "interrupted")
        except UsageError as error:
            return Result(order.number, "refused", why=str(error))
        except Exception:  # noqa: BLE001 -- as in a worker
            return Result(order.number, "failed", why=f"{order}: {traceback.format_exc()}")

    async def close(self) -> None:
        """Forget the jobs."""
        self._orders.clear()
        if self._apart is not None:
            await self._apart.close()


class Processes:
    """Runs jobs in processes of this machine; each is replaced if it is lost, or goes beyond a limit."""

    def __init__(
        self, workers: int, memory: int = defaults.STRESS_MEMORY << 20, seconds: float = defaults.STRESS_JOB_SECONDS
    ) -> None:
        self.room = workers * QUEUED_PER_WORKER
        self._pool = Pool(workers, is_quiet=True)
        self._memory = memory
        self._seconds = seconds
        self._tasks: dict[Task, int] = {}
        self._replaced: deque[Replaced] = deque()
        self._began: dict[Task, float] = {}

    def submit(self, order: Order) -> None:
        """Queue a job for the next free worker."""
        task = Task(str(order), work, (order,), losses=order.tries, kills=order.kills)

        def lost(why: str) -> None:
            self._began.pop(task, None)  # the next worker has all the time
            self._replaced.append(Replaced(order.number, why, task.losses, task.kills))

        task.lost = lost
        self._tasks[task] = order.number
        self._pool.add(task)

    async def result(self) -> Result | Replaced:
        """Wait for a worker; look at the limits meanwhile, also if the caller waits only for short times."""
        while True:
            self._pool.hear(0)
            self._hold_limits()
            if self._replaced:
                return self._replaced.popleft()
            task = next((task for task in self._tasks if task.is_done), None)
            if task is not None:
                self._began.pop(task, None)
                return end_of(self._tasks.pop(task), task)
            with trio.move_on_after(TICK_SECONDS):
                await any_readable(self._pool.connections)

    def _hold_limits(self) -> None:
        now = time.monotonic()
        for worker in self._pool.workers:
            task = worker.task
            if task is None or task not in self._tasks:
                continue
            began = self._began.setdefault(task, now)
            if now - began > self._seconds:
                worker.end(f"it took more than {self._seconds:.0f} s")
            elif (used := resident(worker.process.pid)) > self._memory:
                worker.end(f"it used {used >> 20} MiB, and {self._memory >> 20} are allowed")

    async def close(self) -> None:
        """Kill all workers."""
        await trio.lowlevel.checkpoint()
        self._pool.close()


def end_of(number: int, task: Task) -> Result:
    """The end of a task, as the end of a job."""
    match task.error:
        case None:
            return Result(number, "done", task.answer)
        case WorkerLostError():
            return Result(number, "lost", why=str(task.error))
        case UsageError():
            return Result(number, "refused", why=str(task.error))
        case _:
            return Result(number, "failed", why=str(task.error))


async def any_readable(connections: list[Connection]) -> None:
    """Wait until one of them can be read."""
    async with trio.open_nursery() as nursery:

        async def watch(connection: Connection) -> None:
            await trio.lowlevel.wait_readable(connection.fileno())
            nursery.cancel_scope.cancel()

        for connection in connections:
            nursery.start_soon(watch, connection)
        if not connections:
            await trio.sleep_forever()


def resident(pid: int) -> int:
    """The resident memory of a process in bytes; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0
