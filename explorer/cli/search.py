"""The command `explore`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import attrs

from explorer.campaign import DEFAULT_BUDGET, Campaign, Found
from explorer.campaign_report import CampaignProgress, campaign_json, show_campaign
from explorer.cli.keep import add_kept_option, again_json, kept_first, kept_lines
from explorer.cli.options import add_experiment, add_json, natural, positive, run_options
from explorer.cli.selftest import add_commutation_option, check_commutation
from explorer.determinism import NotTheSameError
from explorer.experiment import Experiment
from explorer.grouping import group_by_cause
from explorer.keep import Again
from explorer.onward import Start
from explorer.output import file_stem, new_file
from explorer.report import make_console, show_header
from explorer.session import record, replay
from explorer.strategies import STRATEGIES, find_strategy
from explorer.strategies.exact import EXACT, make_exact_search
from explorer.streams import complain, print_json
from protocol.atomic import CannotWriteError
from protocol.errors import UsageError

EXIT_CODES = {"exhausted": 0, "budget": 0, "finding": 1, "interrupted": 130, "diverged": 4}


def add_explore(parser: argparse.ArgumentParser) -> None:
    """`explore`."""
    strategies = ["portfolio", *STRATEGIES, *EXACT]
    add_experiment(parser, driver="stepper", strategy="portfolio", strategies=strategies, is_optional=True)
    parser.add_argument(
        "--from",
        dest="log",
        type=Path,
        metavar="LOG",
        help="begin every schedule as this log does, instead of SCENARIO",
    )
    parser.add_argument("--at", type=natural, metavar="STEP", help="the first step of LOG that may go otherwise")
    parser.add_argument(
        "--budget",
        type=positive,
        default=DEFAULT_BUDGET,
        metavar="SCHEDULES",
        help="how many at most; runs that an exact search cuts off are not counted",
    )
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
    start = start_of(options)
    wanted = attrs.evolve(run_options(options), start=start)
    check_strategy(wanted.strategy, options.workers)
    experiment = Experiment.of(wanted)
    if start is not None:
        check_start(start, wanted.patches)
    if options.check_commutation:
        return check_commutation(experiment, options.check_commutation, as_json=options.json)
    console = make_console()
    kept: list[Again] = []
    before = kept_first(options.kept, wanted, experiment.scenario.name, kept) if start is None else None
    if not options.json:
        show_header(console, experiment.header, "stepper")
        if start is not None:
            console.print(f"  from step {start.at} of {start.log} on")
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
    if not options.no_log:
        log_all_found(experiment, campaign)
    group_by_cause(campaign)
    if options.json:
        print_json({**campaign_json(campaign), "kept": [again_json(again) for again in kept]})
    else:
        for line in kept_lines(kept):
            console.print(line)
        show_campaign(console, campaign)
    return EXIT_CODES[campaign.outcome]


def start_of(options: argparse.Namespace) -> Start | None:
    """Where the schedules begin, if not with the scenario; UsageError if that is not said clearly."""
    if options.log is None:
        if options.at is not None:
            msg = "--at: of which log? give --from LOG"
            raise UsageError(msg)
        if options.scenario is None:
            msg = "give a SCENARIO, or --from LOG --at STEP; see slabrace explore --help"
            raise UsageError(msg)
        return None
    if options.at is None:
        msg = f"--from {options.log}: from which step on? give --at STEP"
        raise UsageError(msg)
    taken = {
        "SCENARIO": options.scenario,
        "--kernel": options.kernel,
        "--set": options.set,
        "--fault": options.fault,
        "--without": options.without,
        "--check": options.check,
    }
    for option, value in taken.items():
        if value:
            msg = f"--from {options.log}: leave out {option}, the log says that"
            raise UsageError(msg)
    return Start(options.log, options.at)


def check_start(start: Start, patches: Sequence[str]) -> None:
    """UsageError if the kernel, with *patches*, does not do any more what the log says, or if the run ends before."""
    result = replay(start.log, driver="stepper", patches=patches, until=start.at)
    if result.divergence is not None:
        msg = (
            f"{start.log}: a run parts from it at step {result.divergence.step}: then {result.divergence.then}; "
            f"now {result.divergence.now}"
        )
        raise UsageError(msg)
    if result.stopped == "finding":
        msg = f"--at {start.at}: the run of {start.log} ends with a finding before that step; choose an earlier one"
        raise UsageError(msg)


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


def log_all_found(experiment: Experiment, campaign: Campaign) -> None:
    """Log what was found; if one schedule does not show it any more, nothing was found, and there is no log."""
    logged: list[Path] = []
    try:
        for found in campaign.found.values():
            log_found(experiment, found)
            logged += [Path(found.log)] if found.log is not None else []
    except NotTheSameError as error:
        campaign.note(error.divergence)
        for path in logged:
            path.unlink()


def log_found(experiment: Experiment, found: Found) -> None:
    """Run the first schedule that showed the flaw once more, and log it."""
    path = new_file(file_stem(experiment.header, found.finding))
    try:
        record(found.experiment or experiment, found.strategy, found.remake(), found.finding, path)
    except CannotWriteError as error:
        complain(str(error))  # what was found is told all the same
    else:
        found.log = str(path)
