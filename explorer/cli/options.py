"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from actors.linux.mm.page_alloc import FAULTS
from actors.versions.profiles import PROFILES
from explorer.experiment import CHECKS, RunOptions
from protocol.columns import MAX_DIGITS
from protocol.errors import UsageError
from protocol.log import MAGIC

if TYPE_CHECKING:
    from explorer.session import Result

KERNEL = "5.3"
CHECK = "step"


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


def add_trust(parser: argparse.ArgumentParser) -> None:
    """`--trust`, and what it means."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run the patches whose text LOG carries: they are programs, and can do all that you can do",
    )


def log_file(text: str) -> Path:
    """A log to be read; what comes through a pipe (`-`: standard input) is kept in an unnamed file meanwhile."""
    path = Path("/dev/stdin" if text == "-" else text)
    try:
        file = path.open("rb")
    except (OSError, ValueError):
        return path  # the reader says what is wrong
    with file:
        try:
            return path if file.seekable() else keep_piped(file)
        except OSError as error:
            msg = f"{text}: cannot keep what comes through the pipe: {error.strerror}"
            raise UsageError(msg) from None


BLOCK, MOST_PIPED = 1 << 20, 1 << 30
"""Bytes that are copied at once, and at most."""


def keep_piped(file: IO[bytes]) -> Path:
    """Copy a log out of a pipe; return a path under which processes of ours can read it as often as they like.

    Of what is no log only the beginning is copied, for a pipe may have no end.
    """
    with tempfile.TemporaryFile() as kept:
        begin = file.read(len(MAGIC))
        kept.write(begin)
        while begin == MAGIC and (block := file.read(BLOCK)):
            kept.write(block)
            if kept.tell() > MOST_PIPED:
                msg = f"the log that comes through the pipe has more than {MOST_PIPED >> 20} MiB; give it as a file"
                raise UsageError(msg)
        kept.flush()
        descriptor = os.dup(kept.fileno())  # stays open until the process ends
    return _our_descriptors() / str(descriptor)


def is_piped(log: Path) -> bool:
    """Whether *log* has come through a pipe, so that nothing can be named after it."""
    return log.parent == _our_descriptors()


def _our_descriptors() -> Path:
    return Path(f"/proc/{os.getpid()}/fd")


def run_options(options: argparse.Namespace) -> RunOptions:
    """What the options of `add_experiment` say."""
    return RunOptions(
        scenario=options.scenario,
        kernel=KERNEL if options.kernel is None else options.kernel,
        strategy=options.strategy,
        driver=options.driver,
        seed=options.seed,
        settings=settings(options.set),
        check=CHECK if options.check is None else options.check,
        patches=tuple(options.patch),
        without=tuple(options.without),
        faults=_faults(options.fault),
    )


def check_reached(log: Path, step: int | None, result: Result) -> None:
    """UsageError if a replay came to the log's end before *step*, where it should have stopped."""
    if step is not None and result.steps < step and result.outcome not in ("diverged", "interrupted"):
        damage = " (there it is torn, or damaged)" if result.damage else ""
        msg = f"{log}: there is no step {step}: the log ends after step {result.steps}{damage}"
        raise UsageError(msg)


def seed(text: str) -> int:
    """A seed: a whole number of 64 bits."""
    number = natural(text)
    if number >= 1 << 64:
        msg = f"{text}: give a whole number below 2**64"
        raise argparse.ArgumentTypeError(msg)
    return number


def natural(text: str) -> int:
    """A whole number, zero or more."""
    return _number(text, least=0, words="zero or more")


def positive(text: str) -> int:
    """A whole number, one or more."""
    return _number(text, least=1, words="one or more")


def _number(text: str, *, least: int, words: str) -> int:
    is_number = text.isascii() and text.isdigit()
    if not is_number or len(text) > MAX_DIGITS or int(text) < least:
        why = "it is too large" if is_number and len(text) > MAX_DIGITS else f"give a whole number, {words}"
        msg = f"{text!r:.40}: {why}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def settings(pairs: Sequence[str]) -> dict[str, str]:
    """What `--set` says, by the names of the knobs."""
    split = [_split("--set", pair) for pair in pairs]
    check_once("--set", [name for name, _ in split])
    return dict(split)


def check_once(option: str, names: Sequence[str]) -> None:
    """UsageError if one of the *names* is there twice: the second would silently win, or do nothing."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        msg = f"{option} {twice}: it is given twice"
        raise UsageError(msg)


def _faults(pairs: Sequence[str]) -> dict[str, float]:
    faults: dict[str, float] = {}
    split = [_split("--fault", pair) for pair in pairs]
    check_once("--fault", [name for name, _ in split])
    for pair, (name, value) in zip(pairs, split, strict=True):
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
