"""Standard output and standard error that never fail, for text without effects on a terminal.

A stream may be closed, full, a pipe without a reader, or a terminal with ASCII only. Commands need not handle this:
`on_standard_streams` puts an `Outlet` over each stream, and an Outlet accepts all output. So a run continues to its
end, its log is whole, and the exit code follows the verdict. Only output lost to a full disk is reported, and the exit
code then is never 0.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

EXIT_LOST = 2
"""Nothing was found, but the answer could not be written."""

STDERR = 2

_NOBODY_READS = {errno.EPIPE, errno.EBADF}


def as_text(text: str) -> str:
    r"""*text* as one printable line: control characters, bidi marks and lone surrogates become escapes as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shell_word(path: Path | str) -> str:
    """*path* as one word for a shell, quoted as needed."""
    word = str(path)
    if word.startswith("-"):
        word = f"./{word}"  # otherwise it would be an option
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(chr(b) if 0x20 <= b < 0x7F and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(word))
    return f"$'{escaped}'"


def tell(text: str) -> None:
    """Print one line on standard error."""
    print(as_text(text), file=sys.stderr)  # noqa: T201 -- the one place for lines on standard error


def complain(text: str) -> None:
    """Print one line on standard error that begins with the program's name."""
    tell(f"slabrace: {text}")


class Outlet(io.TextIOBase):
    """A stream that accepts all output: it stores the first error in `error`, and drops all later output."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.error: OSError | None = None
        if stream is None:
            self.error = OSError(errno.EBADF, os.strerror(errno.EBADF))  # it was closed before the process started
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for encodings that lack characters

    @property
    def is_unread(self) -> bool:
        """Whether the reader of the stream is gone."""
        return self.error is not None and self.error.errno in _NOBODY_READS

    @property
    def encoding(self) -> str:  # type: ignore[override]  # of TextIOBase it is an attribute
        """The encoding of the underlying stream."""
        return self._stream.encoding if self._stream is not None else "utf-8"

    def writable(self) -> bool:
        """Always true."""
        return True

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """The file descriptor; UnsupportedOperation if there is none."""
        if self._stream is None:
            raise io.UnsupportedOperation
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write *text*."""
        self._try(lambda stream: stream.write(text))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Write *data*, after all earlier output."""
        self.flush()
        self._try(lambda stream: stream.buffer.write(data))
        self.flush()

    def flush(self) -> None:
        """Pass all output to the operating system."""
        self._try(lambda stream: stream.flush())

    def _try(self, act: Callable[[TextIO], object]) -> None:
        if self._stream is None or self.error is not None:
            return
        try:
            act(self._stream)
        except OSError as error:
            self.error = error
            with contextlib.suppress(OSError):  # otherwise the buffered rest would fail again at Python's exit
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)


def print_bytes(data: bytes) -> None:
    """Write a command's binary answer to standard output."""
    out: object = sys.stdout
    assert isinstance(out, Outlet), "a command runs on_standard_streams"
    out.write_bytes(data)


def is_unread() -> bool:
    """Whether standard output has no reader any more, so that further output is useless."""
    out: object = sys.stdout
    return isinstance(out, Outlet) and out.is_unread


Main = Callable[[Sequence[str] | None], int]


def on_standard_streams(command: Main) -> Callable[..., int]:
    """Run *command* with safe streams; its exit code is correct even if some of its output is lost."""

    @functools.wraps(command)
    def main(arguments: Sequence[str] | None = None) -> int:
        _occupy_standard_descriptors()
        before = sys.stdout, sys.stderr
        out, err = Outlet(sys.stdout), Outlet(sys.stderr)
        sys.stdout, sys.stderr = out, err
        try:
            return _truthful(command(arguments), out)
        except SystemExit as end:  # --help
            if lost := _truthful(0, out):
                return lost
            raise end from None
        finally:
            err.flush()
            sys.stdout, sys.stderr = before

    return main


def _truthful(code: int, out: Outlet) -> int:
    """The exit code of a command whose output is written, or lost."""
    out.flush()
    if out.error is None or out.is_unread:
        return code
    complain(f"standard output: cannot write it: {out.error.strerror}")
    return code or EXIT_LOST


def _occupy_standard_descriptors() -> None:
    """Open descriptors 0 to 2 if they are closed: otherwise the next opened file would receive the command's output."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= STDERR:
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)
