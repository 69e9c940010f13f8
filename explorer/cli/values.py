"""Types of option values: logs, numbers and seeds."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import IO

from protocol.errors import UsageError
from protocol.formats.columns import MAX_DIGITS

BLOCK, MOST_PIPED = 1 << 20, 1 << 30
"""Bytes per copied block, and most bytes of a piped log."""

MOST_HOURS = 1 << 20


def log_file(text: str) -> Path:
    """The path of a log. A log from a pipe (`-` is standard input) is copied to an unnamed file."""
    path = Path("/dev/stdin" if text == "-" else text)
    try:
        file = path.open("rb")
    except (OSError, ValueError):
        return path  # the log reader reports the error
    with file:
        try:
            return path if file.seekable() else keep_piped(file)
        except OSError as error:
            msg = f"{text}: cannot keep the data from the pipe: {error.strerror}"
            raise UsageError(msg) from None


def keep_piped(file: IO[bytes]) -> Path:
    """Copy a log from a pipe; return a path that this program's processes can open any number of times.

    If the data is not a log, only its beginning is copied: the pipe may have no end.
    """
    import tempfile  # noqa: PLC0415 -- rarely needed

    from protocol.log import MAGIC  # noqa: PLC0415 -- as above

    with tempfile.TemporaryFile() as kept:
        begin = file.read(len(MAGIC))
        kept.write(begin)
        while begin == MAGIC and (block := file.read(BLOCK)):
            kept.write(block)
            if kept.tell() > MOST_PIPED:
                msg = f"the log from the pipe has more than {MOST_PIPED >> 20} MiB; give it as a file"
                raise UsageError(msg)
        kept.flush()
        descriptor = os.dup(kept.fileno())  # stays open until the process ends
    return _our_descriptors() / str(descriptor)


def is_piped(log: Path) -> bool:
    """Whether *log* came from a pipe, so that no other file can be named after it."""
    return log.parent == _our_descriptors()


def _our_descriptors() -> Path:
    return Path(f"/proc/{os.getpid()}/fd")


def seed(text: str) -> int:
    """A seed: a whole number of 64 bits."""
    number = natural(text)
    if number >= 1 << 64:
        msg = f"{text}: give a whole number below 2**64"
        raise argparse.ArgumentTypeError(msg)
    return number


def natural(text: str) -> int:
    """A whole number, zero or more."""
    return _number(text, least=0, words="zero or more")


def positive(text: str) -> int:
    """A whole number, one or more."""
    return _number(text, least=1, words="one or more")


def share(text: str) -> float:
    """A probability or a share: `0.01`, or `1%`."""
    number = _fraction(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= number <= 1:
        msg = f"{text!r:.40}: give a number from 0 to 1, or a percentage"
        raise argparse.ArgumentTypeError(msg)
    return number


def hours(text: str) -> float:
    """A time in hours, more than none."""
    number = _fraction(text)
    if not 0 < number < MOST_HOURS:
        msg = f"{text!r:.40}: give a number of hours above 0"
        raise argparse.ArgumentTypeError(msg)
    return number


def _fraction(text: str) -> float:
    """A plain decimal number; -1 if it is none."""
    return float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", text) else -1.0


def _number(text: str, *, least: int, words: str) -> int:
    is_number = text.isascii() and text.isdigit()
    if not is_number or len(text) > MAX_DIGITS or int(text) < least:
        why = "it is too large" if is_number and len(text) > MAX_DIGITS else f"give a whole number, {words}"
        msg = f"{text!r:.40}: {why}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)
