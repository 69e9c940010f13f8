"""Worker processes of a command: each does one task at a time, and sends news of it.

A worker is a new interpreter at the other end of a socket. It ends when its parent ends, in whatever way: the socket
closes then, and a thread of the worker only reads, even in the middle of a task. Signals from a terminal or a service
manager go to the whole process group, but only the parent handles them: workers start with these signals blocked. Their
standard output is standard error, so that no worker keeps the pipe of the command's answer open.

A worker that is lost (killed, out of memory, `os._exit` in a patch) is replaced, and its task is done again.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import attrs

from explorer.abandoned import drop_warnings, warnings_held
from explorer.signals import SIGNALS
from explorer.streams import complain
from protocol.errors import InternalError, NoAnswerError, UsageError

MOST_LOSSES = 3
"""Losses of workers until a task is given up: one loss may be bad luck, three are the task's fault."""

MOST_KILLS = 12
"""The same for workers that something else killed with SIGKILL: that is rarely the task's fault."""

Tell = Callable[[object], None]


class WorkerLostError(NoAnswerError):
    """A task lost every worker that tried it."""


@attrs.define(eq=False)
class Task:
    """A task of a worker: `call(*arguments, tell)`, where `call` is importable; *name* is for messages.

    `heard` is called with each value that the worker sends meanwhile, and with None when the task starts again. `lost`
    is called with the reason when a worker is lost with it: `losses` and `kills` have the numbers by then. Once it
    `is_done`, there is an `answer`, or an `error`.
    """

    name: str
    call: Callable[..., object]
    arguments: tuple[object, ...]
    heard: Callable[[object], None] | None = None
    lost: Callable[[str], None] | None = None
    losses: int = 0
    kills: int = 0
    is_done: bool = False
    answer: Any = None
    error: Exception | None = None

    def end(self, answer: object, error: Exception | None = None) -> None:
        """Mark the task as done."""
        self.answer, self.error, self.is_done = answer, error, True


@attrs.define(eq=False)
class Worker:
    """A worker process, the parent's end of its socket, and its current task."""

    process: subprocess.Popen[bytes]
    connection: Connection
    task: Task | None = None
    why_ended: str = ""

    def end(self, why: str) -> None:
        """Kill the process; the pool replaces it."""
        self.why_ended = why
        self.process.kill()


@attrs.define(eq=False)
class Pool:
    """At most *size* workers, started when there are tasks. `lost` counts lost workers; if `is_quiet`, silently."""

    size: int
    lost: int = 0
    is_quiet: bool = False
    _waiting: deque[Task] = attrs.field(factory=deque, init=False)
    _workers: dict[Connection, Worker] = attrs.field(factory=dict, init=False)

    def add(self, task: Task) -> None:
        """Queue *task* for the next free worker."""
        self._waiting.append(task)
        self._give_out()

    @property
    def workers(self) -> list[Worker]:
        """The workers that run."""
        return list(self._workers.values())

    @property
    def connections(self) -> list[Connection]:
        """The connections to the workers; `hear` reads them."""
        return list(self._workers)

    @property
    def is_busy(self) -> bool:
        """Whether a task is not done yet."""
        return bool(self._waiting) or any(worker.task for worker in self._workers.values())

    def answer(self, task: Task) -> Any:
        """Wait for *task*; return its answer, or raise its error."""
        while not task.is_done:
            self.hear()
        if task.error is not None:
            raise task.error
        return task.answer

    def hear(self, seconds: float | None = None) -> None:
        """Wait for messages from workers, at most so long, and handle them."""
        for connection in wait(list(self._workers), seconds):
            worker = self._workers[connection]  # type: ignore[index]  # only connections were given to wait()
            try:
                what, value = worker.connection.recv()
            except (EOFError, OSError):
                self._lose(worker)
            else:
                self._take(worker, what, value)
        self._give_out()

    def close(self) -> None:
        """Kill all workers, whatever they do; their results are not needed any more."""
        self._waiting.clear()
        while self._workers:
            _, worker = self._workers.popitem()
            worker.process.kill()
            worker.process.wait()
            worker.connection.close()

    def _give_out(self) -> None:
        busy = sum(worker.task is not None for worker in self._workers.values())
        while len(self._workers) < min(self.size, busy + len(self._waiting)):
            with blocked_signals():
                worker = start()
                self._workers[worker.connection] = worker
        for worker in self._workers.values():
            if self._waiting and worker.task is None:
                worker.task = task = self._waiting.popleft()
                with contextlib.suppress(OSError):  # it has died, and hear() will see that
                    worker.connection.send((task.call, task.arguments))

    def _take(self, worker: Worker, what: str, value: object) -> None:
        """Handle a worker's message: news of its task (`told`), or its end (`done`, `failed` or `refused`)."""
        task = worker.task
        assert task is not None, "messages come from workers with a task"
        if what == "told":
            if task.heard is not None:
                task.heard(value)
            return
        worker.task = None
        error: Exception | None = None
        if what == "refused":
            error = UsageError(value)
        elif what == "failed":
            error = InternalError(f"{task.name}: {value}")
        task.end(value, error)

    def _lose(self, worker: Worker) -> None:
        """Handle the loss of a worker: report it, and queue its task again, unless that has had too many losses."""
        del self._workers[worker.connection]
        worker.connection.close()
        self.lost += 1
        task, code = worker.task, worker.process.wait()
        end = worker.why_ended or how_it_ended(code)
        if task is None:
            self._complain(f"a worker process was lost ({end})")
            return
        if code == -signal.SIGKILL and not worker.why_ended:
            task.kills += 1
        else:
            task.losses += 1
        if task.lost is not None:
            task.lost(end)
        if task.losses < MOST_LOSSES and task.kills < MOST_KILLS:
            self._complain(f"a worker process was lost ({end}); it is done again: {task.name}")
            if task.heard is not None:
                task.heard(None)
            self._waiting.appendleft(task)
        else:
            task.end(None, WorkerLostError(lost_for_good(task.name, task.losses + task.kills, end)))

    def _complain(self, text: str) -> None:
        if not self.is_quiet:
            complain(text)


def lost_for_good(name: str, losses: int, end: str) -> str:
    """Why a task is given up."""
    return f"{name}: {losses} worker processes were lost ({end}); is it out of memory, or does a patch end the process?"


def how_it_ended(code: int) -> str:
    """The exit code of a process, or the signal that killed it, in words."""
    if code >= 0:
        return f"exit code {code}"
    return f"killed by {signal.Signals(-code).name if -code in list(signal.Signals) else f'signal {-code}'}"


@contextlib.contextmanager
def blocked_signals() -> Iterator[None]:
    """Block signals that end commands within the block; a process started there inherits the blocked signals."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start() -> Worker:
    """Start a worker process with this process's module path."""
    ours, theirs = Pipe()
    boot = (
        f"import sys; sys.path[:] = {sys.path!r}; from slabrace.names import claim; claim(); "
        f"from explorer.workers import serve; serve({theirs.fileno()})"
    )
    options = ["-u", *["-O"] * sys.flags.optimize, *(f"-W{option}" for option in sys.warnoptions)]
    out = subprocess.DEVNULL if sys.__stderr__ is None else sys.__stderr__.fileno()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 -- ourselves
            [sys.executable, *options, "-c", boot], stdin=subprocess.DEVNULL, stdout=out, pass_fds=[theirs.fileno()]
        )
    return Worker(process, ours)


# -- in the worker ----------------------------------------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Do tasks until the parent ends."""
    connection, tasks = Connection(descriptor), queue.SimpleQueue[bytes]()
    _thread.start_new_thread(_read, (connection, tasks))
    while True:
        call, arguments = pickle.loads(tasks.get())  # noqa: S301 -- the parent wrote it; imports happen here
        _tell(connection, *perform(call, arguments, lambda news: _tell(connection, "told", news)))


def _read(connection: Connection, tasks: queue.SimpleQueue[bytes]) -> None:
    """Read tasks; end the process when the parent ends."""
    try:
        while True:
            tasks.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def perform(call: Callable[..., object], arguments: tuple[object, ...], tell: Tell) -> tuple[str, object]:
    """Do a task: `done` and its answer, or `refused` or `failed` and the reason."""
    with warnings_held() as held:
        try:
            return "done", call(*arguments, tell)
        except UsageError as error:
            drop_warnings(held)
            return "refused", str(error)
        except BaseException:  # noqa: BLE001 -- the parent reports it
            return "failed", traceback.format_exc()


def _tell(connection: Connection, what: str, value: object) -> None:
    try:
        connection.send((what, value))
    except OSError:
        os._exit(0)  # the parent is gone
