"""Checkpoints: the state of an exact search in a file, from which another process goes on, to the same answer.

A checkpoint is plain data. It names its experiment by the header that logs have, with the texts of all code that takes
part, so it is refused for any other experiment. A search that was resumed has no access to the runs before it; it knows
their results.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import msgspec

from explorer import signals
from explorer.search.jobs import JobReport, Outcome
from explorer.search.parallel import Parallel, Taken
from explorer.search.path_records import pack, unpack
from explorer.streams import complain
from protocol.atomic import CannotWriteError, write_file
from protocol.errors import UsageError
from protocol.findings import Finding
from protocol.records import CodeRecord, Header
from protocol.schedule import Choice

if TYPE_CHECKING:
    from explorer.search.campaign import Campaign
    from explorer.search.strategies.dpor import Branch, Dpor, Node

MAGIC = b"slabrace checkpoint 1\n"
"""The beginning of a checkpoint. The SHA-256 of the rest follows, and then the rest."""

EVERY_SECONDS = 60.0
LEAST_INTERVALS = 20
"""A checkpoint is written after so many times of what it takes to write one, or later."""

Pairs = list[tuple[tuple[str, str], tuple[str, str]]]
"""Ordered pairs of racing operations (`RacingPair`)."""


class ReportRecord(msgspec.Struct, frozen=True, array_like=True):
    """The report of a schedule whose turn has not come; no outcome if it was cut off."""

    outcomes: list[Outcome]
    functions: list[str]
    pairs: Pairs
    unreached: list[str] | None


class FoundRecord(msgspec.Struct, frozen=True, array_like=True):
    """A finding of the search, with its first schedule."""

    finding: Finding
    first_schedule: int
    strategy: str
    schedule: tuple[Choice, ...]
    count: int
    log: str | None
    seen: list[int]


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The state of a search. With `has_next`, the last state of its `path` has a step that was not run yet.

    `classes` are the classes that were run (`ClassTable.to_bytes`).
    """

    header: Header
    path: bytes
    has_next: bool
    waiting: list[ReportRecord]
    schedules: int
    with_findings: int
    steps: list[int]
    switches: list[int]
    classes: bytes
    found: list[FoundRecord]
    by_strategy: dict[str, dict[str, int]]
    functions: list[str]
    pairs: Pairs
    unreached: list[str] | None
    cut_off: int

    def __post_init__(self) -> None:
        """ValueError if figures are missing or impossible."""
        figures = (self.schedules, self.with_findings, self.cut_off, *self.steps, *self.switches)
        if len(self.classes) % 8 or len(self.steps) != 3 or len(self.switches) != 3 or min(figures) < 0:
            msg = "its figures do not fit together"
            raise ValueError(msg)

    def check_fits(self, path: Path, header: Header) -> None:
        """UsageError if this is a checkpoint of another experiment than the one with *header*."""
        for name in header.__struct_fields__:
            then, now = (without_paths(getattr(one, name)) for one in (self.header, header))
            if then != now:
                msg = f"--resume {path}: it is of another search ({name}{in_short(then, now)}); give what that one had"
                raise UsageError(msg)

    @property
    def reports(self) -> deque[JobReport]:
        """The reports of the schedules whose turn has not come."""
        return deque(
            JobReport(
                report.outcomes,
                functions=set(report.functions),
                pairs=set(report.pairs),
                unreached=None if report.unreached is None else set(report.unreached),
            )
            for report in self.waiting
        )


FOUND = FoundRecord.__struct_fields__


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a file; UsageError if there is none, or if it is damaged."""
    digest, body = read_parts(path)
    if hashlib.sha256(body).digest() != digest:
        msg = f"--resume {path}: the checkpoint is damaged; begin the search anew"
        raise UsageError(msg)
    try:
        checkpoint = msgspec.msgpack.decode(body, type=Checkpoint)
        unpack(checkpoint.path)
    except (msgspec.MsgspecError, IndexError) as error:
        msg = f"--resume {path}: this is no checkpoint of this version of slabrace ({error}); begin the search anew"
        raise UsageError(msg) from None
    return checkpoint


def read_parts(path: Path) -> tuple[bytes, bytes]:
    """The digest and the rest of a checkpoint; UsageError if it does not begin as one, before the rest is read."""
    try:
        if path.exists() and not path.is_file():
            msg = f"--resume {path}: it is not a file"
            raise UsageError(msg)
        with path.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return file.read(32), file.read()
    except OSError as error:
        msg = f"--resume {path}: cannot read it: {error.strerror}"
        raise UsageError(msg) from None
    msg = f"--resume {path}: this is no checkpoint of this version of slabrace; give a file of --checkpoint"
    raise UsageError(msg)


def checkpoint_of(campaign: Campaign, path: list[Node], has_next: bool, waiting: list[JobReport]) -> Checkpoint:  # noqa: FBT001 -- the state of a search
    """The state of *campaign*, and of its search."""
    statistics = campaign.statistics
    return Checkpoint(
        header=campaign.experiment.header,
        path=pack(path),
        has_next=has_next,
        waiting=[
            ReportRecord(
                report.outcomes,
                sorted(report.functions),
                sorted(report.pairs),
                in_order(report.unreached),
            )
            for report in waiting
        ],
        schedules=statistics.schedules,
        with_findings=statistics.with_findings,
        steps=statistics.steps,
        switches=statistics.switches,
        classes=campaign.exact_classes.to_bytes(),
        found=[
            FoundRecord(**{**{name: getattr(found, name) for name in FOUND}, "seen": sorted(found.seen)})
            for found in campaign.found.values()
        ],
        by_strategy={name: dict(counts) for name, counts in campaign.by_strategy.items()},
        functions=sorted(campaign.functions),
        pairs=sorted(campaign.pairs),
        unreached=in_order(campaign.unreached),
        cut_off=campaign.cut_off,
    )


def in_short(then: object, now: object) -> str:
    """The difference of two values of a header."""
    if isinstance(then, dict) and isinstance(now, dict):
        keys = sorted(key for key in {**then, **now} if then.get(key) != now.get(key))
        return ": " + ", ".join(f"{key} was {then.get(key, 0)}, is {now.get(key, 0)}" for key in keys)
    return f": {then} then, {now} now" if isinstance(then, str | int) else ""


def without_paths(value: object) -> object:
    """A value of a header; code is the same wherever its file is."""
    if isinstance(value, CodeRecord):
        return msgspec.structs.replace(value, path="")
    return tuple(map(without_paths, value)) if isinstance(value, tuple) else value


def in_order(names: set[str] | None) -> list[str] | None:
    """The names in order; None if there are none yet."""
    return None if names is None else sorted(names)


# -- the search -------------------------------------------------------------------------------------------------------


class Resumed:
    """The search (`explorer.search.protocol`): schedules of a checkpoint that *wait* for their turn, then a search."""

    def __init__(self, waiting: deque[JobReport], search: Dpor | Parallel) -> None:
        self._waiting = waiting
        self._search = search

    def next_schedule(self, room: int = 1) -> Branch | Taken | None:
        """The next schedule."""
        return Taken(self._waiting[0]) if self._waiting else self._search.next_schedule(room)

    def learn(self, planned: Branch | Taken, report: JobReport) -> None:
        """Go on after a schedule that has waited; otherwise the search learns it."""
        if self._waiting:
            self._waiting.popleft()
        else:
            self._search.learn(planned, report)  # type: ignore[arg-type]  # it gets what it has planned

    @property
    def done(self) -> bool:
        """Whether no schedule is left."""
        return not self._waiting and self._search.done

    @property
    def state(self) -> tuple[list[Node], bool, list[JobReport]]:
        """The path, whether the step at its last state was not run yet, and the schedules that wait for their turn."""
        path, has_next, waiting = self._search.state
        return path, has_next, [*self._waiting, *waiting]


@attrs.define
class Keeper:
    """Writes checkpoints to *path* now and then; with *overwrite* the file may exist."""

    path: Path
    overwrite: bool = False
    _due: float = attrs.field(factory=lambda: time.monotonic() + EVERY_SECONDS)

    def keep_now_and_then(self, campaign: Campaign) -> None:
        """Write a checkpoint, unless the last one is recent."""
        if time.monotonic() >= self._due:
            self.keep(campaign)

    def keep(self, campaign: Campaign) -> None:
        """Write a checkpoint, or complain. A search that has diverged has no state to go on from."""
        if campaign.exact is None or campaign.divergence is not None:
            return
        if signals.is_torn():
            complain(f"--checkpoint {self.path}: not written, because the interrupt came in the middle of a change")
            return
        path, has_next, waiting = campaign.exact.state
        if any(report.divergence is not None for report in waiting):
            return
        began = time.monotonic()
        body = msgspec.msgpack.encode(checkpoint_of(campaign, path, has_next, waiting))
        try:
            write_file(self.path, MAGIC + hashlib.sha256(body).digest() + body, overwrite=self.overwrite)
        except CannotWriteError as error:
            complain(str(error))
        else:
            self.overwrite = True
        now = time.monotonic()
        self._due = now + max(EVERY_SECONDS, LEAST_INTERVALS * (now - began))
