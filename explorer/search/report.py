"""Output of a search: progress while it runs, the answer as text, and the answer as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from explorer.determinism import CAUSES
from explorer.json_out import as_json, finding_json, patches_json
from explorer.report import as_arguments, show_finding, styled
from explorer.search.registry import DPOR, EXACT
from explorer.streams import as_text, tell

if TYPE_CHECKING:
    from explorer.replay import Divergence
    from explorer.search.campaign import Campaign, Found
    from explorer.search.estimate import Probes, Sightings
    from explorer.watch import RacingPair

SHOWN_GAPS = 12
SHARE = {"schedules": "schedules", "classes": "new classes", "findings": "new findings", "cut_off": "cut off"}
"""The counts of each strategy, with their titles in tables."""
REFRESH_SECONDS = 0.5

SMALL = 4
"""Numbers of schedules with up to this many digits are written in full."""


class CampaignProgress:
    """Progress on standard error: a live table on a terminal, otherwise a line at 100, 200, 500, 1000 ... schedules."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._shown = 0.0
        self._next_line = 100

    def __call__(self, campaign: Campaign) -> None:
        """Show the progress of *campaign*, if an update is due."""
        if not self._console.is_terminal:
            if campaign.schedules >= self._next_line:
                self._next_line = next(mark for mark in line_marks() if mark > campaign.schedules)
                tell(progress_line(campaign))
            return
        now = time.monotonic()
        if now - self._shown < REFRESH_SECONDS:
            return
        self._shown = now
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(progress_table(campaign), refresh=True)

    def tell(self, found: Found) -> None:
        """Print a finding and its log at once, so that they are there whatever happens to the search."""
        where = f"; log: {found.log}" if found.log is not None else ""
        text = f"found in schedule {found.first_schedule}: {found.finding.signature}{where}"
        self._console.print(as_text(text), markup=False, emoji=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the table."""
        if self._live is not None:
            self._live.stop()


def line_marks() -> Iterator[int]:
    """1, 2, 5, 10, 20, 50 and so on."""
    decade = 1
    while True:
        yield from (decade, 2 * decade, 5 * decade)
        decade *= 10


def progress_line(campaign: Campaign) -> str:
    """One progress line, for output that is not a terminal."""
    elapsed = time.monotonic() - campaign.began
    cut_off = f", {campaign.cut_off} runs cut off" if campaign.cut_off else ""
    return (
        f"{campaign.schedules} schedules{cut_off}, {campaign.classes} classes, {len(campaign.found)} findings, "
        f"{campaign.schedules / max(elapsed, 1e-9):.0f}/s, {elapsed:.0f} s"
    )


def progress_table(campaign: Campaign) -> Table:
    """The live table."""
    elapsed = time.monotonic() - campaign.began
    rate = campaign.schedules / max(elapsed, 1e-9)
    budget = campaign.budget
    left = (budget - campaign.schedules) / rate if rate and budget is not None else 0.0
    if campaign.seconds is not None:
        by_clock = max(campaign.seconds - elapsed, 0.0)
        left = by_clock if budget is None else min(left, by_clock)
    chance = campaign.sightings.chance_of_new
    table = Table(
        "findings", "schedules", "of", "cut off", "classes", "next is new", "per s", "elapsed", "left", box=None
    )
    table.add_row(
        str(len(campaign.found)),
        str(campaign.schedules),
        "any" if budget is None else str(budget),
        str(campaign.cut_off),
        str(campaign.sightings.classes),
        "?" if chance is None else f"{chance:.0%}",
        f"{rate:.0f}",
        f"{elapsed:.0f} s",
        f"{left:.0f} s",
    )
    return table


def show_campaign(console: Console, campaign: Campaign) -> None:
    """Print the findings, the figures, unreached properties, coverage, and the verdict."""
    for found in campaign.causes:
        show_finding(console, found.finding, ())
        for symptom in found.symptoms:
            console.print(f"the same cause: {symptom.finding.signature}")
        console.print(
            f"seen in {found.count} of {campaign.schedules} schedules, first in number {found.first_schedule} "
            f"({found.strategy})"
        )
        if found.log is not None:
            log = as_arguments(found.log, campaign.experiment.header)
            console.print(f"log: {found.log}", f"replay: slabrace replay {log}", f"shorter: slabrace shrink {log}")
            console.print(f"explain: slabrace explain {log}")
    if campaign.divergence is not None:
        show_divergence(console, campaign.divergence)
        console.print(verdict(campaign))
        return
    console.print(figures_table(campaign))
    if len(campaign.by_strategy) > 1 or campaign.cut_off:
        console.print(strategies_table(campaign))
    for name in sorted(campaign.unreached or ()):
        console.print(styled(("never reached", "yellow"), f": sometimes {name!r}: {why_unreached(campaign)}"))
    show_gaps(console, campaign)
    console.print(verdict(campaign))


def why_unreached(campaign: Campaign) -> str:
    """The meaning of a `sometimes` that was never true."""
    if campaign.reduces and campaign.stopped == "exhausted":
        return (
            f"in no run; {DPOR} leaves out orders of independent steps in which a state of several objects may be true"
        )
    return "the race was never tried"


def show_divergence(console: Console, divergence: Divergence) -> None:
    """Print the step at which equal choices led to different steps, and the possible causes."""
    console.print(
        styled(("not deterministic", "red"), f": the same choices led to something else at step {divergence.step}"),
        f"  then: {divergence.then}",
        f"  now:  {divergence.now}",
        f"  {CAUSES}",
    )


def figures_table(campaign: Campaign) -> Table:
    """Steps and switches of the schedules."""
    table = Table("", "least", "mean", "most", box=None, pad_edge=False)
    statistics = campaign.statistics
    if statistics.schedules:
        for name, (least, total, most) in (("steps", statistics.steps), ("switches", statistics.switches)):
            table.add_row(name, str(least), f"{total / statistics.schedules:.0f}", str(most))
    return table


def strategies_table(campaign: Campaign) -> Table:
    """The counts of each strategy; the column of runs that were cut off is there only if there are any."""
    columns = {key: title for key, title in SHARE.items() if key != "cut_off" or campaign.cut_off}
    table = Table("strategy", *columns.values(), box=None, pad_edge=False)
    for name, counts in campaign.by_strategy.items():
        table.add_row(name, *(str(counts[column]) for column in columns))
    return table


def show_gaps(console: Console, campaign: Campaign) -> None:
    """Print the racing operations that were seen in one order only."""
    gaps = sorted(campaign.gaps())
    console.print(
        f"covered: {len(campaign.functions)} kernel functions, {len(campaign.pairs)} ordered pairs of racing "
        f"operations; {len(gaps)} seen in one order only"
    )
    for gap in gaps[:SHOWN_GAPS]:
        console.print(f"  [ GAP ] {describe(gap)}")
    if len(gaps) > SHOWN_GAPS:
        console.print(f"  and {len(gaps) - SHOWN_GAPS} more (--json has them all)")


def describe(pair: RacingPair) -> str:
    """A pair of racing operations in words."""
    (first, first_op), (second, second_op) = pair
    return f"{first}: {first_op} before {second}: {second_op}"


def verdict(campaign: Campaign) -> Text:
    """The answer in one line, with the strength of its evidence."""
    number = len(campaign.causes)
    what = f"{number} finding{'s' if number != 1 else ''}" if number else "nothing found"
    cut = f", {campaign.cut_off} more runs cut off" if campaign.cut_off else ""
    word, classes = (campaign.stopped, "bold"), f"{campaign.classes} trace classes"
    took = f"in {time.monotonic() - campaign.began:.1f} s{cut}"
    if campaign.stopped == "exhausted":
        named = campaign.named
        bound = named.argument if named.entry.name in EXACT else ""
        all_of_them = f"{classes} within the bound {bound}" if bound else f"all {classes}"
        return styled(word, f": {all_of_them}, {what}; {campaign.schedules} schedules {took}")
    if campaign.stopped == "diverged":
        answer = "no answer, for a run is not determined by its choices"
        return styled(word, f": {answer}; {campaign.schedules} schedules {took}")
    schedules = f"{campaign.schedules} schedules{of_how_many(campaign.probes)} {took}"
    return styled(word, f": {what}; {schedules}, {classes}; {unseen(campaign.sightings)}")


def unseen(seen: Sightings) -> str:
    """How much is unseen, with the draws that the estimate is based on."""
    chance, at_least = seen.chance_of_new, seen.at_least_unseen
    if chance is None or at_least is None:
        return "how much is unseen is not known, as no schedule was drawn without bias"
    *names, last = sorted(seen.draws)
    number = seen.draws.total()
    drawn = f"{number} schedule{'s' if number != 1 else ''} of {', '.join(names)}{' and ' if names else ''}{last}"
    bound = f", at least {at_least:.0f} classes are unseen" if chance < 1 else ""
    return f"the next schedule is of a new class with {chance:.0%}{bound} (from {drawn})"


def of_how_many(probes: Probes) -> str:
    """The estimated number of schedules, empty if unknown: ` of some 1e53 (by 142 random walks)`."""
    log10_schedules = probes.log10_schedules
    if log10_schedules is None:
        return ""
    about = f"{10**log10_schedules:.0f}" if log10_schedules < SMALL else f"1e{log10_schedules:.0f}"
    return f" of some {about} (by {probes.walks} random walk{'s' if probes.walks != 1 else ''})"


def rounded(number: float | None, digits: int) -> float | None:
    """A rounded number for JSON; null if unknown."""
    return None if number is None else round(number, digits)


def campaign_json(campaign: Campaign) -> dict[str, Any]:
    """The JSON object of `explore --json`; docs/json.md describes its keys."""
    header, start = campaign.experiment.header, campaign.options.start
    return {
        "outcome": campaign.outcome,
        "stopped": campaign.stopped,
        "scenario": header.scenario,
        "kernel": header.kernel,
        "from": {"log": str(start.log), "at": start.at} if start is not None else None,
        "patches": patches_json(header),
        "oracles": [code.name for code in header.oracles],
        "faults": dict(header.faults),
        "strategy": header.strategy,
        "driver": header.driver,
        "seed": header.seed,
        "schedules": campaign.schedules,
        "cut_off": campaign.cut_off,
        "lost_workers": campaign.lost_workers,
        "trace_classes": campaign.classes,
        "chance_of_new_class": rounded(campaign.sightings.chance_of_new, 6),
        "unseen_classes_at_least": rounded(campaign.sightings.at_least_unseen, 1),
        "drawn": dict(campaign.sightings.draws),
        "log10_schedules": campaign.probes.log10_schedules,
        "random_walks": campaign.probes.walks,
        "steps": campaign.statistics.steps[1],
        "findings": [found_json(found) for found in campaign.causes],
        "by_strategy": {name: {key: counts[key] for key in SHARE} for name, counts in campaign.by_strategy.items()},
        "functions": sorted(campaign.functions),
        "pairs": len(campaign.pairs),
        "gaps": [describe(pair) for pair in sorted(campaign.gaps())],
        "unreached": sorted(campaign.unreached or ()),
        "divergence": as_json(campaign.divergence),
        "seconds": round(time.monotonic() - campaign.began, 3),
    }


def found_json(found: Found) -> dict[str, Any]:
    """One finding as JSON."""
    return {
        **finding_json(found.finding),
        "signature": found.finding.signature,
        "meaning": found.finding.meaning,
        "count": found.count,
        "first_schedule": found.first_schedule,
        "strategy": found.strategy,
        "log": found.log,
        "symptoms": [found_json(symptom) for symptom in found.symptoms],
    }
