"""Functions for tests of kept findings: test_kept.py, which `slabrace keep` writes, imports them.

They are the functions of `explorer.keep`, and also work in a project that has modules with the names of slabrace's
packages.
"""

from __future__ import annotations

from pathlib import Path

from slabrace.names import ours

__all__ = ("assert_as_expected", "kept_files")


def kept_files(directory: Path) -> list[Path]:
    """The regression files of a directory, by name."""
    with ours():
        from explorer.keep import kept_files as find  # noqa: PLC0415 -- the name is slabrace's in this block only

        return find(directory)


def assert_as_expected(path: Path, *, trust: bool = False) -> None:
    """Raise AssertionError, with the explained report, if a kept finding is not as its file expects.

    Files that the regression file names (patches, scenario, oracles) run only with *trust*.
    """
    __tracebackhide__ = True  # pytest shows the report, not this function
    with ours():
        from explorer.keep import assert_as_expected as check  # noqa: PLC0415 -- as above

        check(path, trust=trust)
