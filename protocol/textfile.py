"""Files of text that a user names. They are read whole, but not without end."""

from __future__ import annotations

from pathlib import Path

from protocol.errors import UsageError

MOST_BYTES = 4 << 20
"""Ten thousands of lines: no slab machine and no trace that can be compared is larger, but a device is."""


def read_bounded(path: Path) -> bytes:
    """The bytes of a file; UsageError in one line if it cannot be read, or has more than MOST_BYTES."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        msg = f"{path}: cannot read it: {error.strerror}"
        raise UsageError(msg) from None
    if len(data) > MOST_BYTES:
        msg = f"{path}: it has more than {MOST_BYTES >> 20} MiB; is this the right file?"
        raise UsageError(msg)
    return data
