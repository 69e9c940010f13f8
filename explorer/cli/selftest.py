"""What `explore --check-commutation` does instead of a search."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from explorer.cli.options import positive
from explorer.json_out import print_json
from explorer.report import make_console, show_header, styled
from explorer.selftest import SelfTest, Violation

if TYPE_CHECKING:
    from rich.console import Console

    from explorer.experiment import Experiment

EXIT_DIVERGED = 4
SHOWN = 3
"""How many violations of one kind between the same two operations are printed."""


def add_commutation_option(parser: argparse.ArgumentParser) -> None:
    """`--check-commutation`."""
    parser.add_argument(
        "--check-commutation",
        type=positive,
        metavar="N",
        help="do not search: exchange N pairs of steps that should be independent, and compare what comes after",
    )


def check_commutation(experiment: Experiment, pairs: int, *, as_json: bool) -> int:
    """Run the self-test; 4 if two steps that were taken for independent are not."""
    test = SelfTest(experiment, pairs, seed=experiment.header.seed)
    console = make_console()
    if not as_json:
        show_header(console, experiment.header, "stepper")
    test.run()
    if as_json:
        print_json(selftest_json(test))
    else:
        show_selftest(console, test)
    return EXIT_DIVERGED if test.violations else 0


def show_selftest(console: Console, test: SelfTest) -> None:
    """Each violation with its two steps, and how much was tried."""
    for (kind, _, _), violations in sorted(test.distinct().items()):
        console.print(styled(("not independent", "red"), f" ({kind}), {len(violations)} times:"))
        for violation in violations[:SHOWN]:
            console.print(f"  {violation.in_words}")
    verdict = f"{len(test.violations)} violations" if test.violations else "all commute"
    console.print(
        f"{test.tried} pairs of {len(test.sites)} kinds in {test.schedules} schedules: {verdict} "
        f"({test.held} more could not be exchanged)"
    )


def selftest_json(test: SelfTest) -> dict[str, Any]:
    """The one JSON object of `explore --check-commutation --json`."""
    header = test.experiment.header
    return {
        "outcome": "diverged" if test.violations else "ok",
        "scenario": header.scenario,
        "kernel": header.kernel,
        "seed": header.seed,
        "pairs": test.tried,
        "kinds": len(test.sites),
        "held": test.held,
        "schedules": test.schedules,
        "violations": [violation_json(violation) for violation in test.violations],
    }


def violation_json(violation: Violation) -> dict[str, Any]:
    """One violation."""
    return {
        "kind": violation.kind,
        "schedule": violation.schedule,
        "step": violation.position,
        "first": violation.first,
        "second": violation.second,
        "difference": violation.difference,
    }
