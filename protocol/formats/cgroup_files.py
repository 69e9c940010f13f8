"""The cgroup files that count slab memory or dying cgroups: layouts and parsers.

cgroup.stat and memory.stat are "flat keyed" (Documentation/admin-guide/cgroup-v2.rst): a name and a number a line.
memory.kmem.usage_in_bytes is one number; /proc/cgroups is a table with tabs. Linux 5.3.1; KERNEL.md 10.5 and 10.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from protocol.formats.columns import Line, fail, lines_of, shown

CGROUPS_COLUMNS_LINE = "#subsys_name\thierarchy\tnum_cgroups\tenabled"
CGROUPS_HEADER = f"{CGROUPS_COLUMNS_LINE}\n"
SLAB_KEYS = ("slab", "slab_reclaimable", "slab_unreclaimable")
"""The slab lines of cgroup v2's memory.stat, in the file's order; values are bytes."""


@attrs.frozen
class CgroupsRow:
    """One controller: the number of its hierarchy (0: cgroup v2), and of its cgroups, dying ones included."""

    subsys_name: str
    hierarchy: int
    num_cgroups: int
    enabled: int


def render_flat_keyed(values: Mapping[str, int]) -> str:
    """Name and number a line, in the order given."""
    return "".join(f"{key} {value}\n" for key, value in values.items())


def parse_flat_keyed(text: str, *, source: str) -> dict[str, int]:
    """Parse a flat keyed file; UsageError in one line, with *source* and the line number, if it is not one."""
    values: dict[str, int] = {}
    for line in lines_of(text, source):
        key, value = line.word(), line.natural()
        line.end()
        if key in values:
            line.fail(f"a second {shown(key)}")
        values[key] = value
    return values


def render_u64(value: int) -> str:
    """One unsigned 64-bit number; a negative value wraps around, as in the kernel."""
    return f"{value % (1 << 64)}\n"


def parse_u64(text: str, *, source: str) -> int:
    """Parse a file of one number; UsageError in one line if it is none."""
    lines = text.splitlines() or [""]
    line = Line(lines[0], source, 1)
    value = line.natural()
    line.end()
    if len(lines) > 1:
        fail(source, 2, "expected the end of the file")
    return value


def render_cgroups(rows: Iterable[CgroupsRow]) -> str:
    """/proc/cgroups: proc_cgroupstats_show()."""
    return CGROUPS_HEADER + "".join(
        f"{row.subsys_name}\t{row.hierarchy}\t{row.num_cgroups}\t{row.enabled}\n" for row in rows
    )


def parse_cgroups(text: str, *, source: str) -> tuple[CgroupsRow, ...]:
    """Parse /proc/cgroups; UsageError in one line, with *source* and the line number, if it is not one."""
    header = text.partition("\n")[0]
    if header != CGROUPS_COLUMNS_LINE:
        fail(source, 1, f"expected {CGROUPS_COLUMNS_LINE!r}, found {shown(header)}; is this /proc/cgroups?")
    return tuple(_parse_controller(line) for line in lines_of(text, source))


def _parse_controller(line: Line) -> CgroupsRow:
    row = CgroupsRow(line.word(), *line.naturals(3))
    line.end()
    return row
