"""The command `run`."""

from __future__ import annotations

import argparse

from explorer import signals
from explorer.cli.options import run_options
from explorer.cli.parser import needs
from explorer.json_out import print_json
from explorer.output import new_file, stem_of
from explorer.report import LiveProgress, make_console, show_header, show_replay_line, show_result
from explorer.search.registry import Sampler, parse_strategy
from explorer.session import Result, run, to_json
from protocol.errors import UsageError


def main(options: argparse.Namespace) -> int:
    """Run a scenario once; return the exit code."""
    needs(options, "--force", "--log")
    wanted = run_options(options)
    if not isinstance(parse_strategy(wanted.strategy).entry, Sampler):
        msg = f"--strategy {wanted.strategy}: this strategy makes many schedules: use it with slabrace explore"
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
    show(options, result)
    return result.exit_code


@signals.answering()
def show(options: argparse.Namespace, result: Result, *, relaid: bool = False) -> None:
    """Print the answer of `run` or `replay`."""
    if options.json:
        print_json(to_json(result))
        return
    console = make_console()
    show_result(console, result)
    show_replay_line(console, result, relaid=relaid)
