"""The names of the files that slabrace writes. protocol/atomic.py writes them."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.findings import Finding
    from protocol.records import Header

RUNS = Path("runs")
LONGEST_STEM = 120
"""Longest stem of a file name, in bytes: below every file system's limit, with room for a number and a suffix."""


def new_file(stem: str, suffix: str = ".log") -> Path:
    """An unused file name in runs/."""
    names = (f"{stem}{number}{suffix}" for number in itertools.chain([""], (f".{n}" for n in itertools.count(1))))
    return next(path for path in map(RUNS.joinpath, names) if not os.path.lexists(path))


def file_stem(header: Header, finding: Finding) -> str:
    """The stem of a name for a file about *finding*."""
    return stem_of(f"{header.scenario}-{header.kernel}-{finding.kind}-{finding.name}-{finding.function}")


def stem_of(words: str) -> str:
    """*words* as a file name, without characters that are special to a shell or a file system."""
    stem = re.sub(r"[^\w.]+", "-", words).encode()[:LONGEST_STEM].decode(errors="ignore")
    return stem.rstrip("-").lstrip("-.") or "log"
