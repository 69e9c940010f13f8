"""The command line. Exit codes: 0 nothing found, 1 finding, 2 usage, 3 internal error, 4 diverged, 130 interrupted."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from actors.kernel.fixes import ALL_FIXES
from actors.kernel.kernel_fn import PROFILES, differences
from actors.kernel.page_alloc import FAULTS
from explorer.events import make_logger, read_events
from explorer.experiment import CHECKS, DRIVERS, RunOptions
from explorer.report import LiveProgress, make_console, show_header, show_replay_line, show_result
from explorer.session import Result, replay, run, to_json
from explorer.strategies import STRATEGIES
from protocol.errors import UsageError
from protocol.findings import ORACLES
from protocol.log import LogReader
from scenarios import SCENARIOS, find_scenario

EXIT_USAGE, EXIT_INTERNAL, EXIT_INTERRUPTED = 2, 3, 130
RUNS = Path("runs")


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments; main() turns it into exit code 2."""
        msg = f"{message}; see {self.prog} --help"
        raise UsageError(msg)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    try:
        options = make_parser().parse_args(arguments)
        code: int = options.command(options)
    except UsageError as error:
        print("slabrace:", " ".join(str(error).split("\n")), file=sys.stderr)  # noqa: T201 -- the one line of a usage error
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more
        return 0
    except Exception:  # noqa: BLE001 -- whatever is left is our error, and is called so
        traceback.print_exc()
        print("slabrace: internal error: this is a bug of slabrace, please report it", file=sys.stderr)  # noqa: T201 -- as above
        return EXIT_INTERNAL
    return code


def make_parser() -> Parser:
    """The commands and their options."""
    parser = Parser(prog="slabrace", description="A race laboratory for the Linux slab/memcg lifecycle.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    _add_list(commands.add_parser("list", help="what there is to choose from"))
    _add_run(commands.add_parser("run", help="run a scenario once, and log it"))
    _add_replay(commands.add_parser("replay", help="make the choices of a log again"))
    _add_log(commands.add_parser("log", help="print the steps of a log"))
    return parser


def _add_json(parser: argparse.ArgumentParser, text: str = "print one JSON object instead") -> None:
    parser.add_argument("--json", action="store_true", help=text)


# -- list -------------------------------------------------------------------------------------------------------------


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=[*_CATALOGUES, "all"], default="all")
    _add_json(parser, "print a JSON list of objects instead")
    parser.set_defaults(command=_list)


def _scenario_entries() -> list[dict[str, object]]:
    return [
        {
            "name": scenario.name,
            "summary": scenario.summary,
            "knobs": [{"name": k.name, "default": k.default, "summary": k.summary} for k in scenario.knobs],
        }
        for scenario in SCENARIOS
    ]


def _kernel_entries() -> list[dict[str, object]]:
    return [
        {"name": name, "summary": summary, "differs": differences(before, name)}
        for before, (name, summary) in zip([None, *PROFILES], PROFILES.items(), strict=False)
    ]


def _patch_entries() -> list[dict[str, object]]:
    return [
        {
            "name": entry.slug,
            "commit": entry.commit,
            "summary": entry.summary,
            "built_into": list(entry.built_into),
            "goes_into": entry.goes_into,
            "comes_out_of": entry.comes_out_of,
        }
        for entry in ALL_FIXES
    ]


def _strategy_entries() -> list[dict[str, object]]:
    return [{"name": entry.name, "argument": entry.argument, "summary": entry.summary} for entry in STRATEGIES.values()]


def _oracle_entries() -> list[dict[str, object]]:
    return [{"name": name, "summary": summary} for name, summary in ORACLES.items()]


_CATALOGUES = {
    "scenarios": _scenario_entries,
    "kernels": _kernel_entries,
    "patches": _patch_entries,
    "strategies": _strategy_entries,
    "oracles": _oracle_entries,
}


def _list(options: argparse.Namespace) -> int:
    chosen = list(_CATALOGUES) if options.what == "all" else [options.what]
    if options.json:
        entries = [{"kind": what, **entry} for what in chosen for entry in _CATALOGUES[what]()]
        print(json.dumps(entries))  # noqa: T201 -- the command's output
        return 0
    console = make_console()
    for what in chosen:
        console.print(f"[bold]{what}[/]")
        for entry in _CATALOGUES[what]():
            console.print(f"  {entry['name']!s:18} {entry['summary']}", markup=False)
            for line in _details(entry):
                console.print(f"  {'':18}   {line}", markup=False)
    return 0


def _details(entry: dict[str, Any]) -> Iterator[str]:
    """What else there is to say of one entry, a line each."""
    for knob in entry.get("knobs", ()):
        yield f"{knob['name']}={knob['default']}: {knob['summary']}"
    for difference in entry.get("differs", ()):
        yield f"{difference['function']}(): {difference['summary']}"
    if "built_into" in entry:
        yield f"{entry['commit'] or 'no commit'}; built into {', '.join(entry['built_into']) or 'none'}"


# -- run --------------------------------------------------------------------------------------------------------------


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", metavar="SCENARIO")
    parser.add_argument("--kernel", default="5.3", help=f"kernel profile: {', '.join(PROFILES)}")
    parser.add_argument("--seed", type=_seed, default=0)
    parser.add_argument("--strategy", default="random", help=f"one of {', '.join(STRATEGIES)}")
    parser.add_argument("--driver", default="trio", help=f"one of {', '.join(DRIVERS)}")
    parser.add_argument("--check", default="step", help=f"how much of the invariants: {', '.join(CHECKS)}")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="set a knob of the scenario")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=PROB", help=f"one of {', '.join(FAULTS)}")
    _add_patch(parser)
    parser.add_argument("--without", action="append", default=[], metavar="FIX", help="take a fix out of the kernel")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--log", type=Path, metavar="FILE", help="where to log (default: a new file in runs/)")
    where.add_argument("--no-log", action="store_true", help="do not log")
    parser.add_argument("--force", action="store_true", help="replace the file that --log names, if it exists")
    _add_json(parser)
    parser.set_defaults(command=_run)


def _add_patch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--patch",
        action="append",
        default=[],
        metavar="P",
        help="lay a fix (slug or commit id) or a file over the kernel",
    )


def _seed(text: str) -> int:
    if (seed := _natural(text)) >= 1 << 64:
        msg = f"{text} is not below 2**64"
        raise argparse.ArgumentTypeError(msg)
    return seed


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        msg = f"{text!r} is not a whole number"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _run(options: argparse.Namespace) -> int:
    wanted = RunOptions(
        scenario=options.scenario,
        kernel=options.kernel,
        strategy=options.strategy,
        driver=options.driver,
        seed=options.seed,
        settings=_settings(options.set),
        check=options.check,
        patches=tuple(options.patch),
        without=tuple(options.without),
        faults=_faults(options.fault),
    )
    find_scenario(wanted.scenario)
    log = None if options.no_log else options.log or _new_log(wanted)
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


def _settings(pairs: Sequence[str]) -> dict[str, str]:
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


def _new_log(options: RunOptions) -> Path:
    """A file name in runs/ that is not taken."""
    stem = f"{options.scenario}-{options.kernel}-{options.strategy}-{options.seed}"
    names = (f"{stem}{suffix}.log" for suffix in itertools.chain([""], (f".{n}" for n in itertools.count(1))))
    return next(path for path in map(RUNS.joinpath, names) if not path.exists())


def _show(options: argparse.Namespace, result: Result) -> None:
    if options.json:
        print(json.dumps(to_json(result)))  # noqa: T201 -- the command's output
        return
    console = make_console()
    show_result(console, result)
    show_replay_line(console, result)


# -- replay and log ---------------------------------------------------------------------------------------------------


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", type=Path, metavar="LOG")
    parser.add_argument("--driver", choices=list(DRIVERS), default="trio")
    parser.add_argument(
        "--until", type=_natural, metavar="STEP", help="stop after so many steps, and show who stands where"
    )
    _add_patch(parser)
    _add_json(parser)
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
    _show(options, result)
    if result.damage is not None:
        print(f"slabrace: {result.damage}", file=sys.stderr)  # noqa: T201 -- one line about the input
    return EXIT_USAGE if result.is_damaged and not result.exit_code else result.exit_code


def _add_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", type=Path, metavar="LOG")
    parser.add_argument("--first", type=_natural, default=0, metavar="STEP", help="begin at this step")
    parser.add_argument("--last", type=_natural, metavar="STEP", help="end with this step")
    _add_json(parser, "print JSON lines")
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
        logger.info(event, **fields)
    if log.damage is not None:
        print(f"slabrace: {log.damage}", file=sys.stderr)  # noqa: T201 -- one line about the input
    return EXIT_USAGE if log.is_damaged else 0
