"""Several hosts in parallel processes; what each of them has simulated is there even if the rest is not wanted."""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import attrs

from explorer.growth.host import Day, Job, simulate
from protocol.errors import InternalError, UsageError
from protocol.findings import Finding

EXIT_SECONDS = 5


@attrs.define
class HostRun:
    """What has become of one host up to now. `days` are in order; `walks` only if they were wanted."""

    job: Job
    days: list[Day] = attrs.field(factory=list)
    findings: tuple[Finding, ...] = ()
    is_over: bool = False

    def take(self, message: object) -> None:
        """What the process that simulates the host has to tell."""
        if isinstance(message, Day):
            self.days.append(message)
        elif isinstance(message, tuple):
            self.findings, self.is_over = message, True
        else:
            msg = f"host {self.job.host} on {self.job.kernel}: {message}"
            raise InternalError(msg)


@attrs.define(eq=False)
class Fleet:
    """Hosts to simulate, at most *workers* at once. `interrupted` is set by Ctrl-C: what is there then stays."""

    runs: list[HostRun]
    days: int
    workers: int = 2
    progress: Callable[[Fleet], None] | None = None
    interrupted: bool = False
    began: float = attrs.field(factory=time.monotonic, init=False)
    _running: dict[Connection, tuple[HostRun, BaseProcess]] = attrs.field(factory=dict, init=False)

    @classmethod
    def of(cls, kernels: Sequence[str], hosts: Sequence[int], settings: dict[str, str], **options: Any) -> Fleet:
        """Every host on every kernel; UsageError if the settings do not fit."""
        jobs = [Job.of(kernel, host, settings) for host in hosts for kernel in kernels]
        return cls([HostRun(job) for job in jobs], jobs[0].knobs["days"], **options)

    def run(self) -> None:
        """Simulate all hosts, or as much as there is time for before Ctrl-C."""
        waiting = list(self.runs)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self.workers:
                    self._start(waiting.pop(0))
                for connection in wait(list(self._running)):
                    assert isinstance(connection, Connection)
                    self._hear(connection)
                if self.progress is not None:
                    self.progress(self)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self._stop()

    @property
    def seconds(self) -> float:
        """Since the beginning, on the wall's clock."""
        return time.monotonic() - self.began

    @property
    def share_done(self) -> float:
        """Of all days of all hosts; day 0 is hardly any work."""
        done = sum(max(len(run.days) - 1, 0) if not run.is_over else self.days for run in self.runs)
        return done / (self.days * len(self.runs)) if self.days else 0.0

    # -- processes ----------------------------------------------------------------------------------------------------

    def _start(self, run: HostRun) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(run.job, theirs), daemon=True)
        was_blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited, until `work` ignores it
        process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, was_blocked)
        theirs.close()
        self._running[ours] = (run, process)

    def _hear(self, connection: Connection) -> None:
        run, process = self._running[connection]
        try:
            run.take(connection.recv())
        except EOFError:
            process.join()
            if not run.is_over:
                msg = f"the process of host {run.job.host} on {run.job.kernel} ended (exit code {process.exitcode})"
                raise InternalError(msg) from None
            del self._running[connection]
            connection.close()

    def _stop(self) -> None:
        """End what still runs: nobody wants it any more."""
        for connection, (_, process) in self._running.items():
            process.terminate()
            process.join(EXIT_SECONDS)
            connection.close()
        self._running.clear()


def work(job: Job, connection: Connection) -> None:
    """Simulate a host in a process of its own; Ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        connection.send(simulate(job, connection.send))
    except BrokenPipeError:
        pass  # the parent is gone
    except UsageError as error:
        connection.send(str(error))
    except Exception:  # noqa: BLE001 -- the parent reports it
        connection.send(traceback.format_exc())
    finally:
        connection.close()
