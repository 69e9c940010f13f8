"""The command `explore`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from actors.versions.user_code import parse_reference
from explorer import defaults, signals
from explorer.cli.keep import again_json, kept_first, kept_lines
from explorer.cli.options import run_options
from explorer.cli.parser import refuse
from explorer.cli.usage import EXIT_NOT_EXHAUSTED
from explorer.experiment import Experiment, Given
from explorer.explain.grouping import group_by_cause
from explorer.json_out import print_json
from explorer.keep import Again
from explorer.onward import Start
from explorer.output import file_stem, new_file
from explorer.report import make_console, show_header
from explorer.search.campaign import Campaign, Found
from explorer.search.checkpoint import Checkpoint, Keeper, read_checkpoint
from explorer.search.jobs import check_word
from explorer.search.registry import DPOR, EXACT, GUIDED, PORTFOLIO, ParsedStrategy, Sampler, check_strategy
from explorer.search.report import CampaignProgress, campaign_json, show_campaign
from explorer.session import record, replay
from explorer.signals import EXIT_INTERRUPTED
from explorer.streams import complain
from protocol.atomic import CannotWriteError, check_free
from protocol.errors import UsageError
from protocol.log import LogReader

if TYPE_CHECKING:
    from rich.console import Console

EXIT_CODES = {"exhausted": 0, "budget": 0, "finding": 1, "interrupted": EXIT_INTERRUPTED, "diverged": 4, "lost": 3}


def main(options: argparse.Namespace) -> int:
    """Search; return the exit code."""
    start = start_of(options)
    wanted = attrs.evolve(run_options(options), start=start)
    check_mode(options, check_strategy(wanted.strategy))
    experiment = Experiment.of(wanted)
    keeper, resumed = kept_state(options, experiment)
    check_word(experiment)
    if start is not None:
        check_start(start, Given(wanted.patches, wanted.scenario, wanted.oracles, trust=start.trust))
    console = make_console()
    kept: list[Again] = []
    has_first = start is None and keeper is None and resumed is None
    before = kept_first(options.kept, wanted, experiment.scenario.name, kept) if has_first else None
    if not options.json:
        show_header(console, experiment.header, experiment.header.driver)
        if start is not None:
            console.print(f"  from step {start.at} of {start.log} on")
    progress, logger = CampaignProgress(), FindingLogger(experiment, is_off=options.no_log)
    campaign = Campaign(
        experiment,
        wanted,
        budget=options.budget or (defaults.BUDGET if options.time is None and resumed is None else None),
        seconds=options.time,
        workers=options.workers,
        first_only=options.first,
        progress=progress,
        before=before,
        on_found=lambda found: progress.tell(logger.log(found)),
        keeper=keeper,
        resumed=resumed,
    )
    try:
        campaign.run()
        group_if_there_is_time(campaign)
    finally:
        progress.close()
        if campaign.divergence is not None:
            logger.remove()
    show(options, console, campaign, kept)
    if campaign.loss is not None:
        raise campaign.loss
    if options.require_exhausted and campaign.outcome == "budget":
        return EXIT_NOT_EXHAUSTED
    return EXIT_CODES[campaign.outcome]


def group_if_there_is_time(campaign: Campaign) -> None:
    """Group the findings by cause. This takes further runs, so it is skipped if the search was interrupted."""
    if campaign.stopped == "interrupted":
        return
    try:
        group_by_cause(campaign)
    except KeyboardInterrupt:
        campaign.stopped = "interrupted"
        for found in campaign.found.values():
            found.symptoms.clear()
            found.symptom_of = None


@signals.answering()
def show(options: argparse.Namespace, console: Console, campaign: Campaign, kept: Sequence[Again]) -> None:
    """Print the answer."""
    if options.json:
        print_json({**campaign_json(campaign), "kept": [again_json(again) for again in kept]})
        return
    if options.kept is not None and not kept:
        header = campaign.experiment.header
        nothing = f"kept {options.kept}: nothing of {header.scenario} on {header.kernel} with these knobs"
        console.print(nothing)
    for line in kept_lines(kept):
        console.print(line)
    show_campaign(console, campaign)


def start_of(options: argparse.Namespace) -> Start | None:
    """The start of every schedule, if a log gives it; UsageError if the options contradict each other."""
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
    if options.scenario is not None and not parse_reference(options.scenario, ()).file:
        msg = f"--from {options.log}: leave out SCENARIO {options.scenario}: the log names its scenario"
        raise UsageError(msg)
    refuse(options, f"--from {options.log}", ["--kernel", "--set", "--fault", "--without", "--check", "--kept"])
    with closing(LogReader(options.log)) as log:
        log.check_undamaged()
    return Start(options.log, options.at, trust=options.trust)


def kept_state(options: argparse.Namespace, experiment: Experiment) -> tuple[Keeper | None, Checkpoint | None]:
    """The writer of checkpoints, and the checkpoint to go on from; UsageError if one of the files will not do."""
    resumed = None
    if options.resume is not None:
        resumed = read_checkpoint(options.resume)
        resumed.check_fits(options.resume, experiment.header)
    if options.checkpoint is None:
        return None, resumed
    path: Path = options.checkpoint
    if path.exists() and not path.is_file():
        msg = f"--checkpoint {path}: it is not a file"
        raise UsageError(msg)
    overwrite = path.exists() and resumed is not None and path.samefile(options.resume)
    if path.exists() and not overwrite:
        msg = f"--checkpoint {path}: a file with this name exists; choose another, or --resume it"
        raise UsageError(msg)
    check_free(path, overwrite=overwrite)
    return Keeper(path, overwrite), resumed


def check_start(start: Start, given: Given) -> None:
    """UsageError if the kernel, with the *given* code, diverges from the log, or if the run ends before the step."""
    result = replay(start.log, driver="stepper", given=given, until=start.at)
    if result.outcome == "interrupted":
        raise KeyboardInterrupt
    if result.divergence is not None:
        msg = (
            f"{start.log}: a run diverges from it at step {result.divergence.step}: then {result.divergence.then}; "
            f"now {result.divergence.now}"
        )
        raise UsageError(msg)
    if result.stopped == "finding":
        msg = f"--at {start.at}: the run of {start.log} ends with a finding before that step; choose an earlier one"
        raise UsageError(msg)


def check_mode(options: argparse.Namespace, strategy: ParsedStrategy) -> None:
    """UsageError for an option that another option, or *strategy*, would make useless."""
    is_exact = strategy.entry.name in EXACT
    if options.require_exhausted and ((is_exact and strategy.argument) or isinstance(strategy.entry, Sampler)):
        why = "leaves out what lies beyond its bound" if is_exact else "never comes to an end"
        msg = f"--require-exhausted: {strategy.text} {why}; take one of {', '.join([PORTFOLIO, GUIDED, *EXACT])}"
        raise UsageError(msg)
    for option in ("--checkpoint", "--resume"):
        if option in options.given:
            if strategy.entry.name != DPOR:
                msg = f"{option}: only a search with --strategy {DPOR} can be stopped and resumed"
                raise UsageError(msg)
            refuse(options, f"{option}, which is about one exact search", ["--from", "--kept"])
    if is_exact:
        refuse(options, f"--strategy {strategy.text}, which draws nothing", ["--seed"])
        if strategy.entry.name != DPOR:
            refuse(options, f"--strategy {strategy.text}, which runs in one process", ["--workers"])


@attrs.define
class FindingLogger:
    """Logs each finding of a search as soon as it is found. `logged` lists the logs of this search."""

    experiment: Experiment
    is_off: bool = False
    logged: list[Path] = attrs.field(factory=list)

    def log(self, found: Found) -> Found:
        """Repeat the first schedule that showed the finding, and log it; complain if the log cannot be written."""
        if self.is_off:
            return found
        path = new_file(file_stem(self.experiment.header, found.finding))
        try:
            record(found.experiment or self.experiment, found.strategy, found.remake(), found.finding, path)
        except CannotWriteError as error:
            complain(str(error))  # the answer is valid without a log
            return found
        self.logged.append(path)
        found.log = str(path)
        return found

    def remove(self) -> None:
        """Remove all logs: a schedule that was run again diverged, so the findings are void."""
        for path in self.logged:
            path.unlink(missing_ok=True)
