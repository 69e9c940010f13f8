"""The command `selftest`: checks the assumptions of every search on one scenario.

First it runs some schedules twice: the same choices have to lead to the same records. Then it swaps pairs of
neighbouring steps that count as independent: nothing else may change (`explorer.selftest`).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import attrs

from explorer import signals
from explorer.cli.options import run_options
from explorer.experiment import Experiment
from explorer.json_out import as_json, print_json
from explorer.report import make_console, show_header, styled
from explorer.search.campaign import Campaign
from explorer.search.jobs import check_word
from explorer.search.registry import check_strategy
from explorer.search.report import show_divergence
from explorer.selftest import SelfTest, Violation
from protocol.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from explorer.replay import Divergence

EXIT_DIVERGED = 4
SHOWN = 3
"""Most violations that are printed of one kind between the same two operations."""


@attrs.define
class SelfTestResult:
    """The results of both parts: schedules that were run twice, a divergence among them, and pairs that were tried."""

    commutation: SelfTest
    twice: int = 0
    divergence: Divergence | None = None

    @property
    def is_sound(self) -> bool:
        """Whether searches of this scenario are reliable, as far as was tested."""
        return self.divergence is None and not self.commutation.violations


def main(options: argparse.Namespace) -> int:
    """Run the self-test; the exit code is 4 if a schedule diverged, or if two independent steps do not commute."""
    if not options.schedules and not options.pairs:
        msg = "--schedules 0 --pairs 0: nothing is left to try"
        raise UsageError(msg)
    wanted = run_options(options)
    check_strategy(wanted.strategy)
    experiment = Experiment.of(wanted)
    check_word(experiment)
    console = make_console()
    if not options.json:
        show_header(console, experiment.header, experiment.header.driver)
    tried = SelfTestResult(SelfTest(experiment, options.pairs, seed=experiment.header.seed))
    if options.schedules:
        campaign = Campaign(experiment, wanted, budget=options.schedules, runs_twice=True)
        campaign.run()
        if campaign.stopped == "interrupted":
            raise KeyboardInterrupt
        tried.twice, tried.divergence = campaign.schedules, campaign.divergence
    if tried.divergence is None:
        tried.commutation.run()
    give(options, console, tried)
    return 0 if tried.is_sound else EXIT_DIVERGED


@signals.answering()
def give(options: argparse.Namespace, console: Console, tried: SelfTestResult) -> None:
    """Print the answer."""
    if options.json:
        print_json(selftest_json(tried))
        return
    if tried.divergence is not None:
        show_divergence(console, tried.divergence)
        return
    if tried.twice:
        console.print(f"{tried.twice} schedules run twice: no divergence")
    if tried.commutation.pairs:
        show_pairs(console, tried.commutation)


def show_pairs(console: Console, test: SelfTest) -> None:
    """Print each violation with its two steps, and the number of pairs tried."""
    for (kind, _, _), violations in sorted(test.distinct().items()):
        console.print(styled(("not independent", "red"), f" ({kind}), {len(violations)} times:"))
        for violation in violations[:SHOWN]:
            console.print(f"  {violation.in_words}")
    verdict = f"{len(test.violations)} violations" if test.violations else "all commute"
    console.print(
        f"{test.tried} pairs of {len(test.sites)} kinds in {test.schedules} schedules: {verdict} "
        f"({test.unswapped} more could not be swapped)"
    )


def selftest_json(tried: SelfTestResult) -> dict[str, Any]:
    """The JSON object of `selftest --json`."""
    test = tried.commutation
    header = test.experiment.header
    return {
        "outcome": "ok" if tried.is_sound else "diverged",
        "scenario": header.scenario,
        "kernel": header.kernel,
        "seed": header.seed,
        "run_twice": tried.twice,
        "divergence": as_json(tried.divergence),
        "pairs": test.tried,
        "kinds": len(test.sites),
        "held": test.unswapped,
        "schedules": test.schedules,
        "violations": [violation_json(violation) for violation in test.violations],
    }


def violation_json(violation: Violation) -> dict[str, Any]:
    """One violation as JSON."""
    return {
        "kind": violation.kind,
        "schedule": violation.schedule,
        "step": violation.position,
        "first": violation.first,
        "second": violation.second,
        "difference": violation.difference,
    }
