"""The command `growth`."""

from __future__ import annotations

import argparse

from explorer import defaults, signals
from explorer.cli.options import settings
from explorer.cli.parser import needs, refuse
from explorer.growth.comparison import ORIGINAL
from explorer.growth.fleet import Fleet
from explorer.growth.host import set_stage
from explorer.growth.plot import check_drawable, draw
from explorer.growth.report import Comparison, FleetProgress, csv_text, outcome_of, show, to_csv, to_json
from explorer.growth.walk import WALK, show_walk, walk_fleet, walk_json, walk_rows
from explorer.json_out import print_json
from explorer.report import make_console
from explorer.signals import EXIT_INTERRUPTED
from protocol.atomic import check_free, write_file
from protocol.errors import UsageError
from protocol.names import no_such
from protocol.vocabulary import KERNELS
from scenarios.services import services

EXIT_CODES = {"ok": 0, "finding": 1, "interrupted": EXIT_INTERRUPTED, "lost": 3}
MOST_DAYS = next(knob.most for knob in services.knobs if knob.name == "days")
SEEDS, HOSTS_OF_A_SEED = 1 << 40, 1 << 16


def main(options: argparse.Namespace) -> int:
    """Simulate the hosts; return the exit code."""
    _check(options)
    fleet = _fleet(options)
    set_stage(fleet.runs[0].job, lambda _day: None)  # a machine that cannot boot is refused before any worker starts
    progress = FleetProgress()
    fleet.progress = progress.tell
    try:
        fleet.run()
    finally:
        progress.close()
    with signals.answering():
        code = _give_walk(options, fleet) if options.walk else _give(options, Comparison.of(fleet, options.kernel))
    if fleet.loss is not None:
        raise fleet.loss
    return code


def _give_walk(options: argparse.Namespace, fleet: Fleet) -> int:
    if options.json:
        print_json(walk_json(fleet))
    else:
        show_walk(make_console(), fleet)
    if options.csv is not None:
        write_file(options.csv, csv_text(walk_rows(fleet)), overwrite=options.force)
    return EXIT_CODES[outcome_of(fleet)]


def _give(options: argparse.Namespace, comparison: Comparison) -> int:
    """Print the answer, and write the files after it, so that no failed file hides the answer; return the exit code."""
    if options.json:
        print_json(to_json(comparison))
    else:
        show(make_console(), comparison)
    if options.csv is not None:
        write_file(options.csv, to_csv(comparison), overwrite=options.force)
    if options.plot is not None:
        write_file(options.plot, draw(comparison, options.plot.suffix), overwrite=options.force)
    return EXIT_CODES[comparison.outcome]


def _check(options: argparse.Namespace) -> None:
    """Refuse useless options before anything is simulated."""
    others = [kernel for kernel in KERNELS if kernel != ORIGINAL]
    if options.kernel not in others:
        msg = f"--kernel {options.kernel}: {no_such(f'kernel to compare {ORIGINAL} with', options.kernel, others)}"
        raise UsageError(msg)
    if options.plot is not None:
        check_drawable(options.plot)
    if options.walk:
        refuse(options, "--walk, which is about one host and draws nothing", ["--hosts", "--plot"])
    needs(options, "--force", "--csv", "--plot")
    for path in (options.csv, options.plot):
        check_free(path, overwrite=options.force)


def _fleet(options: argparse.Namespace) -> Fleet:
    """The hosts that the options ask for; UsageError if the settings do not fit."""
    wanted = settings(options.set)
    for name, option in (("days", "--days"), ("host", "--seed")):
        if name in wanted:
            msg = f"--set {name}: give {option} instead"
            raise UsageError(msg)
    own = next((name for name in wanted if options.walk and name in WALK), None)
    if own is not None:
        msg = f"--set {own}: leave it out: --walk sets it"
        raise UsageError(msg)
    if options.days > MOST_DAYS:
        msg = f"--days {options.days}: give a whole number from 0 to {MOST_DAYS}"
        raise UsageError(msg)
    wanted["days"] = str(options.days)
    first = options.seed % SEEDS * HOSTS_OF_A_SEED
    hosts = range(first, first + (options.hosts or defaults.HOSTS))
    if options.walk:
        return walk_fleet(options.kernel, hosts[0], wanted, options.workers)
    return Fleet.of((ORIGINAL, options.kernel), hosts, wanted, workers=options.workers)
