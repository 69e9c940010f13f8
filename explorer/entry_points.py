"""Entry points of installed projects. A project whose entry points cannot be read is named, and does no more harm."""

from __future__ import annotations

from importlib import metadata

from explorer.streams import complain


def entry_points(group: str) -> list[metadata.EntryPoint]:
    """The entry points of a group, by name."""
    try:
        points = list(metadata.entry_points(group=group))
    except Exception:  # noqa: BLE001 -- the file is the project's, and importlib raises whatever it meets there
        points = [point for project in metadata.distributions() for point in _of(project) if point.group == group]
    return sorted(points, key=lambda point: point.name)


def _of(project: metadata.Distribution) -> metadata.EntryPoints:
    """The entry points of one project; none, and a line on standard error, if they cannot be read."""
    try:
        return project.entry_points
    except Exception as error:  # noqa: BLE001 -- as above
        place = getattr(project, "_path", None) or "an installed project"
        complain(f"{place}: its entry points cannot be read ({type(error).__name__}); reinstall or remove it")
        return metadata.EntryPoints()
