"""The command `replay`."""

from __future__ import annotations

import argparse

from explorer.cli.options import check_reached, given
from explorer.cli.run import show
from explorer.report import LiveProgress, make_console, show_header
from explorer.session import replay
from explorer.streams import complain
from protocol.errors import DamagedLogError
from protocol.records import Header


def main(options: argparse.Namespace) -> int:
    """Replay a log; return the exit code."""
    progress = LiveProgress()
    console = make_console()

    def begin(header: Header) -> None:
        if not options.json:
            show_header(console, header, options.driver)

    try:
        result = replay(
            options.log,
            driver=options.driver,
            given=given(options),
            until=options.until,
            progress=progress,
            begun=begin if options.until is None else None,
        )
    finally:
        progress.close()
    if options.until is not None:
        check_reached(options.log, options.until, result)
        begin(result.header)
    show(options, result, relaid=bool(options.patch))
    if result.damage is not None:
        complain(result.damage)
    return DamagedLogError.exit_code if result.is_damaged and result.outcome in ("ok", "finding") else result.exit_code
