"""The tests of signals do not depend on how they were started: nohup ignores SIGHUP, for every child, too."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def not_started_by_nohup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield

    signal.signal(signal.SIGHUP, before)
