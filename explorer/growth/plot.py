"""The picture: dying cgroups and the memory difference per day, simulated and published.

matplotlib belongs to the distribution's extra `plot`, so it is imported only for drawing.
"""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.growth.comparison import ORIGINAL, published_rows
from explorer.growth.published import TABLES
from explorer.growth.report import Comparison, describe
from protocol.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".svg", ".png")
"""The suffixes of pictures."""

INCHES = (9.0, 10.0)
MARKS = {"v4-v7": "o", "v1-v3": "x"}


def check_drawable(path: Path) -> None:
    """UsageError if the picture cannot be drawn."""
    if path.suffix.lower() not in FORMATS:
        msg = f"--plot {path}: give a name that ends in {' or '.join(FORMATS)}"
        raise UsageError(msg)
    if importlib.util.find_spec("matplotlib") is None:
        msg = f"--plot {path}: matplotlib draws the picture, and is not installed: pip install 'slabrace[plot]'"
        raise UsageError(msg)


def draw(comparison: Comparison, suffix: str) -> bytes:
    """The picture as a file of that format; equal figures make equal bytes."""
    import matplotlib as mpl  # noqa: PLC0415 -- an optional package, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415 -- as above

    figure = Figure(figsize=INCHES, layout="constrained")
    old, new, memory = figure.subplots(3, 1, sharex=True)
    _panel(old, comparison, "original", f"dying cgroups on {ORIGINAL}", "tab:red")
    _panel(new, comparison, "patched", f"dying cgroups on {comparison.patched}", "tab:blue")
    _panel(memory, comparison, "memory", "memory difference, MB", "tab:green")
    memory.set_xlabel("day")
    figure.suptitle(describe(comparison.fleet), fontsize="small", wrap=True)
    data = io.BytesIO()
    kind = suffix.lower().lstrip(".")
    with mpl.rc_context({"svg.hashsalt": "slabrace", "svg.fonttype": "none"}):
        figure.savefig(data, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return data.getvalue()


def _panel(axes: Axes, comparison: Comparison, name: str, title: str, colour: str) -> None:
    """One row of the tables: the simulated figures as a line, the published ones as marks."""
    found = [(row.day, value) for row in comparison.rows if (value := getattr(row, name)) is not None]
    axes.plot([day for day, _ in found], [value for _, value in found], color=colour, label="simulated")
    for table in TABLES if name in published_rows(comparison.patched) else ():
        figures = getattr(table, name)
        axes.plot(range(len(figures)), figures, MARKS[table.series], color="black", label=f"published {table.series}")
    axes.set_title(title, fontsize="medium")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
