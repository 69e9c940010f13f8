"""Conversion of options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from explorer import defaults
from explorer.experiment import Experiment, Given, RunOptions
from protocol.errors import UsageError
from protocol.log import LogReader

if TYPE_CHECKING:
    from explorer.session import Result


def run_options(options: argparse.Namespace, *, strategy: str = "", driver: str = "") -> RunOptions:
    """The run options from the command line; *strategy* and *driver* are for commands without such options."""
    return RunOptions(
        scenario=options.scenario or "",
        kernel=defaults.KERNEL if options.kernel is None else options.kernel,
        strategy=strategy or options.strategy,
        driver=driver or options.driver,
        seed=options.seed,
        settings=settings(options.set),
        check=defaults.CHECK if options.check is None else options.check,
        patches=tuple(options.patch),
        oracles=tuple(options.oracle),
        without=tuple(options.without),
        faults=faults(options.fault),
    )


def given(options: argparse.Namespace) -> Given:
    """The code that is given for a log (options of `usage.add_code`)."""
    return Given(tuple(options.patch), options.code or "", tuple(options.oracle), trust=options.trust)


def open_log(options: argparse.Namespace) -> Experiment:
    """The experiment of the log (options of `usage.add_finding`); UsageError if the log is damaged."""
    with closing(LogReader(options.log)) as log:
        experiment = Experiment.of_log(log, given(options))
        log.check_undamaged()
        return experiment


def check_reached(log: Path, step: int | None, result: Result) -> None:
    """UsageError if a replay reached the log's end before *step*, where it should have stopped."""
    if step is not None and result.steps < step and result.outcome not in ("diverged", "interrupted"):
        damage = " (there it is torn, or damaged)" if result.damage else ""
        msg = f"{log}: there is no step {step}: the log ends after step {result.steps}{damage}"
        raise UsageError(msg)


def settings(pairs: Sequence[str]) -> dict[str, str]:
    """The values of `--set`, by the names of the knobs."""
    split = [_split("--set", pair) for pair in pairs]
    check_once("--set", [name for name, _ in split])
    return dict(split)


def check_once(option: str, names: Sequence[str]) -> None:
    """UsageError if a name occurs twice: the second would silently win, or have no effect."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        msg = f"{option} {twice}: it is given twice"
        raise UsageError(msg)


def faults(pairs: Sequence[str]) -> dict[str, float]:
    """The probabilities of `--fault`, by the names of the faults."""
    found: dict[str, float] = {}
    split = [_split("--fault", pair) for pair in pairs]
    check_once("--fault", [name for name, _ in split])
    for pair, (name, value) in zip(pairs, split, strict=True):
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = -1.0
        if not 0 <= found[name] <= 1:
            msg = f"--fault {pair}: give a probability from 0 to 1"
            raise UsageError(msg)
    return found


def _split(option: str, pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not (name and equals):
        msg = f"{option} {pair}: give NAME=VALUE"
        raise UsageError(msg)
    return name, value
