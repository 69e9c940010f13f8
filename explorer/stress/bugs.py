"""The life of bugs: people move them from state to state, also while a campaign runs in the store."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec

from explorer.stress.queries import QUESTIONS, Row, as_row, in_utc, snapshot
from explorer.stress.store import BUSY_SECONDS, FILE, Store, StoreError
from protocol.errors import UsageError

MOVED = "bug moved"
LONGEST_NOTE = 1_000


@attrs.frozen
class Move:
    """A change of bugs: their new `state`, and the bug that they are duplicates `of`; None keeps state or note."""

    state: str | None = None
    of: int | None = None
    note: str | None = None


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[sqlite3.Connection]:
    """A transaction in a store that another process may own; StoreError if it fails, and nothing is changed then.

    SQLite lets one process write at a time. A campaign writes for a moment, twice a second, so the other one waits.
    """
    Store(folder, writes=False).close()  # it is a store, and of this version
    try:
        address = f"{(folder / FILE).absolute().as_uri()}?mode=rw"
        with contextlib.closing(
            sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        ) as database:
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
    except sqlite3.Error as error:
        msg = f"{folder}: it cannot be changed: {error}"
        raise StoreError(msg) from None


def list_bugs(store: Store, ids: Sequence[int] = ()) -> list[Row]:
    """The bugs with their lives, oldest first; UsageError if the store does not have one of *ids*."""
    with snapshot(store):
        campaign = store.value("SELECT coalesce(max(id), 0) FROM campaigns")
        bugs = {row["id"]: {**row, "life": []} for row in QUESTIONS["causes"].answer(store, campaign)}
        rows = store.rows("SELECT * FROM events WHERE json_extract(fields, '$.bug') IS NOT NULL ORDER BY id")
        events = [as_row(row) for row in rows]
    for event in events:
        bug = bugs.get(event["fields"]["bug"])
        if bug is not None:
            bug["life"].append(
                {"at": in_utc(event["at"]), "campaign": event["campaign"], "event": event["event"]}
                | {name: event["fields"].get(name) for name in ("state", "of", "note", "cell")}
            )
    _check_ids(store.folder, ids, bugs)
    return [bugs[bug] for bug in sorted(dict.fromkeys(ids) or bugs)]


def move(folder: Path, ids: Sequence[int], wanted: Move) -> None:
    """Change all these bugs, or none of them: UsageError if the store does not have one, or if it cannot be so."""
    if wanted.note is not None and not is_note(wanted.note):
        msg = f"--note: give at most {LONGEST_NOTE} characters of Unicode"
        raise UsageError(msg)
    with beside(folder) as database:
        bugs = {row["id"]: row for row in database.execute("SELECT id, cause, state, of, note FROM bugs")}
        _check_ids(folder, ids, bugs)
        if wanted.of is not None:
            _check_dup(folder, ids, wanted.of, bugs)
        (campaign,) = database.execute("SELECT max(id) FROM campaigns").fetchone()
        for bug in dict.fromkeys(ids):
            _move_one(database, campaign, bugs[bug], wanted)


def is_note(text: str) -> bool:
    """Whether a text can be kept: not too long, and no bytes that are no characters."""
    return len(text) <= LONGEST_NOTE and not any("\ud800" <= character <= "\udfff" for character in text)


def _move_one(database: sqlite3.Connection, campaign: int, bug: Any, wanted: Move) -> None:
    note = bug["note"] if wanted.note is None else wanted.note
    if wanted.state is None:
        database.execute("UPDATE bugs SET note = ? WHERE id = ?", (note, bug["id"]))
    else:
        fixed_in = campaign if wanted.state == "fixed" else None
        database.execute(
            "UPDATE bugs SET state = ?, of = ?, note = ?, fixed_in = ? WHERE id = ?",
            (wanted.state, wanted.of, note, fixed_in, bug["id"]),
        )
    fields = {"bug": bug["id"], "cause": bug["cause"], "state": wanted.state or bug["state"], "of": wanted.of}
    database.execute(
        "INSERT INTO events (campaign, at, event, fields) VALUES (?, ?, ?, ?)",
        (campaign, time.time(), MOVED, msgspec.json.encode({**fields, "note": note}).decode()),
    )


def _check_ids(folder: Path, ids: Sequence[int], bugs: dict[int, Any]) -> None:
    for bug in ids:
        if bug not in bugs:
            known = f"they are 1 to {max(bugs)}" if bugs else "it has none"
            msg = f"{folder}: there is no bug {bug}; {known}"
            raise UsageError(msg)


def _check_dup(folder: Path, ids: Sequence[int], of: int, bugs: dict[int, Any]) -> None:
    """A duplicate is one of a bug that is none itself."""
    _check_ids(folder, [of], bugs)
    if of in ids:
        msg = f"--dup {of}: no bug is a duplicate of itself"
        raise UsageError(msg)
    if bugs[of]["of"] is not None:
        msg = f"--dup {of}: bug {of} is a duplicate of {bugs[of]['of']}; give that one"
        raise UsageError(msg)
    for bug in bugs.values():
        if bug["of"] in ids:
            msg = f"--dup {of}: bug {bug['id']} is a duplicate of {bug['of']}; move that one first"
            raise UsageError(msg)
