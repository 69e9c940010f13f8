"""Standard output and standard error: what is told, as text that does nothing to a terminal, whatever they are.

A stream may be closed, full, a pipe that nobody reads any more, or a terminal that knows ASCII only. No command has to
think of that: `on_standard_streams` lays an `Outlet` over each, which takes everything. A run goes on to its end, so
its log is whole, and the exit code is by the verdict; only what a full disk did not take is told, and never called ok.
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
"""Nothing was found, but that could not be said."""

STDERR = 2

_NOBODY_READS = {errno.EPIPE, errno.EBADF}


def as_text(text: str) -> str:
    r"""*text* in one line of what can be seen: control characters, bidi marks and lone surrogates as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shell_word(path: Path | str) -> str:
    """*path* as one word to paste into a shell, whatever is in it."""
    word = str(path)
    if word.startswith("-"):
        word = f"./{word}"  # else it would be an option
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(chr(b) if 0x20 <= b < 0x7F and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(word))
    return f"$'{escaped}'"


def tell(text: str) -> None:
    """One line on standard error."""
    print(as_text(text), file=sys.stderr)  # noqa: T201 -- the one place for lines on standard error


def complain(text: str) -> None:
    """One line on standard error that says who speaks."""
    tell(f"slabrace: {text}")


class Outlet(io.TextIOBase):
    """A stream that takes everything: the first error stays in `error`, and what comes after that goes nowhere."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.error: OSError | None = None
        if stream is None:
            self.error = OSError(errno.EBADF, os.strerror(errno.EBADF))  # it was closed before we began
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for terminals of few characters

    @property
    def is_unread(self) -> bool:
        """Whether nobody reads it any more."""
        return self.error is not None and self.error.errno in _NOBODY_READS

    @property
    def encoding(self) -> str:  # type: ignore[override]  # of TextIOBase it is an attribute
        """What characters become."""
        return self._stream.encoding if self._stream is not None else "utf-8"

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor; UnsupportedOperation if there is none."""
        if self._stream is None:
            raise io.UnsupportedOperation
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Take *text*."""
        self._try(lambda stream: stream.write(text))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Take *data*, behind all that was written before."""
        self.flush()
        self._try(lambda stream: stream.buffer.write(data))
        self.flush()

    def flush(self) -> None:
        """Hand all of it to the operating system."""
        self._try(lambda stream: stream.flush())

    def _try(self, act: Callable[[TextIO], object]) -> None:
        if self._stream is None or self.error is not None:
            return
        try:
            act(self._stream)
        except OSError as error:
            self.error = error
            with contextlib.suppress(OSError):  # what the stream still has would fail once more when Python ends
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)


def print_bytes(data: bytes) -> None:
    """A command's answer that is no text, on standard output."""
    out: object = sys.stdout
    assert isinstance(out, Outlet), "a command runs on_standard_streams"
    out.write_bytes(data)


def is_unread() -> bool:
    """Whether nobody reads standard output any more, and what would be printed need not be made."""
    out: object = sys.stdout
    return isinstance(out, Outlet) and out.is_unread


Main = Callable[[Sequence[str] | None], int]


def on_standard_streams(command: Main) -> Callable[..., int]:
    """Let *command* print whatever it has to, and return an exit code that is right if some of that is lost."""

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
    """The exit code, now that all is printed, or is not."""
    out.flush()
    if out.error is None or out.is_unread:
        return code
    complain(f"standard output: cannot write it: {out.error.strerror}")
    return code or EXIT_LOST


def _occupy_standard_descriptors() -> None:
    """Open those of 0 to 2 that are closed: the next file would get that number, and what is printed would go there."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= STDERR:
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)
