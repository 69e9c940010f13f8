"""Entry points of installed projects. A project whose entry points cannot be read is named, and does no more harm."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from explorer.streams import complain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.metadata import Distribution, EntryPoint


def entry_points(group: str) -> list[EntryPoint]:
    """The entry points of a group, by name."""
    from importlib import metadata  # noqa: PLC0415 -- slow, and most commands never need it

    try:
        points = list(metadata.entry_points(group=group))
    except Exception:  # noqa: BLE001 -- the file is the project's, and importlib raises whatever it meets there
        points = [point for project in metadata.distributions() for point in _of(project) if point.group == group]
    return sorted(points, key=lambda point: point.name)


def _of(project: Distribution) -> Iterable[EntryPoint]:
    """The entry points of one project; none, and a line on standard error, if they cannot be read."""
    try:
        return project.entry_points
    except Exception as error:  # noqa: BLE001 -- as above
        place = getattr(project, "_path", None) or "an installed project"
        complain(f"{place}: its entry points cannot be read ({type(error).__name__}); reinstall or remove it")
        return ()


# -- a look at the files before the slow import -----------------------------------------------------------------------


def may_be_declared(group: str) -> bool:
    """Whether an installed project may declare an entry point of *group*; True in doubt.

    There is doubt about archives, about finders besides Python's own, and about files that importlib could refuse.
    """
    if any(hasattr(finder, "find_distributions") for finder in sys.meta_path if finder.__module__ != _PYTHON_S_OWN):
        return True
    return any(_may_declare(folder, group) for folder in sys.path)


_PYTHON_S_OWN = "_frozen_importlib_external"


def _may_declare(folder: str, group: str) -> bool:
    try:
        projects = os.listdir(folder or os.curdir)  # noqa: PTH208 -- pathlib takes longer
    except FileNotFoundError:
        return False
    except OSError:
        return True
    if any(name.lower().endswith(".egg") for name in (folder, *projects)):
        return True
    try:
        return any(f"[{group}]" in line or not _is_regular(line) for line in _entry_lines(folder, projects))
    except (OSError, UnicodeDecodeError):
        return True


def _entry_lines(folder: str, projects: Iterable[str]) -> Iterator[str]:
    for name in projects:
        if name.lower().endswith((".dist-info", ".egg-info")):
            try:
                with open(os.path.join(folder, name, "entry_points.txt"), encoding="utf-8") as file:  # noqa: PTH118, PTH123 -- as above
                    yield from file
            except (FileNotFoundError, NotADirectoryError):
                continue


def _is_regular(line: str) -> bool:
    """Whether a line is a section, an assignment, a comment or blank."""
    return not line.strip() or line.lstrip().startswith(("[", "#")) or "=" in line
