"""docs/performance.md: the tables of benchmarks, written there by `python -m benchmarks NAME ... --write`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import profile
from benchmarks.pages import PERFORMANCE, markdown_table, put_between_markers
from benchmarks.report import Ratio, Report, figure, machine_line
from benchmarks.trees import BEFORE, NOW

PLACES = ("search", "speed")
"""The benchmarks that have a place on the page."""

LIMIT = "limit: "
"""The beginning of the labels of rows that are no comparison."""


def write(reports: Sequence[Report]) -> None:
    """Write the tables of benchmarks with a place into the page; with `speed`, the limits and the profiles, too."""
    for report in reports:
        if report.name not in PLACES:
            continue
        put_between_markers(PERFORMANCE, report.name, [*table(report), "", *remarks(report)])
        if report.name == "speed":
            put_between_markers(PERFORMANCE, "limits", limits_table(report))
            profile.write()


def table(report: Report) -> list[str]:
    """The figures of both trees where there are such; the ratios with their goals otherwise."""
    pairs = both_figures(report)
    if not pairs:
        rows = [(ratio.name, f"{ratio.value:.2f}", goal(ratio)) for ratio in report.ratios]
        return markdown_table(["ratio", "value", "goal"], rows)
    lines = []
    for label, (before, now, unit) in pairs.items():
        ratio = next((one for one in report.ratios if one.name.startswith(label)), None)
        value = f"{ratio.value:.2f}" if ratio else ""
        what = ratio.name if ratio else label
        lines.append((what, f"{before} {unit}".strip(), f"{now} {unit}".strip(), value, goal(ratio)))
    return markdown_table(["work", BEFORE, NOW, "ratio", "goal"], lines)


def both_figures(report: Report) -> dict[str, tuple[str, str, str]]:
    """By label, the figure of the baseline, that of now, and their unit."""
    figures = {row.label: row for row in report.rows}
    found = {}
    for label, row in figures.items():
        name, _, tree = label.rpartition(": ")
        if tree == BEFORE:
            found[name] = (figure(row.value), figure(figures[f"{name}: {NOW}"].value), row.unit)
    return found


def goal(ratio: Ratio | None) -> str:
    """The goal, and whether it is missed; empty if there is none."""
    if ratio is None or ratio.goal is None:
        return ""
    return f"{ratio.sense} {ratio.goal:g}{'' if ratio.is_met else ', missed'}"


def limits_table(report: Report) -> list[str]:
    """The rows of the limits."""
    rows = [
        (row.label.removeprefix(LIMIT), figure(row.value), row.unit)
        for row in report.rows
        if row.label.startswith(LIMIT)
    ]
    return markdown_table(["limit", "rate", "unit"], rows)


def remarks(report: Report) -> list[str]:
    """The failures, the notes and the machine, as a list."""
    failures = [f"- **{failure}**" for failure in report.failures]
    return [*failures, *(f"- {note}" for note in (*report.notes, machine_line(report.machine)))]
