"""slabinfo_full: every kmem_cache, zombies with their first and their present memcg. Layout and parser.

No kernel has this file; linux-mm asked for it in June 2019 (KERNEL.md 10.4). /proc/slabinfo counts the caches of
removed cgroups but does not list them, and memcg_slabinfo does not show their first owner. The columns are slabrace's
own:

    name            the root cache's name
    owner           the cgroup for which the cache was created, `serial:name`, as in the cache's own name; `-`: a root
    memcg           the present owner, `serial:name`; differs from `owner` after reparenting; `-`: none
    state           see `CacheState`
    age_ns          virtual nanoseconds since its creation
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import attrs

from protocol.formats.columns import Line, escape, fail, lines_of, shown, unescape

VERSION_LINE = "slabinfo_full - version: 1.0"
COLUMNS_LINE = "# name            <owner> <memcg> <state> <active_objs> <num_objs> <active_slabs> <num_slabs> <age_ns>"
HEADER = f"{VERSION_LINE}\n{COLUMNS_LINE}\n"
NONE = "-"


class CacheState(enum.Enum):
    """The stage of a cache's lifecycle (KERNEL.md 7.1, 7.2).

    Without reference counts (5.2 and v1) no cache is ever KILLED or DRAINING.
    """

    ACTIVE = "active"
    """Allocations find it, or will once it is published; all root caches, unless they are DYING."""
    DYING = "dying"
    """A root cache that is being destroyed."""
    DEACTIVATED = "deactivated"
    """Out of its root's array: no new allocation finds it; its own reference is not dropped yet."""
    KILLED = "killed"
    """Its own reference is dropped; the switch of its percpu reference count to atomic mode is not complete."""
    DRAINING = "draining"
    """A zombie: its pages and running allocations keep it alive."""
    SHUT = "shut"
    """On no list; the struct waits for a grace period, a worker, or the last put of its kobject."""


@attrs.frozen
class FullRow:
    """One cache; the module lists the columns. Counts are of this cache alone; `owner` and `memcg` are None for `-`."""

    name: str
    owner: str | None
    memcg: str | None
    state: CacheState
    active_objs: int
    num_objs: int
    active_slabs: int
    num_slabs: int
    age_ns: int


def parse_slabinfo_full(text: str, *, source: str) -> tuple[FullRow, ...]:
    """Parse the file; UsageError in one line, with *source* and the line number, if it is not one."""
    version = text.partition("\n")[0].strip()
    if version != VERSION_LINE:
        fail(source, 1, f"expected {VERSION_LINE!r}, found {shown(version)}; is this slabinfo_full?")
    return tuple(_parse_row(line) for line in lines_of(text, source) if line.number > 1)


def _parse_row(line: Line) -> FullRow:
    name, owner, memcg, state = (line.word() for _ in range(4))
    counts = line.naturals(5)
    line.end()
    if state not in [known.value for known in CacheState]:
        line.fail(f"{shown(state)} is no state of a cache")
    return FullRow(name, _memcg_of(owner), _memcg_of(memcg), CacheState(state), *counts)


def _memcg_of(column: str) -> str | None:
    return None if column == NONE else unescape(column)


def render_slabinfo_full(rows: Iterable[FullRow]) -> str:
    """The whole file."""
    return HEADER + "".join(map(_render_row, rows))


def _render_row(row: FullRow) -> str:
    owner, memcg = (NONE if name is None else escape(name) for name in (row.owner, row.memcg))
    return (
        f"{row.name:<17} {owner:<14} {memcg:<14} {row.state.value:<11}"
        f" {row.active_objs:6} {row.num_objs:6} {row.active_slabs:6} {row.num_slabs:6} {row.age_ns:12}\n"
    )
