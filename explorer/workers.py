"""Processes that work for a command: each does one task at a time, and tells of it.

A worker is a new interpreter at the other end of a socket. It ends when its parent does, however that ends, since the
socket then ends too: one of its threads does nothing but read, also in the middle of a task. What a terminal or a
service manager sends to the whole family is the parent's to answer: workers are born with these signals blocked. Their
standard output is standard error, so none of them keeps a pipe open that somebody reads the answer from.

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

from explorer.signals import SIGNALS
from explorer.streams import complain
from protocol.errors import InternalError, NoAnswerError, UsageError

MOST_LOSSES = 3
"""How many workers a task may lose before it is given up: one may be bad luck, three are the task's fault."""

Tell = Callable[[object], None]


class WorkerLostError(NoAnswerError):
    """A task has lost every worker that tried it."""


@attrs.define(eq=False)
class Task:
    """What a worker does: `call(*arguments, tell)`, of a module that it can import; *name* is for people.

    `heard` gets what the worker tells meanwhile, and None when it begins anew. Once it `is_done`, there is an `answer`,
    or an `error`.
    """

    name: str
    call: Callable[..., object]
    arguments: tuple[object, ...]
    heard: Callable[[object], None] | None = None
    losses: int = 0
    is_done: bool = False
    answer: Any = None
    error: Exception | None = None

    def end(self, answer: object, error: Exception | None = None) -> None:
        """It is over."""
        self.answer, self.error, self.is_done = answer, error, True


@attrs.define(eq=False)
class Worker:
    """A process, our end of the socket, and what it does now."""

    process: subprocess.Popen[bytes]
    connection: Connection
    task: Task | None = None


@attrs.define(eq=False)
class Pool:
    """So many workers, started when there is something to do. `lost` is how many were lost."""

    size: int
    lost: int = 0
    _waiting: deque[Task] = attrs.field(factory=deque, init=False)
    _workers: dict[Connection, Worker] = attrs.field(factory=dict, init=False)

    def add(self, task: Task) -> None:
        """Have *task* done as soon as a worker is free."""
        self._waiting.append(task)
        self._give_out()

    @property
    def is_busy(self) -> bool:
        """Whether a task is not done yet."""
        return bool(self._waiting) or any(worker.task for worker in self._workers.values())

    def answer(self, task: Task) -> Any:
        """Wait for what *task* comes to; raise its error, if that is one."""
        while not task.is_done:
            self.hear()
        if task.error is not None:
            raise task.error
        return task.answer

    def hear(self) -> None:
        """Wait until some worker has something to tell, and take it in."""
        for connection in wait(list(self._workers)):
            worker = self._workers[connection]  # type: ignore[index]  # only connections were given to wait()
            try:
                what, value = worker.connection.recv()
            except (EOFError, OSError):
                self._lose(worker)
            else:
                self._take(worker, what, value)
        self._give_out()

    def close(self) -> None:
        """End all workers, whatever they do: nobody wants it any more."""
        self._waiting.clear()
        while self._workers:
            _, worker = self._workers.popitem()
            worker.process.kill()
            worker.process.wait()
            worker.connection.close()

    def _give_out(self) -> None:
        while self._waiting and len(self._workers) < self.size:
            with blocked_signals():
                worker = start()
                self._workers[worker.connection] = worker
        for worker in self._workers.values():
            if self._waiting and worker.task is None:
                worker.task = task = self._waiting.popleft()
                with contextlib.suppress(OSError):  # it has died, and hear() will see that
                    worker.connection.send((task.call, task.arguments))

    def _take(self, worker: Worker, what: str, value: object) -> None:
        """A worker has `told` something of its task, or has `done` it; or the task `failed`, or was `refused`."""
        task = worker.task
        assert task is not None, "a worker speaks of a task only"
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
        """A worker is no more: say so, and have its task done again, unless it has had its chances."""
        del self._workers[worker.connection]
        worker.connection.close()
        self.lost += 1
        task, end = worker.task, how_it_ended(worker.process.wait())
        if task is None:
            complain(f"a worker process was lost ({end})")
            return
        task.losses += 1
        if task.losses < MOST_LOSSES:
            complain(f"a worker process was lost ({end}); it is done again: {task.name}")
            if task.heard is not None:
                task.heard(None)
            self._waiting.appendleft(task)
        else:
            why = "is it out of memory, or does a patch end the process?"
            task.end(None, WorkerLostError(f"{task.name}: {task.losses} worker processes were lost ({end}); {why}"))


def how_it_ended(code: int) -> str:
    """The exit code of a process, or the signal that killed it."""
    if code >= 0:
        return f"exit code {code}"
    return f"killed by {signal.Signals(-code).name if -code in list(signal.Signals) else f'signal {-code}'}"


@contextlib.contextmanager
def blocked_signals() -> Iterator[None]:
    """A signal that ends commands comes after the block; a process that is started within never gets one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start() -> Worker:
    """Start a process that finds the modules where this one does; it has a little while to import them."""
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
    """Do tasks until the parent is gone."""
    connection, tasks = Connection(descriptor), queue.SimpleQueue[bytes]()
    _thread.start_new_thread(_read, (connection, tasks))
    while True:
        call, arguments = pickle.loads(tasks.get())  # noqa: S301 -- our parent wrote it; what it needs is imported here
        _tell(connection, *_do(call, arguments, lambda news: _tell(connection, "told", news)))


def _read(connection: Connection, tasks: queue.SimpleQueue[bytes]) -> None:
    """Read tasks; end the process with the parent."""
    try:
        while True:
            tasks.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _do(call: Callable[..., object], arguments: tuple[object, ...], tell: Tell) -> tuple[str, object]:
    try:
        return "done", call(*arguments, tell)
    except UsageError as error:
        return "refused", str(error)
    except BaseException:  # noqa: BLE001 -- the parent reports it
        return "failed", traceback.format_exc()


def _tell(connection: Connection, what: str, value: object) -> None:
    try:
        connection.send((what, value))
    except OSError:
        os._exit(0)  # the parent is gone
