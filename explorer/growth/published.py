"""The figures published with the series: average per host, from the cover letters of v4-v7 and of v1-v3 (2019).

KERNEL.md 12.1.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Table:
    """Dying cgroups on the original and on the patched kernel, and the memory difference (MB), from day 0 on."""

    series: str
    original: tuple[int, ...]
    patched: tuple[int, ...]
    memory: tuple[int, ...]


V4_TO_V7 = Table(
    "v4-v7",
    original=(56, 362, 628, 752, 1070, 1250, 1490, 1560),
    patched=(23, 46, 51, 55, 60, 57, 67, 69),
    memory=(22, 74, 123, 152, 164, 182, 214, 241),
)
"""The workload is fitted to its rows of dying cgroups; its row of memory is predicted."""

V1_TO_V3 = Table(
    "v1-v3",
    original=(39, 338, 580, 827, 1098, 1349, 1574),
    patched=(23, 44, 45, 47, 50, 46, 55),
    memory=(53, 73, 99, 137, 148, 182, 209),
)
"""All of its rows are predicted, without another fit."""

TABLES = (V4_TO_V7, V1_TO_V3)
