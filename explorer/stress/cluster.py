"""The engine for a cluster: its jobs run in workers of dask.distributed, on this machine or on many.

The package `distributed` belongs to the extra `cluster`; it is imported only when a cluster is asked for. Its client
lives in a thread with a loop of its own (`Link`); the campaign sees the `Cluster`.

The link sends each job to a worker that it chooses, and at most two to one worker: one runs, the next is there when it
ends. So it knows which job a worker ran when it was lost, and only this job has one try less. A worker that could give
other answers is never used: one with other code, one whose files are others, and one with several threads, because
jobs use state of their process.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING, Any

import attrs
import trio

from explorer import defaults
from explorer.stress.answer import Answer
from explorer.stress.engines import QUEUED_PER_WORKER, Changed, Replaced, Result
from explorer.stress.identity import model_hash
from explorer.stress.plain import pack, unpack
from explorer.stress.work import Order, work
from explorer.workers import MOST_LOSSES, lost_for_good, perform
from protocol.errors import UsageError
from slabrace.names import call

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 8.0
LOOK_SECONDS = 1.0
"""The time between two looks at the list of workers: so late the loss of one is seen."""

ANSWER_SECONDS = 30.0
"""The scheduler, or a new worker, is given up if it has not answered for so long."""

CLOSE_SECONDS = 1.0
EXIT_LATE = 70
"""Exit code of a worker that ends itself because a job takes too long."""

News = Result | Replaced | Changed | UsageError


class Cluster:
    """Runs jobs on the cluster whose scheduler is at *address*; UsageError if it cannot be used."""

    def __init__(self, address: str, seconds: float = defaults.STRESS_JOB_SECONDS) -> None:
        if importlib.util.find_spec("distributed") is None:
            msg = f"--cluster {address}: distributed is not installed: pip install 'slabrace[cluster]'"
            raise UsageError(msg)
        self._news: deque[News] = deque()
        self._waiting: tuple[trio.lowlevel.TrioToken, trio.Event] | None = None
        self._link = Link(address, seconds, self._hear)
        self._thread = threading.Thread(target=self._link.run, name="cluster", daemon=True)
        self._thread.start()
        self._link.ready.result()

    @property
    def room(self) -> int:
        """Two jobs for each worker; 0 while there is none."""
        return self._link.workers * QUEUED_PER_WORKER

    def submit(self, order: Order) -> None:
        """Send a job to the worker with the fewest, or hold it until there is one."""
        self._link.ask(self._link.take, order)

    async def result(self) -> Result | Replaced | Changed:
        """Wait for the next news; UsageError if the cluster is lost."""
        await trio.lowlevel.checkpoint()
        while not self._news:
            event = trio.Event()
            self._waiting = trio.lowlevel.current_trio_token(), event
            if not self._news:  # otherwise they came meanwhile, and nothing sets the event
                await event.wait()
        news = self._news.popleft()
        if isinstance(news, UsageError):
            raise news
        return news

    def _hear(self, news: News) -> None:
        """Keep the news, and wake up the campaign; the link's thread calls this."""
        self._news.append(news)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            token, event = waiting
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(event.set)

    async def close(self) -> None:
        """Cancel all jobs, and leave the cluster."""
        self._link.ask(self._link.stop)
        await trio.to_thread.run_sync(self._thread.join, 2 * CLOSE_SECONDS)


@attrs.define(eq=False)
class Node:
    """A worker, and its jobs in the order in which it does them; the first one has run since `since`."""

    address: str
    jobs: dict[int, tuple[Order, asyncio.Task[None]]] = attrs.field(factory=dict)
    since: float = 0.0

    def add(self, order: Order, task: asyncio.Task[None]) -> None:
        """Add a job that was sent."""
        if not self.jobs:
            self.since = time.monotonic()
        self.jobs[order.number] = order, task

    def remove(self, number: int) -> None:
        """Remove a job that has ended."""
        del self.jobs[number]
        self.since = time.monotonic()


class Link:
    """The client of the cluster. All but `run`, `ask`, `ready` and `workers` belongs to its own thread.

    `tell` is called with each news. `ready` ends when the workers that are there have been looked at.
    """

    def __init__(self, address: str, seconds: float, tell: Callable[[News], None]) -> None:
        self.address = address
        self.ready: Future[None] = Future()
        self.workers = 0
        self._seconds = seconds
        self._tell = tell
        self._client: Client
        self._killed: type[Exception]
        self._loop: asyncio.AbstractEventLoop
        self._stopped: asyncio.Event
        self._serial = itertools.count()
        self._nodes: dict[str, Node] = {}
        self._refused: dict[str, str] = {}
        self._meeting: set[str] = set()
        self._waiting: deque[Order] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Connect, and serve the campaign until it stops, or the cluster is lost."""
        asyncio.run(self._live())

    def ask(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function in the link's thread; nothing happens if that has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def stop(self) -> None:
        """Leave the cluster."""
        self._stopped.set()

    async def _live(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        try:
            self._client, self._killed = await connect(self.address)
        except Exception as error:  # noqa: BLE001 -- `ready` raises it again, in the thread that waits
            self.ready.set_exception(error)
            return
        try:
            await self._follow()
        except UsageError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the campaign must not wait for ever
            self._fail(self._lost(error))
        finally:
            for task in set(self._tasks):
                task.cancel()
            await leave(self._client)

    async def _follow(self) -> None:
        """Look at the list of workers, again and again."""
        while not self._stopped.is_set():
            threads = await asyncio.wait_for(self._client.nthreads(), ANSWER_SECONDS)
            for address in set(self._nodes) - set(threads):
                self._lose(self._nodes[address])
            self._refused = {address: why for address, why in self._refused.items() if address in threads}
            new = [address for address in threads if address not in {*self._nodes, *self._refused, *self._meeting}]
            if not self.ready.done():
                await self._meet(new, threads)
                self._begin()
            elif new:
                self._start(self._meet(new, threads))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), LOOK_SECONDS)

    def _begin(self) -> None:
        """Let the campaign begin, even if there are no workers yet, but not if all there are have to be refused."""
        if self._refused and not self._nodes:
            raise UsageError(next(iter(self._refused.values())))
        self.ready.set_result(None)
        if not self._nodes:
            self._count("no worker has come yet")

    def _start(self, coroutine: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        """Take note of the end of a task; none fails, and if one does, the campaign must not wait for its job."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._fail(self._lost(error))

    def _fail(self, error: UsageError) -> None:
        """Give the cluster up."""
        if not self.ready.done():
            self.ready.set_exception(error)
        else:
            self._tell(error)
        self.stop()

    def _lost(self, error: Exception) -> UsageError:
        why = in_a_line(error)
        return UsageError(f"--cluster {self.address}: the cluster is lost ({why}); start it, and this command, again")

    # -- workers ------------------------------------------------------------------------------------------------------

    async def _meet(self, addresses: list[str], threads: dict[str, int]) -> None:
        """Ask new workers for their code, and use those that fit."""
        self._meeting.update(addresses)
        try:
            said = await asyncio.wait_for(
                self._client.run(call, f"{__name__}:introduce", workers=addresses, on_error="return"), ANSWER_SECONDS
            )
        except (OSError, TimeoutError):
            return  # it is asked again at the next look
        finally:
            self._meeting.difference_update(addresses)
        unfit = {
            address: why_unfit(threads[address], version)
            for address, version in said.items()
            if not isinstance(version, OSError)  # it has gone
        }
        for address, why in unfit.items():
            if why:
                self._refuse(address, why)
        fit = {address: Node(address) for address, why in unfit.items() if not why}
        if fit:
            self._nodes.update(fit)
            self._count("workers have come")
            self._place()

    def _refuse(self, address: str, why: str) -> None:
        """Use a worker no longer."""
        self._refused[address] = f"--cluster {self.address}: worker {address} cannot be used: {why}"
        self._count(self._refused[address])

    def _count(self, why: str) -> None:
        """Count the workers, and say why they are others now."""
        self.workers = len(self._nodes)
        self._tell(Changed(self.workers, why))

    def _lose(self, node: Node) -> None:
        """Do the jobs of a lost worker again; the one that it ran has lost a try."""
        late = node.jobs and time.monotonic() - node.since > self._seconds
        why = f"it took more than {self._seconds:g} s" if late else f"worker {node.address} has gone"
        orders = self._drop(node)
        if orders:
            self._waiting.extendleft(reversed(orders[1:]))
            self._count_loss(orders[0], why)
        self._count(f"worker {node.address} has gone")
        self._place()

    def _drop(self, node: Node) -> list[Order]:
        """Take the jobs from a worker."""
        del self._nodes[node.address]
        orders = [order for order, _ in node.jobs.values()]
        for _, task in node.jobs.values():
            task.cancel()
        node.jobs.clear()
        return orders

    def _count_loss(self, order: Order, why: str) -> None:
        order = attrs.evolve(order, tries=order.tries + 1)
        self._tell(Replaced(order.number, why, order.tries, order.kills))
        if order.tries >= MOST_LOSSES:
            self._tell(Result(order.number, "lost", why=lost_for_good(str(order), order.tries, why)))
        else:
            self._waiting.appendleft(order)

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def take(self, order: Order) -> None:
        """Take a job of the campaign."""
        self._waiting.append(order)
        self._place()

    def _place(self) -> None:
        """Send the jobs that wait to workers with room, and to those with the fewest first."""
        while self._waiting and self._nodes:
            node = min(self._nodes.values(), key=lambda one: len(one.jobs))
            if len(node.jobs) == QUEUED_PER_WORKER:
                return
            order = self._waiting.popleft()
            node.add(order, self._start(self._send(node, order)))

    async def _send(self, node: Node, order: Order) -> None:
        """Send a job to a worker, and wait for its end."""
        future = self._client.submit(
            call,
            f"{__name__}:do",
            pack(order),
            self._seconds,
            key=f"slabrace-{self._client.id}-{order.number}-{next(self._serial)}",
            pure=False,
            workers=[node.address],
        )
        try:
            kind, value = await future
        except self._killed:  # several workers had one address in turn, and no look saw that
            kind, value = "lost", lost_for_good(str(order), MOST_LOSSES, f"all at {node.address}")
        except Exception as error:  # noqa: BLE001 -- `do` returns errors, so this one is of the cluster
            self._fail(self._lost(error))
            return
        finally:
            future.release()
        self._end(node, order, kind, value)
        self._place()

    def _end(self, node: Node, order: Order, kind: str, value: Any) -> None:
        """Handle the end of a job. A worker that refuses it has other files: another one may do it."""
        if kind == "refused":
            self._waiting.extendleft(reversed(self._drop(node)))
            self._refuse(node.address, value)
            if not self._nodes:
                self._fail(UsageError(self._refused[node.address]))
            return
        node.remove(order.number)
        if kind == "done":
            self._tell(Result(order.number, "done", unpack(value, Answer)))
        elif kind == "lost":
            self._tell(Result(order.number, "lost", why=value))
        else:
            self._tell(Result(order.number, "failed", why=f"{order}: {value}"))


async def connect(address: str) -> tuple[Client, type[Exception]]:
    """The client of a scheduler, and its error for a lost job; UsageError if there is no scheduler."""
    from distributed import Client, KilledWorker  # noqa: PLC0415 -- an optional package, and slow to import

    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what it would log is told in one line
    try:
        client = Client(address, asynchronous=True, set_as_default=False, timeout=CONNECT_SECONDS)
    except Exception as error:
        raise unreachable(address) from error
    try:
        return await asyncio.wait_for(client, CONNECT_SECONDS + 1), KilledWorker
    except Exception as error:
        await leave(client)
        raise unreachable(address) from error


def unreachable(address: str) -> UsageError:
    """The error of an address without a scheduler; addresses fail in many ways."""
    return UsageError(f"--cluster {address}: no scheduler answers there; is it running, and is the address right?")


async def leave(client: Client) -> None:
    """Close a client, in whatever state it is."""
    with suppress(Exception):
        await asyncio.wait_for(client.close(CLOSE_SECONDS), CLOSE_SECONDS)


def why_unfit(threads: int, version: tuple[str, str] | Exception) -> str:
    """Why a worker with so many threads cannot be used, which said this of its code; empty if it can."""
    if isinstance(version, Exception):
        return f"slabrace does not run there ({in_a_line(version)}); install slabrace[cluster]"
    if version != introduce():
        theirs, ours = (f"{number} with model {model}" for number, model in (version, introduce()))
        return f"it has slabrace {theirs}, and here is {ours}; install the same"
    if threads != 1:
        return f"it has {threads} threads, and each job needs a process; start it with --nthreads 1 and --nworkers"
    return ""


def in_a_line(error: Exception) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": .")


# -- in the worker ----------------------------------------------------------------------------------------------------


def introduce() -> tuple[str, str]:
    """The version of slabrace, and the hash of its model."""
    return metadata.version("slabrace"), model_hash()


def do(data: bytes, seconds: float) -> tuple[str, object]:
    """Do a job: `done` and the answer as bytes, or `refused` or `failed` and the reason.

    If the job takes longer than allowed, the process ends, and its nanny starts another one.
    """
    timer = threading.Timer(seconds, os._exit, [EXIT_LATE])
    timer.daemon = True
    timer.start()
    try:
        kind, value = perform(work, (unpack(data, Order),), lambda _news: None)
    finally:
        timer.cancel()
    return kind, pack(value) if kind == "done" else value
