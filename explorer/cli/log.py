"""The command `log`."""

from __future__ import annotations

import argparse
import itertools
import sys

from explorer.events import make_logger, read_events
from explorer.report import make_console, show_header
from explorer.streams import complain, is_unread
from protocol.errors import DamagedLogError, UsageError
from protocol.log import LogReader


def main(options: argparse.Namespace) -> int:
    """Print the log; return the exit code."""
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
    return DamagedLogError.exit_code if log.is_damaged else 0


def _print_patches(log: LogReader) -> int:
    """Print the code that a log carries, for reading before it is trusted."""
    console = make_console()
    for code in log.header.code:
        origin = (
            f"from {code.path}" if code.is_code else "a fix of slabrace" if code in log.header.patches else "installed"
        )
        console.print(f"# {code.name}, {origin}")
        console.print(*code.text.splitlines())
    return 0
