"""File systems with and without optional features, and disks that fill up."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest


def has_no_links(_self: Path, _target: Path) -> NoReturn:
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.fixture(params=["unnamed files", "named files", "no hard links"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The features of the file system below."""
    if request.param != "unnamed files":
        monkeypatch.setattr("protocol.atomic._open_unnamed", lambda _folder: None)
    if request.param == "no hard links":
        monkeypatch.setattr(Path, "hardlink_to", has_no_links)
    return str(request.param)


@pytest.fixture
def fill_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that limits the number of bytes the disk still takes."""
    real = os.write

    def fill(left: int) -> None:
        free = [left]

        def write(fd: int, data: bytes) -> int:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return real(fd, data)
            if not free[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = real(fd, data[: free[0]])
            free[0] -= written
            return written

        monkeypatch.setattr("protocol.atomic.os.write", write)

    return fill
