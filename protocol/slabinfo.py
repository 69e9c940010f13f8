"""/proc/slabinfo, format 2.1: a parser for real captures, and the kernel's own layout.

mm/slab_common.c: print_slabinfo_header() and cache_show(); KERNEL.md 10.1.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import NoReturn

import attrs

from protocol.errors import UsageError

PAGE_SIZE = 4096
MAX_DIGITS = 20  # of an unsigned long
VERSION_LINE = "slabinfo - version: 2.1"
COLUMNS_LINE = (
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
    " : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>"
)


@attrs.frozen
class SlabinfoRow:
    """One row: a root cache with the sums over its child caches. Sizes are in bytes, slabs have 4K pages."""

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


@functools.lru_cache(maxsize=8)
def parse_slabinfo(text: str, *, source: str) -> tuple[SlabinfoRow, ...]:
    """Parse a capture. UsageError in one line, with *source* and the line number, if it is not one."""
    lines = text.splitlines()
    version = lines[0].strip() if lines else ""
    if version.removesuffix("(statistics)").strip() != VERSION_LINE:
        found = "nothing" if not version else repr(version[:60])
        _fail(source, 1, f"expected {VERSION_LINE!r}, found {found}; is this /proc/slabinfo?")
    rows: dict[str, SlabinfoRow] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip() or line.startswith("#"):
            continue
        row = _parse_row(line, source, number)
        if row.name in rows:
            _fail(source, number, f"a second row {row.name!r}")
        rows[row.name] = row
    if not rows:
        _fail(source, len(lines), "there is no row of a cache")
    return tuple(rows.values())


def _parse_row(line: str, source: str, number: int) -> SlabinfoRow:
    """One row: a name, five numbers, ': tunables' and three, ': slabdata' and three."""
    words = iter(line.split())
    name = next(words)
    values = [_number(words, source, number) for _ in range(5)]
    for section in ("tunables", "slabdata"):
        for expected in (":", section):
            found = next(words, "the end of the line")
            if found != expected:
                _fail(source, number, f"expected {expected!r}, found {found!r}; is this format 2.1?")
        values += [_number(words, source, number) for _ in range(3)]
    rest = next(words, None)
    if rest not in (None, ":"):  # CONFIG_DEBUG_SLAB appends ': globalstat ...'
        _fail(source, number, f"expected the end of the line, found {rest!r}")
    row = SlabinfoRow(name, *values)
    _check_geometry(row, source, number)
    return row


def _number(words: Iterator[str], source: str, number: int) -> int:
    word = next(words, "the end of the line")
    if not (word.isascii() and word.isdigit() and len(word) <= MAX_DIGITS):
        _fail(source, number, f"expected a number, found {word[:60]!r}")
    return int(word)


def _check_geometry(row: SlabinfoRow, source: str, number: int) -> None:
    """A slab is a power of two of pages, and its objects fit."""
    if not (row.objsize and row.objperslab and row.pagesperslab):
        _fail(source, number, f"{row.name}: object size, objects and pages per slab must not be 0")
    if row.pagesperslab & (row.pagesperslab - 1):
        _fail(source, number, f"{row.name}: {row.pagesperslab} pages per slab is not a power of two")
    if row.objsize * row.objperslab > row.pagesperslab * PAGE_SIZE:
        _fail(
            source,
            number,
            f"{row.name}: {row.objperslab} objects of {row.objsize} bytes do not fit into {row.pagesperslab} pages",
        )


def _fail(source: str, number: int, text: str) -> NoReturn:
    msg = f"{source}, line {number}: {text}"
    raise UsageError(msg)


def render_slabinfo(rows: Iterable[SlabinfoRow]) -> str:
    """The rows as the kernel prints them."""
    return "\n".join([VERSION_LINE, COLUMNS_LINE, *map(_render_row, rows)]) + "\n"


def _render_row(row: SlabinfoRow) -> str:
    return (
        f"{row.name:<17} {row.active_objs:6} {row.num_objs:6} {row.objsize:6} {row.objperslab:4} {row.pagesperslab:4}"
        f" : tunables {row.limit:4} {row.batchcount:4} {row.sharedfactor:4}"
        f" : slabdata {row.active_slabs:6} {row.num_slabs:6} {row.sharedavail:6}"
    )
