"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from actors.kernel.kernel_fn import PROFILES
from actors.kernel.page_alloc import FAULTS
from explorer.experiment import CHECKS, RunOptions
from protocol.errors import UsageError

KERNEL = "5.3"
CHECK = "step"


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments; main() turns it into exit code 2."""
        msg = f"{message}; see {self.prog} --help"
        raise UsageError(msg)


def add_json(parser: argparse.ArgumentParser, text: str = "print one JSON object instead") -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help=text)


def add_experiment(
    parser: argparse.ArgumentParser, *, driver: str, strategy: str, strategies: Sequence[str], is_optional: bool = False
) -> None:
    """What is to be run: the scenario (which may be left out if *is_optional*), and all but where to put the result."""
    nargs = "?" if is_optional else None
    parser.add_argument("scenario", metavar="SCENARIO", nargs=nargs, help="see slabrace list scenarios")
    parser.add_argument("--kernel", help=f"kernel profile: {', '.join(PROFILES)} (default: {KERNEL})")
    parser.add_argument("--seed", type=seed, default=0, help="of all that is drawn at random (default: 0)")
    parser.add_argument("--strategy", default=strategy, help=f"one of {', '.join(strategies)} (default: {strategy})")
    parser.add_argument("--driver", default=driver, help=f"trio or stepper (default: {driver})")
    parser.add_argument("--check", help=f"how much of the invariants: {', '.join(CHECKS)} (default: {CHECK})")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="set a knob of the scenario")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=PROB",
        help=f"let it happen with that probability: {', '.join(FAULTS)}",
    )
    add_patch(parser)
    parser.add_argument("--without", action="append", default=[], metavar="FIX", help="take a fix out of the kernel")


def add_force(parser: argparse.ArgumentParser, option: str = "--out") -> None:
    """`--force`."""
    parser.add_argument("--force", action="store_true", help=f"replace the file that {option} names, if it exists")


def add_patch(parser: argparse.ArgumentParser) -> None:
    """`--patch`."""
    parser.add_argument(
        "--patch",
        action="append",
        default=[],
        metavar="P",
        help="lay a fix (slug or commit id) or a file over the kernel",
    )


def run_options(options: argparse.Namespace) -> RunOptions:
    """What the options of `add_experiment` say."""
    return RunOptions(
        scenario=options.scenario,
        kernel=options.kernel or KERNEL,
        strategy=options.strategy,
        driver=options.driver,
        seed=options.seed,
        settings=settings(options.set),
        check=options.check or CHECK,
        patches=tuple(options.patch),
        without=tuple(options.without),
        faults=_faults(options.fault),
    )


def seed(text: str) -> int:
    """A seed: a whole number of 64 bits."""
    number = natural(text)
    if number >= 1 << 64:
        msg = f"{text} is not below 2**64"
        raise argparse.ArgumentTypeError(msg)
    return number


def natural(text: str) -> int:
    """A whole number, zero or more."""
    if not (text.isascii() and text.isdigit()):
        msg = f"{text!r} is not a whole number"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def positive(text: str) -> int:
    """A whole number, one or more."""
    if not natural(text):
        msg = "it must be at least 1"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def settings(pairs: Sequence[str]) -> dict[str, str]:
    """What `--set` says, by the names of the knobs."""
    return dict(_split("--set", pair) for pair in pairs)


def _faults(pairs: Sequence[str]) -> dict[str, float]:
    faults = {}
    for pair in pairs:
        name, value = _split("--fault", pair)
        try:
            faults[name] = float(value)
        except ValueError:
            faults[name] = -1.0
        if not 0 <= faults[name] <= 1:
            msg = f"--fault {pair}: give a probability from 0 to 1"
            raise UsageError(msg)
    return faults


def _split(option: str, pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not (name and equals):
        msg = f"{option} {pair}: give NAME=VALUE"
        raise UsageError(msg)
    return name, value
