"""The store of stress campaigns: one SQLite database, and the logs of findings beside it.

One process owns a store and writes to it. A commit is whole after kill -9 (write-ahead log); after a power cut the last
commits may be missing, and are run again. Readers need no lock, also while a campaign runs. No text of a store is ever
run: rows are numbers, JSON and MessagePack.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import sqlite3
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Self

import attrs
import msgspec

from explorer.judgements import elsewhere, judgement_of
from explorer.output import stem_of
from explorer.search.jobs import Job
from explorer.stress.answer import SPREAD_MASK, Answer, Seen
from explorer.stress.matrix import Point, Request
from explorer.stress.plain import compress, expand
from explorer.watch import RacingPair
from protocol.atomic import write_file
from protocol.errors import UsageError

FILE, OWNER, FINDINGS = "store.sqlite", "owner", "findings"
APPLICATION_ID = 0x51AB7ACE
VERSION = 1
MIGRATIONS: dict[int, str] = {}
"""For each old version, the statements that lead to the next one."""

MOST_CLASSES = 1 << 16
"""Most classes of a cell in the table; then every second one goes (Gibbons, "Distinct Sampling", VLDB 2001)."""

DIVERGED = "not deterministic"
"""How the reason begins why a cell is closed whose schedules are not runs of one kernel."""

MANY = 3
BUSY_SECONDS = 10.0
COMMIT_SECONDS, COMMIT_JOBS = 0.5, 64
"""Answers without new findings are committed when the oldest is so old, or when there are so many."""


class StoreError(UsageError):
    """A store cannot be read or written; the text is one line with its name, the reason and what to do."""


@attrs.frozen
class CellRow:
    """A cell of the campaign, as far as planning needs it."""

    id: int
    key: str
    name: str
    point: Point
    schedules: int
    steps: int
    gain: float
    spent: float
    guide: bytes

    @property
    def steps_per_schedule(self) -> float:
        """The mean length of its runs; 0 if there was none."""
        return self.steps / self.schedules if self.schedules else 0.0


@attrs.frozen
class JobRow:
    """A job that is leased."""

    id: int
    cell: int
    job: Job
    tries: int
    kills: int
    is_suspect: bool


@attrs.frozen
class Planned:
    """A job of an epoch that is planned."""

    cell: int
    job: Job


@attrs.frozen
class Folded:
    """The new knowledge of a cell at the end of an epoch."""

    cell: int
    guide: bytes
    gain: float
    spent: float


class Store:
    """An open store; use it as a context."""

    def __init__(self, folder: Path, *, writes: bool) -> None:
        """Open the store in *folder*; with *writes*, make one if there is none, and own it.

        StoreError if that fails.
        """
        self.folder = folder
        self._owner: int | None = None
        self._open_jobs = 0
        self._oldest = 0.0
        with self._explained():
            if writes:
                self._own()
            try:
                self._db = self._connect(writes=writes)
            except BaseException:
                self._disown()
                raise

    # -- opening ------------------------------------------------------------------------------------------------------

    def _own(self) -> None:
        """Create the folder, and become the only writer."""
        (self.folder / FINDINGS).mkdir(parents=True, exist_ok=True)
        self._owner = os.open(self.folder / OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(self._owner, 32).decode(errors="replace").strip()
            self._disown()
            msg = f"{self.folder}: process {pid or 'of another user'} runs a campaign in it; stop that one first"
            raise StoreError(msg) from None
        os.ftruncate(self._owner, 0)
        os.write(self._owner, f"{os.getpid()}\n".encode())

    def _disown(self) -> None:
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def _connect(self, *, writes: bool) -> sqlite3.Connection:
        path = self.folder / FILE
        if not writes and not path.is_file():
            msg = f"{self.folder}: there is no store of stress in it ({FILE})"
            raise StoreError(msg)
        mode = "rwc" if writes else "ro"
        address = f"{path.absolute().as_uri()}?mode={mode}"
        if not writes and not os.access(self.folder, os.W_OK) and not path.with_name(f"{FILE}-wal").exists():
            address += "&immutable=1"  # a reader could not create the files of the write-ahead log
        db = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA foreign_keys = ON")
            if writes and _is_empty(db):
                db.execute("PRAGMA journal_mode = WAL")
                self._create(db)
            self._check(db, writes=writes)
            if writes:
                db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            db.close()
            raise
        return db

    def _create(self, db: sqlite3.Connection) -> None:
        """Create all tables in one transaction: a store that was killed here is empty, and is created again."""
        schema = resources.files("explorer.stress").joinpath("schema.sql").read_text(encoding="utf-8")
        db.executescript(
            f"BEGIN; {schema} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
        )

    def _check(self, db: sqlite3.Connection, *, writes: bool) -> None:
        """StoreError if the database is not a store, or is of a later version; migrate an earlier one."""
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            msg = f"{self.folder / FILE}: this is a database of another program"
            raise StoreError(msg)
        if version > VERSION or (version < VERSION and not writes):
            what = (
                "a later slabrace" if version > VERSION else "an earlier slabrace; slabrace stress brings it up to date"
            )
            msg = f"{self.folder / FILE}: this store is of {what} (version {version}, here {VERSION})"
            raise StoreError(msg)
        if version not in {*MIGRATIONS, VERSION}:
            msg = f"{self.folder / FILE}: the store is damaged: no slabrace made a version {version}"
            raise StoreError(msg)
        for old in range(version, VERSION):
            db.executescript(f"BEGIN; {MIGRATIONS[old]}; PRAGMA user_version = {old + 1}; COMMIT;")

    def close(self) -> None:
        """Commit, and give the store up."""
        try:
            with self._explained():
                self.commit()
        finally:
            self._db.close()
            self._disown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, _trace: object) -> None:
        if kind is not None:
            self._db.rollback()  # a half-done change; the jobs in it are run again
        self.close()
        if isinstance(error, msgspec.MsgspecError):
            msg = f"{self.folder}: the store is damaged: {error}"
            raise StoreError(msg) from None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn a failure of the database into an error of one line; what was not committed is run again."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            hint = {
                "file is not a database": "this is no store of stress, or it is damaged",
                "database disk image is malformed": "the store is damaged; take a copy of it, or begin a new one",
                "database or disk is full": "the disk is full; make room and start again, nothing is lost",
                "attempt to write a readonly database": "it cannot be written",
                "unable to open database file": "it cannot be opened or created",
            }.get(why or "", why)
            msg = f"{self.folder}: {hint}"
            raise StoreError(msg) from None

    # -- transactions -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A block whose changes are all committed, together with those before, or all undone."""
        with self._explained():
            self._begin()
            try:
                yield self._db
            except BaseException:
                self._db.rollback()
                self._open_jobs = 0
                raise
            self.commit()

    def _begin(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit all changes so far."""
        with self._explained():
            if self._db.in_transaction:
                self._db.execute("COMMIT")
            self._open_jobs = 0

    def commit_if_due(self) -> None:
        """Commit if answers have waited for long."""
        if self._open_jobs and time.monotonic() - self._oldest > COMMIT_SECONDS:
            self.commit()

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """The rows of a SELECT."""
        with self._explained():
            return self._db.execute(query, values).fetchall()

    def value(self, query: str, *values: Any) -> Any:
        """The first column of the first row of a SELECT; None if there is no row."""
        rows = self.rows(query, *values)
        return rows[0][0] if rows else None

    # -- campaigns and cells ------------------------------------------------------------------------------------------

    def latest(self) -> sqlite3.Row | None:
        """The latest campaign."""
        rows = self.rows("SELECT * FROM campaigns ORDER BY id DESC LIMIT 1")
        return rows[0] if rows else None

    def begin(self, request: Request, model: str, cells: Sequence[tuple[str, Point, bytes]]) -> int:
        """Begin a campaign with these cells: key, point and guide of each; return its number."""
        with self.changing() as db:
            cursor = db.execute(
                "INSERT INTO campaigns (request, model, slabrace, began) VALUES (?, ?, ?, ?)",
                (msgspec.json.encode(request).decode(), model, metadata.version("slabrace"), time.time()),
            )
            campaign = cursor.lastrowid
            assert campaign is not None
            self.add_cells(campaign, cells)
        return campaign

    def add_cells(self, campaign: int, cells: Iterable[tuple[str, Point, bytes]], epoch: int | None = None) -> None:
        """Add cells that the campaign does not have."""
        with self._explained():
            self._db.executemany(
                "INSERT OR IGNORE INTO cells (campaign, key, name, point, scenario, kernel, strategy, drawn_in, guide)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        campaign,
                        key,
                        str(point),
                        msgspec.json.encode(point).decode(),
                        point.scenario,
                        point.kernel_in_words,
                        point.strategy,
                        epoch,
                        guide,
                    )
                    for key, point, guide in cells
                ],
            )

    def cells(self, campaign: int) -> list[CellRow]:
        """The open cells of a campaign, in their order."""
        return [
            CellRow(
                row["id"],
                row["key"],
                row["name"],
                msgspec.json.decode(row["point"], type=Point),
                row["schedules"],
                row["steps"],
                row["gain"],
                row["spent"],
                row["guide"],
            )
            for row in self.rows("SELECT * FROM cells WHERE campaign = ? AND state = 'open' ORDER BY id", campaign)
        ]

    def keys(self, campaign: int) -> set[str]:
        """The keys of the cells of a campaign's matrix."""
        return {row[0] for row in self.rows("SELECT key FROM cells WHERE campaign = ? AND drawn_in IS NULL", campaign)}

    def close_cell(self, cell: int, why: str) -> None:
        """Run no more jobs of a cell: its schedules are not runs of one kernel, or it cannot run at all."""
        self._db.execute("UPDATE cells SET state = 'closed', why = ? WHERE id = ? AND state = 'open'", (why, cell))

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def plan(self, campaign: int, epoch: int, jobs: Sequence[Planned]) -> None:
        """Add the jobs of an epoch."""
        with self.changing() as db:
            db.executemany(
                "INSERT INTO jobs (campaign, epoch, place, cell, way, first, count) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (campaign, epoch, place, one.cell, one.job.strategy, one.job.first, one.job.count)
                    for place, one in enumerate(jobs)
                ],
            )
            db.executemany(
                "INSERT INTO work (job, plan) SELECT id, ? FROM jobs WHERE campaign = ? AND epoch = ? AND place = ?",
                [(compress(without_seen(one.job)), campaign, epoch, place) for place, one in enumerate(jobs)],
            )

    def return_leases(self, campaign: int) -> int:
        """Make the leased jobs of an owner that is gone planned ones again; return their number.

        They are suspects: one of them may have ended the owner.
        """
        with self.changing() as db:
            return db.execute(
                "UPDATE jobs SET state = 'planned', is_suspect = 1 WHERE campaign = ? AND state = 'leased'", (campaign,)
            ).rowcount

    def lease(self, campaign: int, epoch: int, most: int, room: int) -> list[JobRow]:
        """Lease the next planned jobs of an epoch, as far as their schedules are at most *room* together."""
        with self._explained():
            rows = self._db.execute(
                "SELECT id, cell, plan, tries, kills, is_suspect, count FROM jobs JOIN work ON job = id"
                " WHERE campaign = ? AND epoch = ? AND state = 'planned' ORDER BY place LIMIT ?",
                (campaign, epoch, most),
            ).fetchall()
            sums = itertools.accumulate(row["count"] for row in rows)
            rows = [row for row, total in zip(rows, sums, strict=True) if total <= room]
            self._begin()
            self._db.executemany("UPDATE jobs SET state = 'leased' WHERE id = ?", [(row["id"],) for row in rows])
            self.commit()
        return [
            JobRow(
                row["id"],
                row["cell"],
                expand(row["plan"], Job),
                row["tries"],
                row["kills"],
                bool(row["is_suspect"]),
            )
            for row in rows
        ]

    def unlease(self, jobs: Iterable[int]) -> None:
        """Give jobs back that were not run."""
        with self._explained():
            self._begin()
            self._db.executemany(
                "UPDATE jobs SET state = 'planned' WHERE id = ? AND state = 'leased'", [(job,) for job in jobs]
            )
            self.commit()

    def tried(self, job: int, tries: int, kills: int) -> None:
        """Keep the numbers of workers that were lost with a job."""
        with self.changing() as db:
            db.execute("UPDATE jobs SET tries = ?, kills = ? WHERE id = ?", (tries, kills, job))

    def lose(self, job: int, why: str) -> None:
        """Give a job up."""
        with self.changing() as db:
            db.execute("UPDATE jobs SET state = 'lost', why = ? WHERE id = ?", (why, job))

    def loss_of(self, job: int) -> str:
        """Why a job is lost; empty if it is not."""
        return str(self.value("SELECT why FROM jobs WHERE id = ?", job))

    def digest_of(self, job: int) -> str:
        """The digest of a job's answer; empty if it is not done."""
        return str(self.value("SELECT digest FROM jobs WHERE id = ?", job) or "")

    def done(self, job: int, answer: Answer) -> None:
        """Keep the answer of a job. Logs of findings are written, and committed at once."""
        logs = [(seen, seen.log) for seen in answer.seen if seen.log]
        for seen in answer.seen:
            seen.log = b""
        with self._explained():
            self._begin()
            if not self._open_jobs:
                self._oldest = time.monotonic()
            self._open_jobs += 1
            row = self._db.execute("SELECT cell, epoch, place FROM jobs WHERE id = ?", (job,)).fetchone()
            for seen, log in logs:
                self._keep_witness(row["cell"], job, seen, log)
            self._db.execute(
                "UPDATE jobs SET state = 'done', digest = ?, count = ? WHERE id = ?",
                (answer.digest(), answer.schedules, job),
            )
            self._db.execute("UPDATE work SET answer = ? WHERE job = ?", (compress(answer), job))
            if logs or self._open_jobs >= COMMIT_JOBS:
                self.commit()
            self.commit_if_due()

    def _keep_witness(self, cell: int, job: int, seen: Seen, log: bytes) -> None:
        """Keep a log, unless that of an earlier schedule of the cell is there: the order of answers does not matter."""
        known = self._db.execute(
            "SELECT first FROM witnesses WHERE cell = ? AND signature = ?", (cell, seen.signature)
        ).fetchone()
        if known is not None and known["first"] <= seen.first:
            return
        name = self.keep_log(f"{cell:05d}-{seen.signature}", log)
        finding = msgspec.json.encode(seen.finding).decode()
        self._db.execute(
            "INSERT OR REPLACE INTO witnesses (cell, signature, job, first, finding, log) VALUES (?, ?, ?, ?, ?, ?)",
            (cell, seen.signature, job, seen.first, finding, name),
        )

    def keep_log(self, words: str, log: bytes) -> str:
        """Write a log of a finding; return the name of its file, which is made of *words*."""
        name = f"{stem_of(words)}-{hashlib.blake2b(words.encode(), digest_size=4).hexdigest()}.log"
        write_file(self.folder / FINDINGS / name, log, overwrite=True)
        return name

    def unfinished(self, campaign: int, epoch: int) -> int:
        """The number of jobs of an epoch that are neither done nor lost."""
        return int(
            self.value(
                "SELECT count(*) FROM jobs WHERE campaign = ? AND epoch = ? AND state IN ('planned', 'leased')",
                campaign,
                epoch,
            )
        )

    def answers(self, campaign: int, epoch: int) -> Iterator[tuple[int, int, str, Job, Answer | None]]:
        """The jobs of an epoch in their order: id, cell, digest, job and answer; a lost job has no answer."""
        for row in self.rows(
            "SELECT id, cell, digest, plan, answer FROM jobs JOIN work ON job = id WHERE campaign = ? AND epoch = ?"
            " ORDER BY place",
            campaign,
            epoch,
        ):
            job = expand(row["plan"], Job)
            answer = None if row["answer"] is None else expand(row["answer"], Answer)
            yield row["id"], row["cell"], row["digest"], job, answer

    # -- knowledge ----------------------------------------------------------------------------------------------------

    def known_pairs(self, cell: int) -> frozenset[RacingPair]:
        """The ordered pairs of racing operations that a cell has shown."""
        rows = self.rows("SELECT first, second FROM pairs WHERE cell = ?", cell)
        return frozenset((of_words(row[0]), of_words(row[1])) for row in rows)

    def known_signatures(self, cell: int, number: int) -> frozenset[str]:
        """The signatures that a cell has a log of, by a schedule before this *number*.

        A job that is run again after a later one has answered has to write its log again, because it is the first.
        """
        rows = self.rows("SELECT signature FROM witnesses WHERE cell = ? AND first < ?", cell, number)
        return frozenset(row[0] for row in rows)

    def count_classes(self, cell: int, classes: bytes, drawn: bytes) -> None:
        """Count the classes of schedules in their order; *drawn* has a byte for each: 1 if it feeds the estimates."""
        row = self._db.execute("SELECT draws, once, classes, level FROM cells WHERE id = ?", (cell,)).fetchone()
        draws, once, number, level = row["draws"] + sum(drawn), row["once"], row["classes"], row["level"]
        mask = (1 << level) - 1
        keys = array("q", classes)
        seen, draw = Counter[int](), Counter[int]()
        for key, is_draw in zip(keys, drawn, strict=True):
            if not key & mask:
                seen[key] += 1
                draw[key] += is_draw
        before = self._counts(cell, list(seen))
        rows = []
        for key, times in seen.items():
            old_drawn, old_seen = before.get(key, (0, 0))
            new_drawn, new_seen = min(old_drawn + draw[key], MANY), min(old_seen + times, MANY)
            once += (new_seen == 1 and new_drawn == 1) - (old_seen == 1 and old_drawn == 1)
            rows.append((cell, key, new_drawn, new_seen))
        self._db.executemany("INSERT OR REPLACE INTO classes (cell, class, drawn, seen) VALUES (?, ?, ?, ?)", rows)
        number += len(seen) - len(before)
        while number > MOST_CLASSES:
            level += 1
            self._db.execute("DELETE FROM classes WHERE cell = ? AND class & ? != 0", (cell, (1 << level) - 1))
            number, once = self._db.execute(
                "SELECT count(*), total(drawn = 1 AND seen = 1) FROM classes WHERE cell = ?", (cell,)
            ).fetchone()
        self._db.execute(
            "UPDATE cells SET draws = ?, once = ?, classes = ?, level = ? WHERE id = ?",
            (draws, int(once), number, level, cell),
        )

    def _counts(self, cell: int, keys: list[int]) -> Mapping[int, tuple[int, int]]:
        """The counts (drawn, seen) of those of the classes that are in the table."""
        rows = self._db.execute(
            "SELECT class, drawn, seen FROM json_each(?) CROSS JOIN classes ON cell = ? AND class = value",
            (msgspec.json.encode(keys).decode(), cell),
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    def event(self, campaign: int | None, event: str, **fields: Any) -> None:
        """Keep an event."""
        with self._explained():
            self._begin()
            self._db.execute(
                "INSERT INTO events (campaign, at, event, fields) VALUES (?, ?, ?, ?)",
                (campaign, time.time(), event, msgspec.json.encode(fields).decode()),
            )

    def add_pairs(self, cell: int, job: int, pairs: Iterable[RacingPair]) -> int:
        """Add ordered pairs of racing operations; return how many are new."""
        rows = [(cell, in_words(first), in_words(second), job) for first, second in pairs]
        return self._db.executemany("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?, ?)", rows).rowcount if rows else 0

    def add_functions(self, cell: int, functions: Iterable[str]) -> None:
        """Add kernel functions that made a step in a race."""
        self._db.executemany("INSERT OR IGNORE INTO functions VALUES (?, ?)", [(cell, name) for name in functions])

    def known_functions(self, cell: int) -> frozenset[str]:
        """The kernel functions that made a step in a race of a cell."""
        return frozenset(row[0] for row in self.rows("SELECT name FROM functions WHERE cell = ?", cell))

    def add_reaches(self, cell: int, job: int, unreached: Sequence[str] | None) -> int:
        """Note which `sometimes` a job did not reach; return how many it reached for the first time.

        A property that the first job reached is not in the table: it needs no more attention.
        """
        if unreached is None:
            return 0
        is_first = not self.value("SELECT schedules FROM cells WHERE id = ?", cell)
        if is_first:
            self._db.executemany("INSERT INTO reaches VALUES (?, ?, NULL)", [(cell, name) for name in unreached])
        return self._db.execute(
            "UPDATE reaches SET job = ? WHERE cell = ? AND job IS NULL"
            " AND property NOT IN (SELECT value FROM json_each(?))",
            (job, cell, msgspec.json.encode(list(unreached)).decode()),
        ).rowcount

    def count_schedules(self, cell: int, answer: Answer) -> None:
        """Count the schedules of an answer."""
        self._db.execute(
            "UPDATE cells SET schedules = schedules + ?, with_findings = with_findings + ?, steps = steps + ?"
            " WHERE id = ?",
            (answer.schedules, answer.with_findings, answer.steps[1], cell),
        )

    def keep_cell(self, cell: int, guide: bytes, gain: float, spent: float) -> None:
        """Keep the knowledge of a cell."""
        self._db.execute("UPDATE cells SET guide = ?, gain = ?, spent = ? WHERE id = ?", (guide, gain, spent, cell))

    def end_epoch(self, campaign: int, epoch: int, digest: str, seconds: float) -> float | None:
        """Note the totals at the end of an epoch, and begin the next one; return the chance of a new class."""
        totals = self._db.execute(
            "SELECT total(schedules), total(steps), total(classes << level), total(once << level), total(draws)"
            " FROM cells WHERE campaign = ?",
            (campaign,),
        ).fetchone()
        schedules, steps, classes, once, draws = map(int, totals)
        chance = once / draws if draws else None
        (pairs,) = self._db.execute(
            "SELECT count(*) FROM pairs JOIN cells ON cells.id = cell WHERE campaign = ?", (campaign,)
        ).fetchone()
        (causes,) = self._db.execute(
            "SELECT count(DISTINCT bug) FROM sightings JOIN cells ON cells.id = cell WHERE campaign = ?", (campaign,)
        ).fetchone()
        self._db.execute(
            "INSERT INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (campaign, epoch, schedules, steps, classes, pairs, causes, chance, seconds, digest),
        )
        self._db.execute(
            "DELETE FROM work WHERE job IN (SELECT id FROM jobs WHERE campaign = ? AND epoch = ? AND state = 'done')",
            (campaign, epoch),
        )
        self._db.execute("UPDATE campaigns SET epoch = ?, digest = ? WHERE id = ?", (epoch + 1, digest, campaign))
        return chance

    # -- bugs ---------------------------------------------------------------------------------------------------------

    def see(self, campaign: int, cell: CellRow, job: int, way: str, seen: Seen) -> tuple[dict[str, Any] | None, bool]:
        """Count a finding of a job: the news of its cause, if there is any, and whether the cell had not shown it."""
        bug, news = self._bug_of(campaign, cell, seen.signature)
        is_new = not self.value(
            "SELECT 1 FROM sightings WHERE cell = ? AND signature = ? LIMIT 1", cell.id, seen.signature
        )
        self._db.execute(
            "INSERT INTO sightings VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " count = count + excluded.count, spread = (spread + excluded.spread) & ?",
            (cell.id, seen.signature, way, bug, seen.count, seen.spread, job, seen.first, SPREAD_MASK),
        )
        return news, is_new

    def _bug_of(self, campaign: int, cell: CellRow, signature: str) -> tuple[int, dict[str, Any] | None]:
        """The bug that a signature belongs to, and the news if it is new, or was marked as fixed."""
        judged = judgement_of(cell.point.kernel, cell.point.scenario, signature)
        cause = f"{signature} on {cell.point.kernel_in_words}" if judged is None else judged.section
        row = self._db.execute("SELECT id, state, fixed_in FROM bugs WHERE cause = ?", (cause,)).fetchone()
        if row is None:
            state, verdict = ("open", "") if judged is None else ("known", judged.verdict)
            like = "" if judged is not None else elsewhere(cell.point.kernel, signature)
            cursor = self._db.execute(
                "INSERT INTO bugs (cause, state, judged, note, campaign) VALUES (?, ?, ?, ?, ?)",
                (cause, state, verdict, f"{like} has this signature on other stages" if like else "", campaign),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid, {"bug": cursor.lastrowid, "cause": cause, "state": state, "cell": cell.name}
        if row["state"] == "fixed" and campaign > row["fixed_in"]:
            self._db.execute(
                "UPDATE bugs SET state = 'open', note = trim(note || '; seen again', '; ') WHERE id = ?", (row["id"],)
            )
            return row["id"], {"bug": row["id"], "cause": cause, "state": "open", "cell": cell.name}
        return row["id"], None

    def forget_sightings(self, cell: int) -> None:
        """Drop the findings of a cell that is not deterministic: its schedules were not runs of one kernel."""
        self._db.execute("DELETE FROM sightings WHERE cell = ?", (cell,))
        self._db.execute(
            "DELETE FROM bugs WHERE state = 'open' AND id NOT IN (SELECT bug FROM sightings)"
            " AND id NOT IN (SELECT of FROM bugs WHERE of IS NOT NULL)"
        )

    # -- figures ------------------------------------------------------------------------------------------------------

    def schedules(self, campaign: int) -> int:
        """The schedules of all done jobs, and of nothing else."""
        return int(
            self.value("SELECT coalesce(sum(count), 0) FROM jobs WHERE campaign = ? AND state = 'done'", campaign)
        )

    def draws(self, campaign: int) -> int:
        """The schedules that feed the estimates."""
        return int(self.value("SELECT coalesce(sum(draws), 0) FROM cells WHERE campaign = ?", campaign))

    def has_epoch(self, campaign: int, epoch: int) -> bool:
        """Whether the jobs of an epoch are planned."""
        return self.value("SELECT 1 FROM jobs WHERE campaign = ? AND epoch = ? LIMIT 1", campaign, epoch) is not None

    def seconds(self, campaign: int) -> float:
        """The time that a campaign has run, in the parts that have ended."""
        return float(self.value("SELECT seconds FROM campaigns WHERE id = ?", campaign))

    def add_seconds(self, campaign: int, seconds: float) -> None:
        """Add the time of a part that ends."""
        with self.changing() as db:
            db.execute("UPDATE campaigns SET seconds = seconds + ? WHERE id = ?", (seconds, campaign))


def without_seen(job: Job) -> Job:
    """A job without the pairs that its cell knows: the store has them, and `Stress` adds them to each job again."""
    return job if job.seen is None else attrs.evolve(job, seen=())


def _is_empty(db: sqlite3.Connection) -> bool:
    """Whether a database has nothing yet: it is new, or was killed before its tables were there."""
    marks = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    return not any(marks) and db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def in_words(access: tuple[str, str]) -> str:
    """A kernel function and its operation, as one text."""
    return ": ".join(access)


def of_words(text: str) -> tuple[str, str]:
    """The function and the operation that `in_words` was given."""
    function, _, operation = text.partition(": ")
    return function, operation
