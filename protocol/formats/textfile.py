"""Text files that a user names, read whole up to a limit."""

from __future__ import annotations

import os
from pathlib import Path

from protocol.errors import UsageError

MOST_BYTES = 4 << 20
"""Tens of thousands of lines: no slabinfo, no usable trace and no patch is larger, but a device has no end."""


def is_file(name: str) -> bool:
    """Whether there is a file of that name; False where that cannot be told (Path.is_file() would fail)."""
    return os.path.isfile(name)  # noqa: PTH113 -- as above


def read_bounded(path: Path, *, option: str = "", must_be_file: bool = False) -> bytes:
    """The bytes of a file; UsageError in one line if it cannot be read, or has more than MOST_BYTES.

    *option* precedes the name in that line. If it *must_be_file*, a pipe or a device is refused at once instead of
    being read.
    """
    try:
        if must_be_file and path.exists() and not path.is_file():
            msg = f"{option}{path}: it is not a file"
            raise UsageError(msg)
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # a ValueError: there is a NUL in the name
        msg = f"{option}{path}: cannot read it: {error.strerror if isinstance(error, OSError) else error}"
        raise UsageError(msg) from None
    if len(data) > MOST_BYTES:
        msg = f"{option}{path}: it has more than {MOST_BYTES >> 20} MiB; is this the right file?"
        raise UsageError(msg)
    return data
