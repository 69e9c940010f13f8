"""Every file is written completely or not at all, in spite of any interruption, and no other file is left."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.atomic import CannotWriteError, NewFile, check_free, write_file
from protocol.errors import UsageError
from protocol.log import LogReader, LogWriter
from protocol.records import Header

OLD, NEW = b"old\n", b"the new one\n"
PAYLOAD = b"\x92\xa5phase\xa4race"
HEADER = Header(
    scenario="x", kernel="5.3", strategy="random", seed=0, driver="trio", parameters={}, slabrace="0", check="step"
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    return path


# -- completely or not at all -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("file_system")
def test_a_new_file_is_there_whole_with_the_usual_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    usual = tmp_path / "usual"
    usual.touch()
    write_file(path, NEW)

    assert path.read_bytes() == NEW
    assert path.stat().st_mode == usual.stat().st_mode
    assert names_in(path.parent) == ["file"]


@pytest.mark.usefixtures("file_system")
def test_an_existing_file_stays_until_the_new_one_is_whole_and_gives_it_its_mode(old: Path) -> None:
    old.chmod(0o600)
    with NewFile(old, overwrite=True) as file:
        file.write(NEW)

        assert old.read_bytes() == OLD
    assert old.read_bytes() == NEW
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert names_in(old.parent) == ["file"]


@pytest.mark.usefixtures("file_system")
def test_an_existing_file_is_not_replaced_unasked(old: Path) -> None:
    with pytest.raises(CannotWriteError, match="a file with this name exists; choose another, or --force"):
        write_file(old, NEW)
    with pytest.raises(CannotWriteError, match="a file with this name exists"):
        check_free(old)
    assert old.read_bytes() == OLD
    assert names_in(old.parent) == ["file"]


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_comes_up_meanwhile_is_replaced_only_if_any_may_be(tmp_path: Path, *, overwrite: bool) -> None:
    path = tmp_path / "file"
    with NewFile(path, overwrite=overwrite) as file:
        file.write(NEW)
        path.write_bytes(OLD)
        if not overwrite:
            with pytest.raises(CannotWriteError, match="exists"):
                file.publish()
            path.unlink()
    assert path.read_bytes() == NEW
    assert names_in(tmp_path) == ["file"]


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("room", range(len(NEW)))
@pytest.mark.parametrize("is_there", [False, True])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, fill_disk: Callable[[int], None], room: int, *, is_there: bool
) -> None:
    path = tmp_path / "file"
    if is_there:
        path.write_bytes(OLD)
    fill_disk(room)
    with pytest.raises(CannotWriteError, match=r"file: cannot write it: No space left on device$"):
        write_file(path, NEW, overwrite=True)
    assert names_in(tmp_path) == (["file"] if is_there else [])
    assert not is_there or path.read_bytes() == OLD


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, UsageError])
def test_an_interrupted_write_leaves_the_old_file(old: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with NewFile(old, overwrite=True) as file:
            file.write(NEW)
            raise error

    with pytest.raises(error):
        fail()
    assert old.read_bytes() == OLD
    assert names_in(old.parent) == ["file"]


# -- existing objects at the path -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (".", "a directory has this name; choose another"),
        ("file/below", "Not a directory"),
        ("file/far/below", "Not a directory"),
        ("x" * 256, "File name too long"),
        ("nul\0", "embedded null"),
        ("loop", "Too many levels of symbolic links"),
    ],
    ids=lambda text: text[:10],
)
def test_a_name_that_cannot_be_written_is_known_before_and_refused_in_one_line(old: Path, place: str, why: str) -> None:
    (old.parent / "loop").symlink_to("loop")
    path = old.parent / place
    with pytest.raises(CannotWriteError, match=f"cannot write it: {why}"):
        check_free(path, overwrite=True)
    with pytest.raises(CannotWriteError, match=f"cannot write it: {why}"):
        write_file(path, NEW, overwrite=True)
    assert names_in(old.parent) == ["file", "loop"]
    assert old.read_bytes() == OLD


@pytest.mark.usefixtures("file_system")
def test_a_link_stays_and_what_it_leads_to_is_replaced(old: Path) -> None:
    link = old.parent / "link"
    link.symlink_to("file")
    with pytest.raises(CannotWriteError, match="exists"):
        write_file(link, NEW)
    write_file(link, NEW, overwrite=True)

    assert link.is_symlink()
    assert old.read_bytes() == NEW


@pytest.mark.usefixtures("file_system")
def test_a_link_that_leads_nowhere_is_in_the_way_but_can_be_followed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("missing")
    with pytest.raises(CannotWriteError, match="exists"):
        check_free(link)
    with pytest.raises(CannotWriteError, match="exists"):
        write_file(link, NEW)
    write_file(link, NEW, overwrite=True)

    assert (tmp_path / "missing").read_bytes() == NEW
    assert names_in(tmp_path) == ["link", "missing"]


def test_a_device_takes_what_is_written_and_is_never_replaced() -> None:
    write_file(Path("/dev/null"), NEW)
    with pytest.raises(CannotWriteError, match="/dev/full: cannot write it: No space left on device"):
        write_file(Path("/dev/full"), NEW, overwrite=True)
    assert all(Path(name).is_char_device() for name in ("/dev/null", "/dev/full"))


def test_a_fifo_gets_a_whole_log(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    with LogWriter(fifo) as writer:
        writer.header(HEADER)
        writer.write(PAYLOAD)
    reader.join()
    write_log(tmp_path / "x.log")

    assert read == [(tmp_path / "x.log").read_bytes()]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


# -- logs -------------------------------------------------------------------------------------------------------------


def write_log(path: Path, *, overwrite: bool = False, error: type[BaseException] | None = None) -> None:
    with LogWriter(path, overwrite=overwrite) as writer:
        writer.header(HEADER)
        writer.write(PAYLOAD)
        if error is not None:
            raise error


def payloads_of(path: Path) -> list[bytes]:
    log = LogReader(path)
    try:
        return [payload for payload, _ in log.records()]
    finally:
        log.close()


@pytest.mark.usefixtures("file_system")
def test_a_new_log_has_its_name_from_its_header_on_and_is_never_empty(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    with LogWriter(path) as writer:
        assert not path.exists()
        writer.header(HEADER)

        assert payloads_of(path) == []
        writer.write(PAYLOAD)
        writer.flush()

        assert payloads_of(path) == [PAYLOAD]
    assert names_in(tmp_path) == ["x.log"]


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize(
    ("error", "left"), [(KeyboardInterrupt, [PAYLOAD]), (ValueError, [PAYLOAD]), (UsageError, None)]
)
def test_a_new_log_keeps_what_it_has_unless_the_user_is_at_fault(
    tmp_path: Path, error: type[BaseException], left: list[bytes] | None
) -> None:
    path = tmp_path / "x.log"
    with pytest.raises(error):
        write_log(path, error=error)
    assert (payloads_of(path) if path.exists() else None) == left


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, UsageError])
def test_a_log_that_replaces_another_does_so_when_it_is_whole(old: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        write_log(old, overwrite=True, error=error)
    assert old.read_bytes() == OLD
    write_log(old, overwrite=True)

    assert payloads_of(old) == [PAYLOAD]
    assert names_in(old.parent) == ["file"]


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("room", [0, 5, 150])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_log_on_a_full_disk_blocks_no_other(
    tmp_path: Path, fill_disk: Callable[[int], None], room: int, *, is_there: bool
) -> None:
    path = tmp_path / "x.log"
    if is_there:
        path.write_bytes(OLD)
    fill_disk(room)
    with pytest.raises(CannotWriteError, match=r"x\.log: cannot write it: No space left"):
        write_log(path, overwrite=is_there)
    assert names_in(tmp_path) == (["x.log"] if is_there else [])
    fill_disk(10_000)
    write_log(path, overwrite=is_there)

    assert payloads_of(path) == [PAYLOAD]


def test_a_log_that_another_has_replaced_meanwhile_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    with LogWriter(path) as writer:
        writer.header(HEADER)
        path.unlink()
        path.write_bytes(OLD)
        writer.discard()
    assert path.read_bytes() == OLD
