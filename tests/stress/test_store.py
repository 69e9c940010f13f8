"""A store that cannot be used is refused in one line, and a failure loses nothing that was committed."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from explorer.stress.campaign import begin
from explorer.stress.matrix import expand
from explorer.stress.store import FILE, VERSION, Store, StoreError
from tests.stress.campaigns import SMALL, knowledge, run


def refused(folder: Path, *, writes: bool = True) -> str:
    with pytest.raises(StoreError) as caught, Store(folder, writes=writes):
        pass
    text = str(caught.value)
    assert "\n" not in text
    assert str(folder) in text
    return text


def test_a_store_has_one_owner_and_any_number_of_readers(tmp_path: Path) -> None:
    with Store(tmp_path, writes=True):
        assert f"process {os.getpid()} runs a campaign in it" in refused(tmp_path)
        with Store(tmp_path, writes=False) as reader:
            assert reader.latest() is None
    with Store(tmp_path, writes=True):
        pass


def test_a_folder_without_a_store_is_not_read(tmp_path: Path) -> None:
    assert "there is no store" in refused(tmp_path, writes=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("writes", [True, False])
def test_a_file_that_is_no_database_is_refused_and_stays_as_it_is(tmp_path: Path, *, writes: bool) -> None:
    (tmp_path / FILE).write_bytes(b"a letter to my aunt" * 100)

    assert "this is no store of stress, or it is damaged" in refused(tmp_path, writes=writes)
    assert (tmp_path / FILE).read_bytes() == b"a letter to my aunt" * 100


@pytest.mark.parametrize("writes", [True, False])
def test_a_database_of_another_program_is_refused(tmp_path: Path, *, writes: bool) -> None:
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("CREATE TABLE birds (name TEXT)")
    other.close()

    assert "a database of another program" in refused(tmp_path, writes=writes)


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path, writes=True) as store:
        store._db.execute(f"PRAGMA user_version = {VERSION + 1}")

    assert "a later slabrace" in refused(tmp_path)


def test_a_damaged_page_is_told_of_in_one_line(tmp_path: Path) -> None:
    run(tmp_path, 30)
    data = bytearray((tmp_path / FILE).read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 64] = b"\xff" * 64
    (tmp_path / FILE).write_bytes(data)

    with pytest.raises(StoreError, match="is damaged"):
        run(tmp_path, 60)


def fill(folder: Path) -> None:
    with Store(folder, writes=True) as store:
        store._db.execute("PRAGMA max_page_count = 60")
        begin(store, SMALL, expand(SMALL))
        for number in range(10_000):
            store.event(1, "filler", text=f"{number:0100}")
            store.commit()


def change_half(folder: Path, *, within: bool) -> None:
    """Be interrupted after a change: *within* a transaction, or before a commit."""
    with Store(folder, writes=True) as store:
        if within:
            with store.changing() as db:
                db.execute("UPDATE cells SET schedules = 0")
                raise KeyboardInterrupt
        store.event(1, "half")
        raise KeyboardInterrupt


def test_a_full_disk_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """SQLite has the same error for its own limit of pages as for a full disk."""
    run(tmp_path / "whole", 200)
    folder = tmp_path / "full"
    with pytest.raises(StoreError, match="the disk is full"):
        fill(folder)

    run(folder, 200)
    assert knowledge(folder) == knowledge(tmp_path / "whole")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")

    assert "Not a directory" in refused(tmp_path / "file" / "store") or "File exists" in refused(tmp_path / "file")


def test_a_change_is_made_as_a_whole(tmp_path: Path) -> None:
    run(tmp_path, 30)
    before = knowledge(tmp_path)
    for within in (True, False):
        with pytest.raises(KeyboardInterrupt):
            change_half(tmp_path, within=within)

    assert knowledge(tmp_path) == before
    with Store(tmp_path, writes=False) as store:
        assert not store.value("SELECT count(*) FROM events WHERE event = 'half'")
