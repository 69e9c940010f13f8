"""The commands and their options: all that `--help` says, and nothing that runs.

It imports no kernel, so that help, completion and wrong usage cost nothing; a command's own module, of the same name as
the command, is imported when it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from explorer import defaults
from explorer.cli.parser import Parser
from explorer.cli.values import log_file, natural, positive, seed
from explorer.search.registry import PORTFOLIO, SEARCHES, STRATEGIES
from protocol.vocabulary import CHECKS, DRIVERS, FAULTS, PROFILES

SHELLS = ("bash", "zsh", "fish")
EXIT_NOT_EXHAUSTED = 5


def make_parser() -> Parser:
    """The parser of the whole command line; `command` of what it returns is the name of the command, None if none."""
    parser = Parser(prog="slabrace", description="A race laboratory for the Linux slab/memcg lifecycle.")
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="show program's version number and exit")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=Parser)
    for name, (text, add_options) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        add_options(command)
        command.set_defaults(command=name)
    parser.commands = commands.choices
    return parser


class ShowVersion(argparse.Action):
    """`--version`: the version is looked up only if it is asked for, which takes longer than all other help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print it, and end."""
        from importlib import metadata  # noqa: PLC0415 -- as above

        print("slabrace", metadata.version("slabrace"))  # noqa: T201 -- the answer
        parser.exit()


# -- options that several commands share ------------------------------------------------------------------------------


def add_json(parser: argparse.ArgumentParser, text: str = "print one JSON object instead") -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help=text)


def add_scenario(parser: argparse.ArgumentParser, *, is_optional: bool = False) -> None:
    """What is run, and on which kernel."""
    nargs = "?" if is_optional else None
    parser.add_argument(
        "scenario", metavar="SCENARIO", nargs=nargs, help="a name (see slabrace list scenarios), or FILE.py:NAME"
    )
    parser.add_argument("--kernel", help=f"kernel profile: {', '.join(PROFILES)} (default: {defaults.KERNEL})")
    parser.add_argument("--seed", type=seed, default=0, help="of all that is drawn at random (default: 0)")


def add_strategy(parser: argparse.ArgumentParser, names: list[str], *, strategy: str, driver: str) -> None:
    """How schedules are chosen, and which driver runs them."""
    parser.add_argument(
        "--strategy", default=strategy, help=f"one of {', '.join(names)}, or FILE.py:NAME (default: {strategy})"
    )
    parser.add_argument("--driver", default=driver, help=f"{' or '.join(DRIVERS)} (default: {driver})")


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Which invariants are checked; the knobs, faults and patches."""
    parser.add_argument("--check", help=f"how much of the invariants: {', '.join(CHECKS)} (default: {defaults.CHECK})")
    add_set(parser, "set a knob of the scenario")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=PROB",
        help=f"let it happen with that probability: {', '.join(FAULTS)}",
    )
    add_patch(parser)
    add_oracle(parser)
    add_without(parser)


def add_set(parser: argparse.ArgumentParser, text: str) -> None:
    """`--set`."""
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=text)


def add_without(parser: argparse.ArgumentParser) -> None:
    """`--without`."""
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


def add_oracle(parser: argparse.ArgumentParser) -> None:
    """`--oracle`."""
    parser.add_argument(
        "--oracle",
        action="append",
        default=[],
        metavar="O",
        help="let an oracle of your own look at the machine: FILE.py[:NAME], or the name of an installed one",
    )


def add_code(parser: argparse.ArgumentParser) -> None:
    """The code that a log is run with: given again, or trusted."""
    add_patch(parser)
    parser.add_argument(
        "--scenario", dest="code", metavar="FILE.py[:NAME]", help="the file of the scenario, if LOG has it from a file"
    )
    add_oracle(parser)
    add_trust(parser)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """`--trust`, and what it means."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run the files whose text LOG carries (patches, scenario, oracles): they are programs, and can do all "
        "that you can do",
    )


def add_finding(parser: argparse.ArgumentParser, *, is_needed: bool = True) -> None:
    """Which finding of which log."""
    parser.add_argument("log", type=log_file, nargs=None if is_needed else "?", metavar="LOG")
    parser.add_argument("--signature", metavar="S", help="which finding of the log (default: the last)")
    add_code(parser)


# -- the commands -----------------------------------------------------------------------------------------------------


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        metavar="WHAT",
        help=f"one of {', '.join(defaults.CATALOGUES)} (default: all of these), or {defaults.OPERATIONS}",
        choices=[*defaults.CATALOGUES, "all", defaults.OPERATIONS],
        default="all",
    )
    parser.add_argument("object", nargs="?", metavar="OBJECT", help="list operations: of this kind of object only")
    add_json(parser, "print a JSON list of objects instead")


def _run(parser: argparse.ArgumentParser) -> None:
    add_scenario(parser)
    add_strategy(parser, list(STRATEGIES), strategy="random", driver="trio")
    add_machine(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--log", type=Path, metavar="FILE", help="where to log (default: a new file in runs/)")
    where.add_argument("--no-log", action="store_true", help="do not log")
    add_force(parser, "--log")
    add_json(parser)


def _replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", type=log_file, metavar="LOG")
    parser.add_argument("--driver", choices=list(DRIVERS), default="trio", help="(default: trio)")
    parser.add_argument(
        "--until", type=natural, metavar="STEP", help="stop after so many steps, and show who stands where"
    )
    add_code(parser)
    add_json(parser)


def _log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", type=log_file, metavar="LOG")
    parser.add_argument("--first", type=natural, default=0, metavar="STEP", help="begin at this step")
    parser.add_argument("--last", type=natural, metavar="STEP", help="end with this step")
    parser.add_argument(
        "--patches",
        action="store_true",
        help="print the text of the files that it carries, instead: patches, scenario and oracles",
    )
    add_json(parser, "print JSON lines")


def _slabinfo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", type=log_file, metavar="LOG")
    add_code(parser)
    parser.add_argument("--at", type=natural, metavar="STEP", help="after so many steps (default: at the log's end)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--file",
        metavar="NAME",
        help=f"{', '.join(defaults.KERNEL_FILES)} (default: slabinfo); CGROUP/NAME for that of a cgroup, otherwise it "
        "is the root's",
    )
    which.add_argument("--full", action="store_const", dest="file", const="slabinfo_full", help="--file slabinfo_full")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there, byte by byte")
    add_force(parser)
    add_json(parser)


def _explore(parser: argparse.ArgumentParser) -> None:
    add_scenario(parser, is_optional=True)
    add_strategy(parser, list(SEARCHES), strategy=PORTFOLIO, driver="stepper")
    add_machine(parser)
    parser.add_argument(
        "--from",
        dest="log",
        type=log_file,
        metavar="LOG",
        help="begin every schedule as this log does; SCENARIO is left out, unless LOG has it from a file",
    )
    add_trust(parser)
    parser.add_argument("--at", type=natural, metavar="STEP", help="the first step of LOG that may go otherwise")
    parser.add_argument(
        "--budget",
        type=positive,
        metavar="SCHEDULES",
        help=f"how many at most, without those that an exact search cuts off (default: {defaults.BUDGET}, or as many "
        "as there is --time for)",
    )
    parser.add_argument("--time", type=positive, metavar="SECONDS", help="stop after so long")
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="processes; the answer is the same")
    parser.add_argument("--first", action="store_true", help="stop at the first finding")
    parser.add_argument(
        "--require-exhausted",
        action="store_true",
        help=f"exit with {EXIT_NOT_EXHAUSTED}, not 0, if nothing is found and the search does not come to its end",
    )
    parser.add_argument(
        "--kept",
        type=Path,
        metavar="DIR",
        help=f"run what was kept there for this scenario and kernel first (default: {defaults.KEPT}, if it exists)",
    )
    parser.add_argument("--no-log", action="store_true", help="do not log what is found")
    add_json(parser)


def _shrink(parser: argparse.ArgumentParser) -> None:
    add_finding(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to log the short run (default: LOG.short.log)")
    add_force(parser)
    parser.add_argument("--budget", type=positive, metavar="RUNS", help="how many runs at most")
    parser.add_argument("--seconds", type=positive, metavar="S", help="how long at most")
    parser.epilog = (
        f"Without --budget and --seconds it ends after {defaults.SHRINK_RUNS} runs or {defaults.SHRINK_SECONDS} "
        "seconds; if one of them is given, there is no other end."
    )
    add_json(parser)


def _match(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trace", type=Path, metavar="TRACE", help="text of ftrace's function tracer (tracing/trace)")
    parser.add_argument("--kernel", required=True, help=f"kernel profile: {', '.join(PROFILES)}")
    parser.add_argument(
        "--scenario",
        action="append",
        default=[],
        metavar="S",
        help=f"what was run (default: {', '.join(defaults.TRACED)})",
    )
    add_set(parser, "set a knob of the scenario")
    add_patch(parser)
    add_without(parser)
    parser.add_argument("--filter", type=Path, metavar="FILE", help="set_ftrace_filter when the trace was taken")
    parser.add_argument("--ignore", action="append", default=[], metavar="FUNCTION", help="do not compare that")
    parser.add_argument("--open-end", action="store_true", help="the tracer was stopped before the machine was at rest")
    parser.add_argument(
        "--budget",
        type=positive,
        default=defaults.MATCH_BUDGET,
        metavar="N",
        help=f"schedules to try ({defaults.MATCH_BUDGET})",
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="log the schedule, or how far it got")
    add_force(parser, "--log")
    add_json(parser)


def _growth(parser: argparse.ArgumentParser) -> None:
    workers = defaults.GROWTH_WORKERS
    parser.add_argument("--days", type=natural, default=7, metavar="N", help="days to simulate (7); 0: day 0 only")
    parser.add_argument("--hosts", type=positive, metavar="N", help=f"how many hosts ({defaults.HOSTS})")
    parser.add_argument("--kernel", default="5.3", help=f"what to compare original with: one of {', '.join(PROFILES)}")
    parser.add_argument("--seed", type=seed, default=0, help="other hosts of the same kind")
    add_set(parser, "a knob of the services")
    parser.add_argument("--workers", type=positive, default=workers, metavar="N", help=f"processes ({workers})")
    parser.add_argument("--walk", action="store_true", help="SLAB: how much its reaper walks, and who waits for it")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there; the name ends in .svg or .png")
    parser.add_argument("--force", action="store_true", help="replace the files that --csv and --plot name")
    add_json(parser)


def _explain(parser: argparse.ArgumentParser) -> None:
    add_finding(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--format", choices=list(defaults.EXPLAIN_FORMATS), default="text", help="what to make (default: text)"
    )
    form.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there, not to standard output")
    add_force(parser)


def _keep(parser: argparse.ArgumentParser) -> None:
    kept = defaults.KEPT
    add_finding(parser, is_needed=False)
    parser.add_argument("--dir", type=Path, default=kept, metavar="DIR", help=f"where to (default: {kept})")
    parser.add_argument("--name", metavar="NAME", help="of the file (default: made of what was found)")
    parser.add_argument("--force", action="store_true", help="replace the file, if it exists")
    parser.add_argument(
        "--expect",
        choices=[defaults.NOTHING, defaults.FINDING],
        default=defaults.NOTHING,
        help="what the test of the file holds: that nothing is found, or that the flaw is still there",
    )
    parser.add_argument("--check", type=Path, metavar="DIR", help="run all that is kept in DIR, instead of a LOG")
    add_json(parser)


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", type=log_file, metavar="LOG")
    parser.add_argument("second", type=log_file, metavar="OTHER")
    add_code(parser)


def _selftest(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run schedules twice, which has to come to the same, and exchange neighbouring steps that count as "
        "independent, which may change nothing after them."
    )
    add_scenario(parser)
    add_strategy(parser, list(SEARCHES), strategy=PORTFOLIO, driver="stepper")
    add_machine(parser)
    parser.add_argument(
        "--schedules",
        type=natural,
        default=defaults.TWICE,
        metavar="N",
        help=f"how many schedules to run twice (default: {defaults.TWICE}; 0: none)",
    )
    parser.add_argument(
        "--pairs",
        type=natural,
        default=defaults.PAIRS,
        metavar="N",
        help=f"how many pairs of steps to exchange, in random walks (default: {defaults.PAIRS}; 0: none)",
    )
    add_json(parser)


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")
    parser.description = "Print a script; docs/commands.md says where it goes."


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "list": ("what there is to choose from", _list),
    "run": ("run a scenario once, and log it", _run),
    "replay": ("make the choices of a log again", _replay),
    "log": ("print the steps of a log", _log),
    "slabinfo": ("print a file of the simulated kernel at some step of a log", _slabinfo),
    "explore": ("search many schedules of a scenario for flaws", _explore),
    "shrink": ("make the schedule of a failing run as short as it can be", _shrink),
    "match": ("search for the schedule that a kernel's function trace shows", _match),
    "growth": ("simulate hosts for days, beside what production hosts showed", _growth),
    "explain": ("say why a run fails, and draw it", _explain),
    "keep": ("keep a finding as a regression file and a test, or check those kept", _keep),
    "compare": ("put what two runs of a scenario left behind side by side", _compare),
    "selftest": ("try out on a scenario that runs repeat, and that independent steps commute", _selftest),
    "completion": ("print a script that lets a shell complete all this", _completion),
}
"""Each command with its line of the help, and what adds its options."""
