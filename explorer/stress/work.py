"""The work of a job, in the process that runs it."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import msgspec

from explorer.experiment import Experiment, RunOptions
from explorer.garbage import collect_rarely
from explorer.search.jobs import Job, run_job
from explorer.session import record
from explorer.stress.answer import Answer, reduce
from explorer.stress.identity import key_of
from protocol.errors import UsageError

if TYPE_CHECKING:
    from explorer.workers import Tell

CHANGED = "the code, or a file that it names, has changed since the campaign began; start it again"
"""The end of the reason why a job is refused, if the job itself is all right."""

MOST_EXPERIMENTS = 64
"""Experiments that a process keeps: jobs of many cells take turns."""


@attrs.frozen
class Order:
    """A job with its cell, as a process gets it.

    `key` is the cell's: the process refuses the job if its code or a file is another one by now. `pairs`, `functions`
    and `signatures` are those that the cell knows. `tries` and `kills` count the workers that were lost with it
    (`explorer.workers.Task`); a job `is_suspect` if it was in progress when a whole campaign was lost. A job that is
    `on_trio`, too, runs a second time under that driver.
    """

    number: int
    key: str
    options: RunOptions
    job: Job
    pairs: frozenset[tuple[tuple[str, str], tuple[str, str]]] = frozenset()
    functions: frozenset[str] = frozenset()
    signatures: frozenset[str] = frozenset()
    tries: int = 0
    kills: int = 0
    is_suspect: bool = False
    on_trio: bool = False

    def __str__(self) -> str:
        """The job in one line."""
        return f"job {self.number}: {self.job} of {self.options.scenario} on {self.options.kernel}"


@functools.lru_cache(maxsize=MOST_EXPERIMENTS)
def experiment_of(options: RunOptions, key: str) -> Experiment:
    """The experiment of a cell; UsageError if its code is not the code of the *key*."""
    experiment = Experiment.of(options)
    if key_of(experiment) != key:
        msg = f"{options.scenario} on {options.kernel}: {CHANGED}"
        raise UsageError(msg)
    return experiment


def work(order: Order, _tell: Tell | None = None) -> Answer:
    """Run a job; UsageError if its code is not the code that the campaign was planned with."""
    collect_rarely()
    experiment = experiment_of(order.options, order.key)
    answer = reduce(run_job(experiment, order.job))
    if order.on_trio:
        answer.disagreement = compare_drivers(order, answer)
    answer.pairs = [pair for pair in answer.pairs if pair not in order.pairs]
    answer.functions = [function for function in answer.functions if function not in order.functions]
    for seen in answer.seen:
        if seen.signature not in order.signatures:
            seen.log = log_of(experiment, order.job, seen.first, seen.signature, answer)
    return answer


def compare_drivers(order: Order, answer: Answer) -> str:
    """Run the job under Trio; say how the answer differs, or return an empty text."""
    experiment = experiment_of(attrs.evolve(order.options, driver="trio"), order.key)
    other = reduce(run_job(experiment, order.job))
    if other.digest() == answer.digest():
        return ""
    differ = [name for name in Answer.__struct_fields__ if getattr(other, name) != getattr(answer, name)]
    return f"{order}: the drivers differ in {', '.join(differ)}"


def log_of(experiment: Experiment, job: Job, number: int, signature: str, answer: Answer) -> bytes:
    """The log of a schedule that shows a finding."""
    finding = next(seen.finding for seen in answer.seen if seen.signature == signature)
    experiment = attrs.evolve(experiment, header=msgspec.structs.replace(experiment.header, strategy=job.strategy))
    with tempfile.TemporaryDirectory(prefix="slabrace-") as folder:
        path = Path(folder, "log")
        record(experiment, job.strategy, job.remake(number), finding, path)
        return path.read_bytes()
