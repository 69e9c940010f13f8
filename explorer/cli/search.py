"""The command `explore`."""

from __future__ import annotations

import argparse
import json

from explorer.campaign import DEFAULT_BUDGET, Campaign, Found
from explorer.campaign_report import CampaignProgress, campaign_json, show_campaign
from explorer.cli.keep import add_kept_option, again_json, kept_first, kept_lines
from explorer.cli.options import add_experiment, add_json, file_stem, new_file, positive, run_options
from explorer.cli.selftest import add_commutation_option, check_commutation
from explorer.experiment import Experiment
from explorer.keep import Again
from explorer.report import make_console, show_header
from explorer.session import record
from explorer.strategies import STRATEGIES, find_strategy
from explorer.strategies.exact import EXACT, make_exact_search
from protocol.errors import UsageError

EXIT_CODES = {"exhausted": 0, "budget": 0, "finding": 1, "interrupted": 130, "diverged": 4}


def add_explore(parser: argparse.ArgumentParser) -> None:
    """`explore`."""
    strategies = ["portfolio", *STRATEGIES, *EXACT]
    add_experiment(parser, driver="stepper", strategy="portfolio", strategies=strategies)
    parser.add_argument("--budget", type=positive, default=DEFAULT_BUDGET, metavar="SCHEDULES", help="how many at most")
    parser.add_argument("--time", type=positive, metavar="SECONDS", help="stop after so long")
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="processes; the answer is the same")
    parser.add_argument("--first", action="store_true", help="stop at the first finding")
    add_kept_option(parser)
    parser.add_argument(
        "--check-determinism", action="store_true", help="run every schedule twice, and stop where it is not the same"
    )
    add_commutation_option(parser)
    parser.add_argument("--no-log", action="store_true", help="do not log what is found")
    add_json(parser)
    parser.set_defaults(command=_explore)


def _explore(options: argparse.Namespace) -> int:
    wanted = run_options(options)
    check_strategy(wanted.strategy, options.workers)
    experiment = Experiment.of(wanted)
    if options.check_commutation:
        return check_commutation(experiment, options.check_commutation, as_json=options.json)
    console = make_console()
    kept: list[Again] = []
    before = kept_first(options.kept, wanted, experiment.scenario.name, kept)
    if not options.json:
        show_header(console, experiment.header, "stepper")
    progress = CampaignProgress()
    campaign = Campaign(
        experiment,
        wanted,
        budget=options.budget,
        seconds=options.time,
        workers=options.workers,
        first_only=options.first,
        progress=progress,
        before=before,
        runs_twice=options.check_determinism,
    )
    try:
        campaign.run()
    finally:
        progress.close()
    if not options.no_log and campaign.divergence is None:
        for found in campaign.found.values():
            log_found(experiment, found)
    if options.json:
        print(json.dumps({**campaign_json(campaign), "kept": [again_json(again) for again in kept]}))  # noqa: T201 -- the command's output
    else:
        for line in kept_lines(kept):
            console.print(line, markup=False, soft_wrap=True)
        show_campaign(console, campaign)
    return EXIT_CODES[campaign.outcome]


def check_strategy(strategy: str, workers: int) -> None:
    """UsageError if there is no such strategy, or if it cannot be used so."""
    name = strategy.partition(":")[0]
    if name in EXACT:
        make_exact_search(strategy)
        if workers > 1:
            msg = f"--strategy {strategy}: an exact search runs in one process; leave out --workers"
            raise UsageError(msg)
    elif strategy != "portfolio":
        try:
            find_strategy(strategy)
        except UsageError:
            if name in STRATEGIES:
                raise
            known = ", ".join(["portfolio", *STRATEGIES, *EXACT])
            msg = f"--strategy {strategy}: there is no such strategy; there are {known}"
            raise UsageError(msg) from None


def log_found(experiment: Experiment, found: Found) -> None:
    """Run the first schedule that showed the flaw once more, and log it."""
    path = new_file(file_stem(experiment.header, found.finding))
    record(found.experiment or experiment, found.strategy, found.remake(), found.finding, path)
    found.log = str(path)
