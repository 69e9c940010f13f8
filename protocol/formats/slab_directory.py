"""/sys/kernel/slab as a listing: directories and symbolic links, one a line. Names, layout and parser.

mm/slub.c @5.3.1: sysfs_slab_add(), create_unique_id(); KERNEL.md 10.8. A mergeable cache has a directory whose name
encodes its flags and size, and a link for each of its own names. Any other cache, and every child cache (below
`cgroup/` in its root's), has a directory of its own name. The kernel has no such file: the listing has the names that
`find /sys/kernel/slab` shows down to the directories of caches, with links as in `ls -l`.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from protocol.formats.columns import Line, escape, lines_of, unescape

ARROW = "->"


@attrs.frozen
class DirectoryEntry:
    """A directory by its path below /sys/kernel/slab, or a link to the directory `target` beside it."""

    path: str
    target: str | None = None


def unique_id(size: int, *, is_dma: bool = False, is_reclaimable: bool, is_accounted: bool) -> str:
    """The name of a mergeable cache's directory; *size* is the slot size of one object, in bytes."""
    flags = "d" * is_dma + "a" * is_reclaimable + "A" * is_accounted
    return f":{flags}{'-' if flags else ''}{size:07}"


def render_directory(entries: Iterable[DirectoryEntry]) -> str:
    """One entry a line, sorted by path, as sysfs does."""
    return "".join(map(_render_entry, sorted(entries, key=lambda entry: entry.path.split("/"))))


def _render_entry(entry: DirectoryEntry) -> str:
    link = "" if entry.target is None else f" {ARROW} {escape(entry.target)}"
    return f"{escape(entry.path)}{link}\n"


def parse_directory(text: str, *, source: str) -> tuple[DirectoryEntry, ...]:
    """Parse a listing; UsageError in one line, with *source* and the line number, if it is not one."""
    return tuple(map(_parse_entry, lines_of(text, source)))


def _parse_entry(line: Line) -> DirectoryEntry:
    path, target = unescape(line.word()), None
    if line.has_more():
        line.expect(ARROW)
        target = unescape(line.word())
    line.end()
    return DirectoryEntry(path, target)
