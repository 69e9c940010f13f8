"""Several hosts in parallel processes; the days simulated so far survive an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from explorer.growth.host import Day, HostJob, simulate
from explorer.workers import Pool, Task, WorkerLostError
from protocol.findings import Finding


@attrs.define
class HostRun:
    """The results of one host so far. `days` are in order; they have `walks` only with `--walk`."""

    job: HostJob
    days: list[Day] = attrs.field(factory=list)
    findings: tuple[Finding, ...] = ()
    is_over: bool = False

    def hear(self, day: object) -> None:
        """Add a day; None: the host starts again, because its process was lost."""
        if day is None:
            self.days.clear()
        else:
            assert isinstance(day, Day), day
            self.days.append(day)


@attrs.define(eq=False)
class Fleet:
    """Hosts to simulate, at most *workers* at once. `interrupted` is set by a signal; earlier results stay.

    `loss`: a host ended every process that simulated it, so the other hosts were left. `lost_workers` also counts
    replaced workers.
    """

    runs: list[HostRun]
    days: int
    workers: int = 2
    progress: Callable[[Fleet], None] | None = None
    interrupted: bool = False
    began: float = attrs.field(factory=time.monotonic, init=False)
    loss: WorkerLostError | None = attrs.field(default=None, init=False)
    lost_workers: int = attrs.field(default=0, init=False)

    @classmethod
    def of(cls, kernels: Sequence[str], hosts: Sequence[int], settings: dict[str, str], **options: Any) -> Fleet:
        """A fleet of every host on every kernel; UsageError if the settings do not fit."""
        jobs = [HostJob.of(kernel, host, settings) for host in hosts for kernel in kernels]
        return cls([HostRun(job) for job in jobs], jobs[0].knobs["days"], **options)

    def run(self) -> None:
        """Simulate all hosts, until they are done or a signal comes."""
        pool = Pool(min(self.workers, len(self.runs)))
        try:
            tasks = [(run, Task(str(run.job), simulate, (run.job,), heard=run.hear)) for run in self.runs]
            for _, task in tasks:
                pool.add(task)
            while pool.is_busy:
                pool.hear()
                self._take(pool, tasks)
        except KeyboardInterrupt:
            self.interrupted = True
        except WorkerLostError as error:
            self.loss = error
        finally:
            pool.close()

    def _take(self, pool: Pool, tasks: Sequence[tuple[HostRun, Task]]) -> None:
        """Take the results of finished hosts, and report progress."""
        self.lost_workers = pool.lost
        for run, task in tasks:
            if task.is_done and not run.is_over:
                run.findings, run.is_over = pool.answer(task), True
        if self.progress is not None:
            self.progress(self)

    @property
    def seconds(self) -> float:
        """Wall-clock time since the beginning."""
        return time.monotonic() - self.began

    @property
    def share_done(self) -> float:
        """The simulated share of all days of all hosts; day 0 does not count, as it takes hardly any work."""
        done = sum(max(len(run.days) - 1, 0) if not run.is_over else self.days for run in self.runs)
        return done / (self.days * len(self.runs)) if self.days else 0.0
