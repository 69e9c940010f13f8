"""What a person sees of a search while it runs and when it is over, and the JSON object of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from explorer.determinism import CAUSES
from explorer.report import show_finding

if TYPE_CHECKING:
    from explorer.campaign import Campaign, Found
    from explorer.replay import Divergence
    from explorer.watch import Pair

SHOWN_GAPS = 12
REFRESH_SECONDS = 0.5

SMALL = 4
"""Up to how many digits a number of schedules is written in full."""


class CampaignProgress:
    """A live table on a terminal; elsewhere a line at 1, 2, 5, 10, 20, 50 ... schedules. On standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._shown = 0.0
        self._next_line = 100

    def __call__(self, campaign: Campaign) -> None:
        """Show how far *campaign* is, if it is time to."""
        if not self._console.is_terminal:
            if campaign.schedules >= self._next_line:
                self._next_line = next(mark for mark in line_marks() if mark > campaign.schedules)
                print(progress_line(campaign), file=sys.stderr)  # noqa: T201 -- progress
            return
        now = time.monotonic()
        if now - self._shown < REFRESH_SECONDS:
            return
        self._shown = now
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(progress_table(campaign), refresh=True)

    def close(self) -> None:
        """Take the table away."""
        if self._live is not None:
            self._live.stop()


def line_marks() -> Iterator[int]:
    """1, 2, 5, 10, 20, 50 and so on."""
    decade = 1
    while True:
        yield from (decade, 2 * decade, 5 * decade)
        decade *= 10


def progress_line(campaign: Campaign) -> str:
    """One line for a log file."""
    elapsed = time.monotonic() - campaign.began
    return (
        f"{campaign.schedules} schedules, {campaign.sightings.classes} classes, {len(campaign.found)} findings, "
        f"{campaign.schedules / max(elapsed, 1e-9):.0f}/s, {elapsed:.0f} s"
    )


def progress_table(campaign: Campaign) -> Table:
    """The live table."""
    elapsed = time.monotonic() - campaign.began
    rate = campaign.schedules / max(elapsed, 1e-9)
    left = (campaign.budget - campaign.schedules) / rate if rate else 0.0
    table = Table("findings", "schedules", "of", "classes", "next is new", "per s", "elapsed", "left", box=None)
    table.add_row(
        str(len(campaign.found)),
        str(campaign.schedules),
        str(campaign.budget),
        str(campaign.sightings.classes),
        f"{campaign.sightings.chance_of_new:.0%}",
        f"{rate:.0f}",
        f"{elapsed:.0f} s",
        f"{left:.0f} s",
    )
    return table


def show_campaign(console: Console, campaign: Campaign) -> None:
    """Findings, the verdict with its number, what was not reached, and figures that teach."""
    for found in campaign.causes:
        show_finding(console, found.finding, ())
        for symptom in found.symptoms:
            console.print(f"the same cause: {symptom.finding.signature}", markup=False, soft_wrap=True)
        console.print(
            f"seen in {found.count} of {campaign.schedules} schedules, first in number {found.first_schedule} "
            f"({found.strategy})"
        )
        if found.log is not None:
            line = f"log: {found.log}\nreplay: slabrace replay {found.log}\nshorter: slabrace shrink {found.log}"
            line += f"\nexplain: slabrace explain {found.log}"
            console.print(line, markup=False, soft_wrap=True)
    console.print(figures_table(campaign))
    if len(campaign.by_strategy) > 1:
        console.print(strategies_table(campaign))
    for name in sorted(campaign.unreached or ()):
        console.print(f"[yellow]never reached[/]: sometimes {escape(repr(name))}: the race was never tried")
    show_gaps(console, campaign)
    if campaign.divergence is not None:
        show_divergence(console, campaign.divergence)
    console.print(verdict(campaign))


def show_divergence(console: Console, divergence: Divergence) -> None:
    """Where a schedule that was run twice was not the same, and what that may come from."""
    console.print(
        f"[red]not deterministic[/]: the last schedule, run twice, parts at step {divergence.step}\n"
        f"  then: {escape(divergence.then)}\n  now:  {escape(divergence.now)}\n  {CAUSES}",
        soft_wrap=True,
    )


def figures_table(campaign: Campaign) -> Table:
    """Steps, switches and findings of the schedules."""
    table = Table("", "least", "mean", "most", box=None, pad_edge=False)
    statistics = campaign.statistics
    if statistics.schedules:
        for name, (least, total, most) in (("steps", statistics.steps), ("switches", statistics.switches)):
            table.add_row(name, str(least), f"{total / statistics.schedules:.0f}", str(most))
    return table


def strategies_table(campaign: Campaign) -> Table:
    """What each strategy brought."""
    table = Table("strategy", "schedules", "new classes", "new findings", box=None, pad_edge=False)
    for name, counts in campaign.by_strategy.items():
        table.add_row(name, str(counts["schedules"]), str(counts["classes"]), str(counts["findings"]))
    return table


def show_gaps(console: Console, campaign: Campaign) -> None:
    """Which racing operations were only seen in one order."""
    gaps = sorted(campaign.gaps())
    console.print(
        f"covered: {len(campaign.functions)} kernel functions, {len(campaign.pairs)} ordered pairs of racing "
        f"operations; {len(gaps)} seen in one order only"
    )
    for gap in gaps[:SHOWN_GAPS]:
        console.print(f"  \\[ GAP ] {escape(describe(gap))}", soft_wrap=True)
    if len(gaps) > SHOWN_GAPS:
        console.print(f"  and {len(gaps) - SHOWN_GAPS} more (--json has them all)")


def describe(pair: Pair) -> str:
    """A pair of racing operations in words."""
    (first, first_op), (second, second_op) = pair
    return f"{first}: {first_op} before {second}: {second_op}"


def verdict(campaign: Campaign) -> str:
    """The answer in one line, with what it is worth."""
    seen = campaign.sightings
    elapsed = time.monotonic() - campaign.began
    number = len(campaign.causes)
    what = f"{number} finding{'s' if number != 1 else ''}" if number else "nothing found"
    if campaign.stopped == "exhausted":
        cut = f", {campaign.cut_off} cut off" if campaign.cut_off else ""
        rate = f"{campaign.schedules} schedules in {elapsed:.1f} s"
        return f"[bold]exhausted[/]: all {seen.classes} trace classes, {what}; {rate}{cut}"
    unseen = f"the next schedule is of a new class with {seen.chance_of_new:.0%}"
    if seen.chance_of_new < 1:
        unseen += f", at least {seen.at_least_unseen:.0f} classes are unseen"
    rate = f"{campaign.schedules} schedules{of_how_many(campaign.probes.log10_schedules)} in {elapsed:.1f} s"
    return f"[bold]{campaign.stopped}[/]: {what}; {rate}, {seen.classes} trace classes; {unseen}"


def of_how_many(log10_schedules: float | None) -> str:
    """How many schedules there seem to be, if that is known: ` of some 1e53`."""
    if log10_schedules is None:
        return ""
    return f" of some {10**log10_schedules:.0f}" if log10_schedules < SMALL else f" of some 1e{log10_schedules:.0f}"


def campaign_json(campaign: Campaign) -> dict[str, Any]:
    """The one JSON object of `explore --json`; the keys are DESIGN.md's."""
    header, start = campaign.experiment.header, campaign.options.start
    return {
        "outcome": campaign.outcome,
        "stopped": campaign.stopped,
        "scenario": header.scenario,
        "kernel": header.kernel,
        "from": {"log": str(start.log), "at": start.at} if start is not None else None,
        "patches": [patch.name for patch in header.patches] + [f"without {name}" for name in header.without],
        "faults": dict(header.faults),
        "strategy": header.strategy,
        "driver": "stepper",
        "seed": header.seed,
        "schedules": campaign.schedules,
        "cut_off": campaign.cut_off,
        "trace_classes": campaign.sightings.classes,
        "chance_of_new_class": round(campaign.sightings.chance_of_new, 6),
        "unseen_classes_at_least": round(campaign.sightings.at_least_unseen, 1),
        "log10_schedules": campaign.probes.log10_schedules,
        "steps": campaign.statistics.steps[1],
        "findings": [found_json(found) for found in campaign.causes],
        "by_strategy": {name: dict(counts) for name, counts in campaign.by_strategy.items()},
        "functions": sorted(campaign.functions),
        "pairs": len(campaign.pairs),
        "gaps": [describe(pair) for pair in sorted(campaign.gaps())],
        "unreached": sorted(campaign.unreached or ()),
        "divergence": attrs.asdict(campaign.divergence) if campaign.divergence else None,
        "seconds": round(time.monotonic() - campaign.began, 3),
    }


def found_json(found: Found) -> dict[str, Any]:
    """One finding."""
    return {
        **attrs.asdict(found.finding),
        "signature": found.finding.signature,
        "count": found.count,
        "first_schedule": found.first_schedule,
        "strategy": found.strategy,
        "log": found.log,
        "symptoms": [found_json(symptom) for symptom in found.symptoms],
    }
