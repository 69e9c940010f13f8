"""The commands about one run: `run`, `replay`, `log`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from explorer.cli.options import add_experiment, add_force, add_json, add_patch, natural, run_options
from explorer.events import make_logger, read_events
from explorer.experiment import DRIVERS
from explorer.output import new_file, stem_of
from explorer.report import LiveProgress, make_console, show_header, show_replay_line, show_result
from explorer.session import Result, replay, run, to_json
from explorer.strategies import STRATEGIES
from explorer.streams import complain, is_unread, print_json
from protocol.log import LogReader
from scenarios import find_scenario

EXIT_USAGE = 2


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
    wanted = run_options(options)
    find_scenario(wanted.scenario)
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


def _show(options: argparse.Namespace, result: Result, *, relaid: bool = False) -> None:
    if options.json:
        print_json(to_json(result))
        return
    console = make_console()
    show_result(console, result)
    show_replay_line(console, result, relaid=relaid)


def add_replay(parser: argparse.ArgumentParser) -> None:
    """`replay`."""
    parser.add_argument("log", type=Path, metavar="LOG")
    parser.add_argument("--driver", choices=list(DRIVERS), default="trio", help="(default: trio)")
    parser.add_argument(
        "--until", type=natural, metavar="STEP", help="stop after so many steps, and show who stands where"
    )
    add_patch(parser)
    add_json(parser)
    parser.set_defaults(command=_replay)


def _replay(options: argparse.Namespace) -> int:
    progress = LiveProgress()
    console = make_console()
    try:
        result = replay(
            options.log,
            driver=options.driver,
            patches=options.patch,
            until=options.until,
            progress=progress,
            begun=None if options.json else lambda header: show_header(console, header, options.driver),
        )
    finally:
        progress.close()
    _show(options, result, relaid=bool(options.patch))
    if result.damage is not None:
        complain(result.damage)
    return EXIT_USAGE if result.is_damaged and not result.exit_code else result.exit_code


def add_log(parser: argparse.ArgumentParser) -> None:
    """`log`."""
    parser.add_argument("log", type=Path, metavar="LOG")
    parser.add_argument("--first", type=natural, default=0, metavar="STEP", help="begin at this step")
    parser.add_argument("--last", type=natural, metavar="STEP", help="end with this step")
    add_json(parser, "print JSON lines")
    parser.set_defaults(command=_log)


def _log(options: argparse.Namespace) -> int:
    log = LogReader(options.log)
    try:
        return _print_log(log, options)
    finally:
        log.close()


def _print_log(log: LogReader, options: argparse.Namespace) -> int:
    logger = make_logger(sys.stdout, json=options.json)
    if not options.json:
        show_header(make_console(), log.header, log.header.driver)
    for event, fields in read_events(log, first=options.first, last=options.last):
        if not is_unread():
            logger.info(event, **fields)
    if log.damage is not None:
        complain(log.damage)
    return EXIT_USAGE if log.is_damaged else 0
