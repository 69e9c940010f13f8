"""Files that are written whole or not at all: after any failure the old file or the new one exists.

A new file is written without a name (O_TMPFILE), so a process that dies leaves no trace of it; it gets its name when it
is complete. A file that is replaced keeps its name until then. Devices, pipes and this process's own standard streams
cannot be replaced; they are written to directly. On a file system without unnamed files, the new file is
`.slabrace-...` in the same directory; only there can kill -9 leave a part behind.

A killed process needs no fsync(). A power cut may lose a new file but never an old one: a replacement is on the disk
before it replaces.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from protocol.errors import UsageError

MODE = 0o666
"""The permissions of a new file, before the umask."""

STANDARD = (1, 2)

_NO_UNNAMED_FILES = {errno.EOPNOTSUPP, errno.EISDIR}
_NO_LINKS = {errno.EOPNOTSUPP, errno.EPERM}


class CannotWriteError(UsageError):
    """A file cannot be written; the text is one line with its name and the reason."""


def check_free(path: Path | None, *, overwrite: bool = False) -> None:
    """CannotWriteError if it is already certain that no file can be written to *path*; None is always free."""
    if path is None:
        return
    with _explained(path):
        if not _is_stream(_found_at(path, overwrite=overwrite)):
            target = Path(os.path.realpath(path))
            folder = next(parent for parent in target.parents if parent.exists())
            if not folder.is_dir():
                raise _error(errno.ENOTDIR)
            if not os.access(folder, os.W_OK | os.X_OK):
                msg = f"{path}: cannot write it: no file can be made in {folder}"
                raise CannotWriteError(msg)


class NewFile:
    """A file that is being written: `publish` gives it its name; `close` drops a file without a name.

    The end of a with block closes it, and publishes it first if there is no exception.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Create a file, and its directories if need be; CannotWriteError if that fails."""
        self.path = path
        self._overwrite = overwrite
        self._part: Path | None = None  # its temporary name, where there are no unnamed files
        with _explained(path):
            found = _found_at(path, overwrite=overwrite)
            self._target = Path(os.path.realpath(path))  # a link stays; its target is replaced
            self._is_stream = _is_stream(found)
            self.is_published = self._is_stream
            self.replaces = found is not None and not self._is_stream
            self._fd = _open_stream(path) if self._is_stream else self._open_part()

    def _open_part(self) -> int:
        folder = self._target.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise _error(errno.ENOTDIR) from None
        fd = _open_unnamed(folder)
        if fd is None:
            self._part = _part_in(folder)
            fd = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        return fd

    def write(self, data: bytes) -> None:
        """Write all of *data* to the operating system."""
        with _explained(self.path):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]

    def publish(self) -> None:
        """Give the file its name; later writes are visible to all its readers."""
        if self.is_published:
            return
        with _explained(self.path):
            try:
                self._link(self._target)
            except FileExistsError:
                if not self._overwrite:
                    raise
                self._replace()
        self.is_published = True

    def _link(self, name: Path) -> None:
        """Give it *name*, unless a file of that name exists."""
        if self._part is None:
            os.link(_path_of(self._fd), name, src_dir_fd=self._fd)  # with src_dir_fd, os.link follows the symlink
            return
        try:
            name.hardlink_to(self._part)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(name):
                raise _error(errno.EEXIST) from None
            self._part.rename(name)

    def _replace(self) -> None:
        os.fchmod(self._fd, stat.S_IMODE(self._target.stat().st_mode))  # a private file stays private
        os.fsync(self._fd)
        if self._part is not None:
            self._part.replace(self._target)
            return
        part = _part_in(self._target.parent)
        try:
            self._link(part)
            part.replace(self._target)
        finally:
            part.unlink(missing_ok=True)

    def discard(self) -> None:
        """Drop the file after a failure. A device stays, and so does another file that has the name by now."""
        with contextlib.suppress(OSError):
            is_ours = self.is_published and os.path.samestat(os.fstat(self._fd), self._target.lstat())
            if is_ours and not self._is_stream:
                self._target.unlink()
        self.close()

    def close(self) -> None:
        """Close the file; a second call has no effect."""
        fd, self._fd = self._fd, -1
        if self._part is not None:
            self._part.unlink(missing_ok=True)
        if fd >= 0:
            with _explained(self.path):
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self.publish()
        finally:
            self.close()


def write_file(path: Path, data: bytes | str, *, overwrite: bool = False) -> None:
    """Write a file whole or not at all; CannotWriteError if it exists or cannot be written."""
    with NewFile(path, overwrite=overwrite) as file:
        file.write(data.encode(errors="backslashreplace") if isinstance(data, str) else data)


def _found_at(path: Path, *, overwrite: bool) -> os.stat_result | None:
    """The existing file to write to or to replace; CannotWriteError or FileExistsError if that is not allowed."""
    try:
        found = path.stat()
    except FileNotFoundError:
        if path.is_symlink() and not overwrite:
            raise _error(errno.EEXIST) from None
        return None
    if _is_stream(found):
        return found
    if not stat.S_ISREG(found.st_mode):
        what = "a directory" if stat.S_ISDIR(found.st_mode) else "something other than a file"
        msg = f"{path}: cannot write it: {what} has this name; choose another"
        raise CannotWriteError(msg)
    if not overwrite:
        raise _error(errno.EEXIST)
    return found


def _is_stream(found: os.stat_result | None) -> bool:
    """Whether it is written to directly, because it cannot be replaced."""
    if found is None:
        return False
    return stat.S_ISCHR(found.st_mode) or stat.S_ISFIFO(found.st_mode) or _standard_stream(found) is not None


def _standard_stream(found: os.stat_result) -> int | None:
    """The standard descriptor that is the same file as *found*: /dev/stdout may be a redirected file."""
    for fd in STANDARD:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(fd), found):
                return fd
    return None


def _open_stream(path: Path) -> int:
    fd = _standard_stream(path.stat())
    return os.dup(fd) if fd is not None else os.open(path, os.O_WRONLY | os.O_NOCTTY)


def _open_unnamed(folder: Path) -> int | None:
    """A file without a name, which vanishes with the process; None if the file system has no such files."""
    try:
        fd = os.open(folder, os.O_WRONLY | os.O_TMPFILE, MODE)
    except OSError as error:
        if error.errno not in _NO_UNNAMED_FILES:
            raise
        return None
    if _path_of(fd).exists():
        return fd
    os.close(fd)  # without /proc it could never get a name
    return None


def _path_of(fd: int) -> Path:
    return Path(f"/proc/self/fd/{fd}")


def _part_in(folder: Path) -> Path:
    return folder / f".slabrace-{secrets.token_hex(8)}"


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))  # Python picks the subclass for the number


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn a failure to write *path* into an error of one line."""
    try:
        yield
    except FileExistsError:
        msg = f"{path}: a file with this name exists; choose another, or --force to replace it"
        raise CannotWriteError(msg) from None
    except (OSError, ValueError) as error:  # a ValueError: there is a NUL in the name
        why = error.strerror if isinstance(error, OSError) else error
        msg = f"{path}: cannot write it: {why}"
        raise CannotWriteError(msg) from None
