"""The files that slabrace writes: what they are called. How they are written is in protocol/atomic.py."""

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
"""In bytes: less than any file system allows, with room for a number and a suffix."""


def new_file(stem: str, suffix: str = ".log") -> Path:
    """A file in runs/ with a name that is not taken."""
    names = (f"{stem}{number}{suffix}" for number in itertools.chain([""], (f".{n}" for n in itertools.count(1))))
    return next(path for path in map(RUNS.joinpath, names) if not os.path.lexists(path))


def file_stem(header: Header, finding: Finding) -> str:
    """A name for a file about a finding."""
    return stem_of(f"{header.scenario}-{header.kernel}-{finding.kind}-{finding.name}-{finding.function}")


def stem_of(words: str) -> str:
    """*words* as the name of a file: no character that means something to a shell or a file system."""
    stem = re.sub(r"[^\w.]+", "-", words).encode()[:LONGEST_STEM].decode(errors="ignore")
    return stem.rstrip("-").lstrip("-.") or "log"
