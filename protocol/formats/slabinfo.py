"""/proc/slabinfo, format 2.1, and memory.kmem.slabinfo, which has the same rows: the kernel's layout, and a parser.

mm/slab_common.c @5.3.1: print_slabinfo_header() and cache_show(); KERNEL.md 10.1 and 10.2. The kernel prints the header
with the first row, so a file without rows is empty.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import attrs

from protocol.formats.columns import Line, fail, lines_of, shown

PAGE_SIZE = 4096

MOST_PAGES = 1 << 10
"""Pages of a slab: no allocation is of an order above 10 (MAX_ORDER, include/linux/mmzone.h, 5.3)."""

MOST_OBJECTS = (1 << 16) - 1
"""Objects of a slab: SLAB numbers them in 16 bits (freelist_idx_t, mm/slab.c), SLUB in 15 (MAX_OBJS_PER_PAGE)."""

VERSION_LINE = "slabinfo - version: 2.1"
COLUMNS_LINE = (
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
    " : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>"
)
HEADER = f"{VERSION_LINE}\n{COLUMNS_LINE}\n"


@attrs.frozen
class SlabinfoRow:
    """One row: a root cache with the sums over its child caches, or one child cache under the name of its root.

    Sizes are in bytes, slabs have 4K pages. Counts are unsigned longs: a count that a race made negative is a number
    just below 2^64.
    """

    name: str
    active_objs: int
    num_objs: int
    objsize: int
    objperslab: int
    pagesperslab: int
    limit: int = 0
    batchcount: int = 0
    sharedfactor: int = 0
    active_slabs: int = 0
    num_slabs: int = 0
    sharedavail: int = 0


# -- parsing ----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def parse_slabinfo(text: str, *, source: str) -> tuple[SlabinfoRow, ...]:
    """Parse a capture; UsageError in one line, with *source* and the line number, if it is not one."""
    rows: dict[str, SlabinfoRow] = {}
    for line, row in _numbered_rows(text, source):
        if row.name in rows:
            line.fail(f"a second row {row.name!r}")
        rows[row.name] = row
    if not rows:
        fail(source, len(text.splitlines()), "there is no row of a cache")
    return tuple(rows.values())


def parse_kmem_slabinfo(text: str, *, source: str) -> tuple[SlabinfoRow, ...]:
    """Parse a memory.kmem.slabinfo: rows may share a name, and an empty file means no caches."""
    return tuple(row for _, row in _numbered_rows(text, source)) if text else ()


def _numbered_rows(text: str, source: str) -> Iterable[tuple[Line, SlabinfoRow]]:
    """Each row with its line, after the version line."""
    lines = text.splitlines()
    version = lines[0].strip() if lines else ""
    if version.removesuffix("(statistics)").strip() != VERSION_LINE:
        found = "nothing" if not version else shown(version)
        fail(source, 1, f"expected {VERSION_LINE!r}, found {found}; is this /proc/slabinfo?")
    return [(line, _parse_row(line)) for line in lines_of(text, source) if line.number > 1]


def _parse_row(line: Line) -> SlabinfoRow:
    """One row: a name, five numbers, ': tunables' and three, ': slabdata' and three."""
    name, values = line.name(), line.naturals(5)
    for section in ("tunables", "slabdata"):
        for expected in (":", section):
            line.expect(expected, "; is this format 2.1?")
        values += line.naturals(3)
    line.end(unless=":")  # CONFIG_DEBUG_SLAB appends ': globalstat ...'
    row = SlabinfoRow(name, *values)
    _check_geometry(row, line)
    return row


def _check_geometry(row: SlabinfoRow, line: Line) -> None:
    """The pages of a slab are a power of two, and its objects fit into them."""
    if not (row.objsize and row.objperslab and row.pagesperslab):
        line.fail(f"{row.name}: object size, objects and pages per slab must not be 0")
    if row.pagesperslab & (row.pagesperslab - 1):
        line.fail(f"{row.name}: {row.pagesperslab} pages per slab is not a power of two")
    if row.pagesperslab > MOST_PAGES or row.objperslab > MOST_OBJECTS:
        line.fail(f"{row.name}: no slab has more than {MOST_PAGES} pages or {MOST_OBJECTS} objects")
    if row.objsize * row.objperslab > row.pagesperslab * PAGE_SIZE:
        line.fail(
            f"{row.name}: {row.objperslab} objects of {row.objsize} bytes do not fit into {row.pagesperslab} pages"
        )


# -- rendering --------------------------------------------------------------------------------------------------------


def render_slabinfo(rows: Iterable[SlabinfoRow]) -> str:
    """The rows as the kernel prints them; the header is there even without rows."""
    return HEADER + "".join(map(render_row, rows))


def render_row(row: SlabinfoRow) -> str:
    """One row, with its line end: cache_show()."""
    return (
        f"{row.name:<17} {row.active_objs:6} {row.num_objs:6} {row.objsize:6} {row.objperslab:4} {row.pagesperslab:4}"
        f" : tunables {row.limit:4} {row.batchcount:4} {row.sharedfactor:4}"
        f" : slabdata {row.active_slabs:6} {row.num_slabs:6} {row.sharedavail:6}\n"
    )
