"""<debugfs>/memcg_slabinfo: the child caches that /proc/slabinfo only counts, by memcg. Layout and parser.

mm/slab_common.c @5.3.1: memcg_slabinfo_show(), by Waiman Long; KERNEL.md 10.3. The file is in 5.3 and later only.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from protocol.formats.columns import MAX_DIGITS, Line, fail, lines_of, shown

COLUMNS_LINE = "# <name> <css_id[:dead|deact]> <active_objs> <num_objs> <active_slabs> <num_slabs>"
HEADER = f"{COLUMNS_LINE}\n"
ROOT = "root"
STATUSES = ("", "dead", "deact")


@attrs.frozen
class MemcgSlabinfoRow:
    """One row: a root cache alone (`css_id` is None), or one of its child caches with the css id of its memcg.

    `status` is "dead" if that memcg is not online (any more), else "deact" if the cache is deactivated, else "".
    """

    name: str
    css_id: int | None
    status: str
    active_objs: int
    num_objs: int
    active_slabs: int
    num_slabs: int


def parse_memcg_slabinfo(text: str, *, source: str) -> tuple[MemcgSlabinfoRow, ...]:
    """Parse the file; UsageError in one line, with *source* and the line number, if it is not one.

    The header of the first posting, which had no "deact", is accepted.
    """
    header = text.partition("\n")[0].replace("[:dead]", "[:dead|deact]").strip()
    if header != COLUMNS_LINE:
        fail(source, 1, f"expected {COLUMNS_LINE!r}, found {shown(header)}; is this memcg_slabinfo?")
    return tuple(map(_parse_row, lines_of(text, source)))


def _parse_row(line: Line) -> MemcgSlabinfoRow:
    name, owner = line.name(), line.word()
    counts = line.naturals(4)
    line.end()
    if owner == ROOT:
        return MemcgSlabinfoRow(name, None, "", *counts)
    css_id, _, status = owner.partition(":")
    if not (css_id.isascii() and css_id.isdigit() and len(css_id) <= MAX_DIGITS and status in STATUSES):
        line.fail(f"expected 'root' or a css id, perhaps with ':dead' or ':deact', found {shown(owner)}")
    return MemcgSlabinfoRow(name, int(css_id), status, *counts)


def render_memcg_slabinfo(rows: Iterable[MemcgSlabinfoRow]) -> str:
    """The whole file as the kernel prints it."""
    return HEADER + "".join(map(render_row, rows))


def render_row(row: MemcgSlabinfoRow) -> str:
    """One row, with its line end."""
    status = f":{row.status}" if row.status else ""
    owner = f"{ROOT:<10}" if row.css_id is None else f"{row.css_id:4}{status:<6}"
    return f"{row.name:<17} {owner} {row.active_objs:6} {row.num_objs:6} {row.active_slabs:6} {row.num_slabs:6}\n"
