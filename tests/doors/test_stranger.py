"""The project of docs/your-own.md runs as the page says, in a folder outside of the repository."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.doors.stranger import commands_of_page, files_of_page, try_project


def test_the_page_shows_a_whole_project() -> None:
    assert set(files_of_page()) == {
        "scenarios/late_free.py",
        "ownership.py",
        "hold.py",
        "moment.py",
        "tests/test_late_free.py",
    }
    assert [words[0] for words in commands_of_page()] == ["explore", "shrink", "explain", "keep", "explore"]


@pytest.mark.slow
def test_the_project_of_the_page_runs(tmp_path: Path) -> None:
    said = try_project(Path(sys.executable), tmp_path)
    told = "\n".join(said.values())

    assert "signature: oracle:objects-of-the-dead:" in told
    counts = {int(count) for count in re.findall(r"(\d+) objects of request\(3:job\) are in use", told)}
    assert counts
    assert counts <= {1, 2}, "the cgroup has two objects"
    assert "kept: regressions/" in told
    assert "3 passed" in told
    assert "budget: nothing found; 50 schedules" in told
