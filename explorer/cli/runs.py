"""The commands about one run: `run`, `replay`, `log`."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

from explorer import signals
from explorer.cli.options import (
    add_experiment,
    add_force,
    add_json,
    add_patch,
    add_trust,
    check_reached,
    log_file,
    natural,
    run_options,
)
from explorer.cli.parser import needs
from explorer.events import make_logger, read_events
from explorer.experiment import DRIVERS
from explorer.json_out import print_json
from explorer.output import new_file, stem_of
from explorer.report import LiveProgress, make_console, show_header, show_replay_line, show_result
from explorer.session import Result, replay, run, to_json
from explorer.strategies import STRATEGIES
from explorer.strategies.exact import EXACT
from explorer.streams import complain, is_unread
from protocol.errors import UsageError
from protocol.log import LogReader
from protocol.records import Header
from scenarios import find_scenario

EXIT_USAGE = 2
SEARCHES = ("portfolio", *EXACT)
"""Strategies of many schedules, which are explore's alone."""


def add_run(parser: argparse.ArgumentParser) -> None:
    """`run`."""
    add_experiment(parser, driver="trio", strategy="random", strategies=list(STRATEGIES))
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--log", type=Path, metavar="FILE", help="where to log (default: a new file in runs/)")
    where.add_argument("--no-log", action="store_true", help="do not log")
    add_force(parser, "--log")
    add_json(parser)
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    needs(options, "--force", "--log")
    wanted = run_options(options)
    find_scenario(wanted.scenario)
    if wanted.strategy.partition(":")[0] in SEARCHES:
        msg = f"--strategy {wanted.strategy}: it makes many schedules: give it to slabrace explore"
        raise UsageError(msg)
    stem = stem_of(f"{wanted.scenario}-{wanted.kernel}-{wanted.strategy}-{wanted.seed}")
    log = None if options.no_log else options.log or new_file(stem)
    progress = LiveProgress()
    console = make_console()
    try:
        result = run(
            wanted,
            log=log,
            overwrite=options.force,
            progress=progress,
            begun=None if options.json else lambda header: show_header(console, header, wanted.driver),
        )
    finally:
        progress.close()
    _show(options, result)
    return result.exit_code


@signals.answering()
def _show(options: argparse.Namespace, result: Result, *, relaid: bool = False) -> None:
    if options.json:
        print_json(to_json(result))
        return
    console = make_console()
    show_result(console, result)
    show_replay_line(console, result, relaid=relaid)


def add_replay(parser: argparse.ArgumentParser) -> None:
    """`replay`."""
    parser.add_argument("log", type=log_file, metavar="LOG")
    parser.add_argument("--driver", choices=list(DRIVERS), default="trio", help="(default: trio)")
    parser.add_argument(
        "--until", type=natural, metavar="STEP", help="stop after so many steps, and show who stands where"
    )
    add_patch(parser)
    add_trust(parser)
    add_json(parser)
    parser.set_defaults(command=_replay)


def _replay(options: argparse.Namespace) -> int:
    progress = LiveProgress()
    console = make_console()

    def show(header: Header) -> None:
        if not options.json:
            show_header(console, header, options.driver)

    try:
        result = replay(
            options.log,
            driver=options.driver,
            patches=options.patch,
            trust=options.trust,
            until=options.until,
            progress=progress,
            begun=show if options.until is None else None,
        )
    finally:
        progress.close()
    if options.until is not None:
        check_reached(options.log, options.until, result)
        show(result.header)
    _show(options, result, relaid=bool(options.patch))
    if result.damage is not None:
        complain(result.damage)
    return EXIT_USAGE if result.is_damaged and result.outcome in ("ok", "finding") else result.exit_code


def add_log(parser: argparse.ArgumentParser) -> None:
    """`log`."""
    parser.add_argument("log", type=log_file, metavar="LOG")
    parser.add_argument("--first", type=natural, default=0, metavar="STEP", help="begin at this step")
    parser.add_argument("--last", type=natural, metavar="STEP", help="end with this step")
    parser.add_argument("--patches", action="store_true", help="print the text of the patches that it carries, instead")
    add_json(parser, "print JSON lines")
    parser.set_defaults(command=_log)


def _log(options: argparse.Namespace) -> int:
    if options.last is not None and options.first > options.last:
        msg = f"--first {options.first} --last {options.last}: no step lies between them"
        raise UsageError(msg)
    log = LogReader(options.log)
    try:
        return _print_log(log, options)
    finally:
        log.close()


def _print_log(log: LogReader, options: argparse.Namespace) -> int:
    if options.patches:
        return _print_patches(log)
    logger = make_logger(sys.stdout, json=options.json)
    events = read_events(log, first=options.first, last=options.last)
    begin = list(itertools.islice(events, 1))
    if options.first and not begin:
        msg = f"{options.log}: there is no step {options.first}: the log ends before it{' (damaged)' * log.is_damaged}"
        raise UsageError(msg)
    if not options.json:
        show_header(make_console(), log.header, log.header.driver)
    last = -1
    for event, fields in itertools.chain(begin, events):
        if not is_unread():
            logger.info(event, **fields)
        last = fields.get("step", last)
    if options.last is not None and last < options.last and log.damage is None:
        complain(f"{options.log}: there is no step {options.last}: the log ends with step {last}")
    if log.damage is not None:
        complain(log.damage)
    return EXIT_USAGE if log.is_damaged else 0


def _print_patches(log: LogReader) -> int:
    """The patches of a log, to be read before they are trusted."""
    console = make_console()
    for patch in log.header.patches:
        console.print(f"# {patch.name}, {f'from {patch.path}' if patch.is_code else 'a fix of slabrace'}")
        console.print(*patch.text.splitlines())
    return 0
