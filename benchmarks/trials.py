"""Trials of searches, and the file that keeps them, so that a long run can be continued.

A trial is one search of one row's stage, on one kernel, by one strategy, from one seed; it ends when the row's flaw is
found or the budget is spent. Stored trials of other code, or of an earlier definition of the row, do not count for the
present code.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from benchmarks.rows import Kernel, Row
from explorer import workers
from explorer.experiment import Experiment
from explorer.search.campaign import Campaign, Found
from explorer.workers import Pool, Tell
from protocol.atomic import write_file
from protocol.errors import UsageError

ROOT = Path(__file__).parents[1]
PACKAGES = ("protocol", "actors", "scenarios", "explorer")


@attrs.frozen
class Task:
    """A trial that is still to be made."""

    row: Row
    kernel: Kernel
    strategy: str
    seed: int
    budget: int

    @property
    def key(self) -> str:
        """The trial's name in the file."""
        parts = (self.row.slug, str(self.kernel), self.strategy, f"seed {self.seed}", f"budget {self.budget}")
        return ", ".join(parts)


@attrs.frozen
class Trial:
    """The result of a trial. `first` is the number of schedules to the flaw; None if it was not found.

    `seconds` is processor time, because the machine may be shared.
    """

    first: int | None
    signature: str
    schedules: int
    seconds: float
    stage: str

    @property
    def is_found(self) -> bool:
        """Whether the flaw was found."""
        return self.first is not None


def stage_of(row: Row) -> str:
    """The text on which a trial of the row depends beside the code."""
    return f"{row.stage}: {row.signature.pattern}"


def search(task: Task) -> Trial:
    """Search until the flaw is found, or the budget is spent."""
    began = time.process_time()
    campaign, found = search_first(task)
    seconds = time.process_time() - began
    first, signature = (found.first_schedule + 1, found.finding.signature) if found else (None, "")
    return Trial(first, signature, campaign.schedules, round(seconds, 3), stage_of(task.row))


def search_first(task: Task) -> tuple[Campaign, Found | None]:
    """The search of a trial, and its first finding of the flaw."""

    def shown(campaign: Campaign) -> list[Found]:
        return [found for found in campaign.found.values() if task.row.is_shown_by(found.finding)]

    def look(campaign: Campaign) -> None:
        if shown(campaign) and not campaign.stopped:
            campaign.stopped = "first"

    options = task.kernel.options(task.row.scenario, task.strategy, task.seed, task.row.settings)
    campaign = Campaign(Experiment.of(options), options, budget=task.budget, progress=look)
    campaign.run()
    if campaign.stopped == "interrupted":
        raise KeyboardInterrupt
    return campaign, min(shown(campaign), default=None, key=lambda found: found.first_schedule)


def search_all(tasks: Iterable[Task], processes: int) -> Iterator[tuple[Task, Trial]]:
    """Make the trials, in this process or in several; yield them in the order in which they end."""
    if processes == 1:
        for task in tasks:
            yield task, search(task)
        return
    pool = Pool(processes)
    under_way = [(task, workers.Task(task.key, work, (task,))) for task in tasks]
    try:
        for _, wanted in under_way:
            pool.add(wanted)
        while under_way:
            ended = [(task, wanted) for task, wanted in under_way if wanted.is_done]
            under_way = [(task, wanted) for task, wanted in under_way if not wanted.is_done]
            for task, wanted in ended:
                yield task, pool.answer(wanted)
            if not ended:
                pool.hear()
    finally:
        pool.close()


def work(task: Task, _tell: Tell) -> Trial:
    """Make a trial in a worker process."""
    return search(task)


# -- the file ---------------------------------------------------------------------------------------------------------


def code_digest() -> str:
    """A hash over all code that a search runs."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@attrs.define
class Results:
    """The trials made so far, by name; kept in a file."""

    path: Path
    code: str
    trials: dict[str, Trial] = attrs.field(factory=dict)

    @classmethod
    def load(cls, path: Path, *, any_code: bool = False) -> Results:
        """Read the file, if it exists; UsageError if it is of other code, unless *any_code* is accepted."""
        now = code_digest()
        if not path.exists():
            return cls(path, now)
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            trials = {key: Trial(**fields) for key, fields in kept["trials"].items()}
            code = kept["code"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            msg = f"--results {path}: it holds no trials: {error}"
            raise UsageError(msg) from None
        if code != now and not any_code:
            msg = f"--results {path}: its trials were made by other code; give another file, or --any-code to go on"
            raise UsageError(msg)
        return cls(path, code, trials)

    def get(self, task: Task) -> Trial | None:
        """The trial, if it was made with the present definition of the row."""
        trial = self.trials.get(task.key)
        return trial if trial is not None and trial.stage == stage_of(task.row) else None

    def add(self, task: Task, trial: Trial) -> None:
        """Add a trial, and save all."""
        self.trials[task.key] = trial
        text = json.dumps({"code": self.code, "trials": {k: attrs.asdict(t) for k, t in self.trials.items()}}, indent=0)
        write_file(self.path, text, overwrite=True)
