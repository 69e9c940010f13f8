"""The discovery curve as figures of lines: trace classes, causes, and the chance of something new with its band.

The chance is Good and Turing's estimate. Its band is 1.96 standard errors wide on both sides (Esty, "A Normal Limit Law
for a Nonparametric Estimator of the Coverage of a Random Sample", Annals of Statistics 1983). The store does not have
the number of classes that were drawn twice at the end of each epoch, so the band takes the largest possible one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import attrs

from explorer.stress.queries import Row
from explorer.stress.report.facts import Facts

LEFT, RIGHT, TOP, BOTTOM = 64, 700, 8, 118
WIDTH, HEIGHT = 712, 140
MOST_POINTS = 400
MOST_TICKS = 5
STANDARD_ERRORS = 1.96

Point = tuple[float, float]


@attrs.frozen
class Panel:
    """One figure: `line` and `band` are path data of SVG, ticks are positions with labels; `text` says it in words."""

    title: str
    text: str
    line: str
    band: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]


def panels(facts: Facts) -> list[Panel]:
    """The figures; none before the first epoch has ended."""
    rows = thinned(facts.tables["curve"])
    if not rows:
        return []
    last = rows[-1]
    at_end = f"after {last['schedules']:,} schedules"
    counted = [(row["schedules"], row) for row in rows]
    classes = [(0.0, 0.0), *((x, row["trace_classes"]) for x, row in counted)]
    causes = stairs([(0.0, 0.0), *((x, row["causes"]) for x, row in counted)])
    about = "" if facts.summary is None or facts.summary["trace_classes_exact"] else "about "
    found = [
        panel("trace classes", f"{about}{last['trace_classes']:,} trace classes {at_end}", classes, "{:,.0f}".format),
        panel("causes", f"{last['causes']} causes {at_end}", causes, "{:,.0f}".format),
    ]
    estimates = [
        (x, *interval(row["chance_of_new_class"], facts.draws.get(row["number"], 0)))
        for x, row in counted
        if row["chance_of_new_class"] is not None and facts.draws.get(row["number"], 0)
    ]
    if estimates:
        _, low, chance, high = estimates[-1]
        text = f"the next draw is of a new class with {chance:.2%}, between {low:.2%} and {high:.2%}, {at_end}"
        line = [(x, chance) for x, _, chance, _ in estimates]
        band = [*((x, high) for x, *_, high in estimates), *((x, low) for x, low, *_ in reversed(estimates))]
        found.append(panel("chance of a new class", text, line, as_percent, band=band, furthest=last["schedules"]))
    return found


def thinned(rows: Sequence[Row]) -> list[Row]:
    """At most `MOST_POINTS` of the rows, evenly chosen; the last one is among them."""
    step = math.ceil(len(rows) / MOST_POINTS) or 1
    return list(rows[::-step])[::-1]


def stairs(points: Sequence[Point]) -> list[Point]:
    """The points with corners: a count stays as it is until the next one."""
    found = list(points[:1])
    for (_, before), (x, y) in itertools.pairwise(points):
        found += [(x, before), (x, y)]
    return found


def interval(chance: float, draws: int) -> tuple[float, float, float]:
    """The lower bound, the estimate and the upper bound of the chance of a new class after so many draws."""
    once = chance * draws
    variance = once * (1 - chance) + (draws - once)
    half = STANDARD_ERRORS * math.sqrt(variance) / draws
    return max(0.0, chance - half), chance, min(1.0, chance + half)


def panel(
    title: str,
    text: str,
    points: Sequence[Point],
    label: Callable[[float], str],
    *,
    band: Sequence[Point] = (),
    furthest: float = 0,
) -> Panel:
    """A figure from zero to the largest values."""
    most_x = max(furthest, *(x for x, _ in points)) or 1
    most_y = max(y for _, y in (*points, *band)) or 1

    def place(point: Point) -> str:
        x, y = point
        return f"{x_of(x, most_x):.1f},{y_of(y, most_y):.1f}"

    return Panel(
        title,
        text,
        f"M{' L'.join(map(place, points))}",
        f"M{' L'.join(map(place, band))} Z" if band else "",
        [(round(x_of(value, most_x), 1), f"{value:,.0f}") for value in ticks(most_x)],
        [(round(y_of(value, most_y), 1), label(value)) for value in ticks(most_y, least=0 if band else 1)],
    )


def x_of(value: float, most: float) -> float:
    """A value as a position from left to right."""
    return LEFT + (RIGHT - LEFT) * value / most


def y_of(value: float, most: float) -> float:
    """A value as a position from top to bottom."""
    return BOTTOM - (BOTTOM - TOP) * value / most


def ticks(most: float, least: float = 1) -> list[float]:
    """Round numbers from 0 to *most*, at least *least* apart."""
    steps: Iterable[float] = (base * 10.0**power for power in range(-9, 19) for base in (1, 2, 5))
    step = next(step for step in steps if step >= least and most / step <= MOST_TICKS)
    return [number * step for number in range(int(most / step) + 1)]


def as_percent(value: float) -> str:
    """A share as a label."""
    return f"{value * 100:.3g}%"
