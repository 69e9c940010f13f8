"""The commands and their options, with the texts of `--help`.

This module imports no kernel, so that help, completion and usage errors are fast. The module of a command, which has
the command's name, is imported when the command runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from explorer import defaults
from explorer.cli.parser import Parser
from explorer.cli.values import hours, log_file, natural, positive, seed, share
from explorer.search.registry import PORTFOLIO, SEARCHES, STRATEGIES
from protocol.vocabulary import CHECKS, DRIVERS, FAULTS, PROFILES, STEPS, TODAY

SHELLS = ("bash", "zsh", "fish")
ALLOCATORS = ("slub", "slab", "both")
EXIT_NOT_EXHAUSTED = 5
KERNELS = f"{', '.join((*PROFILES, *TODAY))}, or a step of v4, {min(STEPS)} to {max(STEPS)}"


def make_parser() -> Parser:
    """The parser of the whole command line; it sets `command` to the name of the command, or to None."""
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
    """`--version`. The version is looked up only on demand: this takes longer than all other help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print the version, and exit."""
        from importlib import metadata  # noqa: PLC0415 -- as above

        print("slabrace", metadata.version("slabrace"))  # noqa: T201 -- the answer
        parser.exit()


# -- options that several commands share ------------------------------------------------------------------------------


def add_json(parser: argparse.ArgumentParser, text: str = "print one JSON object instead") -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help=text)


def add_scenario(parser: argparse.ArgumentParser, *, is_optional: bool = False) -> None:
    """The scenario, the kernel and the seed."""
    nargs = "?" if is_optional else None
    parser.add_argument(
        "scenario", metavar="SCENARIO", nargs=nargs, help="a name (see slabrace list scenarios), or FILE.py:NAME"
    )
    parser.add_argument("--kernel", help=f"kernel profile: {KERNELS} (default: {defaults.KERNEL})")
    parser.add_argument("--seed", type=seed, default=0, help="seed of all random choices (default: 0)")


def add_strategy(parser: argparse.ArgumentParser, names: list[str], *, strategy: str, driver: str) -> None:
    """The strategy that chooses schedules, and the driver that runs them."""
    parser.add_argument(
        "--strategy", default=strategy, help=f"one of {', '.join(names)}, or FILE.py:NAME (default: {strategy})"
    )
    parser.add_argument("--driver", default=driver, help=f"{' or '.join(DRIVERS)} (default: {driver})")


def add_machine(parser: argparse.ArgumentParser) -> None:
    """The extent of invariant checks; the knobs, faults and patches."""
    parser.add_argument("--check", help=f"when to check invariants: {', '.join(CHECKS)} (default: {defaults.CHECK})")
    add_set(parser, "set a knob of the scenario")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=PROB",
        help=f"inject this fault with that probability: {', '.join(FAULTS)}",
    )
    add_patch(parser)
    add_oracle(parser)
    add_without(parser)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """`--workers`."""
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="processes; the answer is the same")


def add_set(parser: argparse.ArgumentParser, text: str) -> None:
    """`--set`."""
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=text)


def add_without(parser: argparse.ArgumentParser) -> None:
    """`--without`."""
    parser.add_argument("--without", action="append", default=[], metavar="FIX", help="remove a fix from the kernel")


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
        help="apply a fix (slug or commit id) or a patch file to the kernel",
    )


def add_oracle(parser: argparse.ArgumentParser) -> None:
    """`--oracle`."""
    parser.add_argument(
        "--oracle",
        action="append",
        default=[],
        metavar="O",
        help="add an oracle of your own: FILE.py[:NAME], or the name of an installed one",
    )


def add_code(parser: argparse.ArgumentParser) -> None:
    """The code of a log: named again, or trusted."""
    add_patch(parser)
    parser.add_argument(
        "--scenario", dest="code", metavar="FILE.py[:NAME]", help="the scenario's file, if LOG was recorded with a file"
    )
    add_oracle(parser)
    add_trust(parser)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """`--trust`, with its risk."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run the code that LOG carries (patches, scenario, oracles): it is Python, and can do everything that you "
        "can do",
    )


def add_finding(parser: argparse.ArgumentParser, *, is_needed: bool = True) -> None:
    """The log, and the finding in it."""
    parser.add_argument("log", type=log_file, nargs=None if is_needed else "?", metavar="LOG")
    parser.add_argument("--signature", metavar="S", help="signature of a finding in the log (default: the last)")
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
        "--until", type=natural, metavar="STEP", help="stop after this many steps, and show where each flow stands"
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
        help="print the text of the files that the log carries instead: patches, scenario and oracles",
    )
    add_json(parser, "print JSON lines")


def _slabinfo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", type=log_file, metavar="LOG")
    add_code(parser)
    parser.add_argument("--at", type=natural, metavar="STEP", help="after this many steps (default: at the log's end)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--file",
        metavar="NAME",
        help=f"{', '.join(defaults.KERNEL_FILES)} (default: slabinfo); CGROUP/NAME for the file of a cgroup, NAME for "
        "the root cgroup's",
    )
    which.add_argument("--full", action="store_const", dest="file", const="slabinfo_full", help="--file slabinfo_full")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the file there, byte by byte")
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
        help="begin every schedule with the choices of LOG; leave out SCENARIO, unless LOG was recorded with a file",
    )
    add_trust(parser)
    parser.add_argument("--at", type=natural, metavar="STEP", help="first step of LOG that may differ")
    parser.add_argument(
        "--budget",
        type=positive,
        metavar="SCHEDULES",
        help=f"most schedules to run, not counting those that an exact search prunes (default: {defaults.BUDGET}, or "
        "no limit with --time)",
    )
    parser.add_argument("--time", type=positive, metavar="SECONDS", help="stop after this time")
    add_workers(parser)
    parser.add_argument("--first", action="store_true", help="stop at the first finding")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="write the state of a search with --strategy dpor there, now and then and when it stops",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="go on from a checkpoint; its schedules count for the budget, which is unlimited by default",
    )
    parser.add_argument(
        "--require-exhausted",
        action="store_true",
        help=f"exit with {EXIT_NOT_EXHAUSTED}, not 0, if nothing is found and schedules remain that were not run",
    )
    parser.add_argument(
        "--kept",
        type=Path,
        metavar="DIR",
        help=f"first run the findings kept there for this scenario and kernel (default: {defaults.KEPT}, if it exists)",
    )
    parser.add_argument("--no-log", action="store_true", help="do not log findings")
    add_json(parser)


def _stress(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run schedules of many scenarios, kernels and knobs until the budget or the time is used up, or until Ctrl-C. "
        "All is kept in the store; the same command, or one that names the store only, goes on there. Exit code 1 "
        "means new causes: causes that docs/findings.md judges are known."
    )
    parser.add_argument(
        "scenarios", metavar="SCENARIO", nargs="*", help="names, or FILE.py:NAME (default: all built-in scenarios)"
    )
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="the folder of the store")
    several = "several with commas"
    parser.add_argument(
        "--kernel",
        action="append",
        help=f"kernels, {several}, steps of v4 too, or all for the ten profiles (default: {defaults.KERNEL})",
    )
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar='"+P -FIX"',
        help="a variant of each kernel: patches laid over it, fixes taken out; '' is the kernel as it is. With = if "
        "the first word is a fix: --variant=-FIX",
    )
    parser.add_argument(
        "--sweep", action="append", default=[], metavar="NAME=A..B", help="values of a knob: A..B, or V,V"
    )
    parser.add_argument(
        "--swarm", type=natural, default=0, metavar="N", help="draw N more cells for each epoch: knobs, CPUs, faults"
    )
    parser.add_argument(
        "--strategy", action="append", help=f"strategies, {several} (default: {defaults.STRESS_STRATEGY})"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of all random choices (default: 0)")
    add_machine(parser)
    parser.add_argument(
        "--budget", type=positive, metavar="SCHEDULES", help="stop after so many, in all parts together"
    )
    parser.add_argument("--soak", type=hours, metavar="HOURS", help="stop this part after this time")
    parser.add_argument(
        "--until-quiet",
        type=share,
        metavar="P",
        help="stop when the estimated chance of a new class within an hour falls below P",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help=f"processes (default: one for each CPU; at most {defaults.MOST_PER_CPU} for each)",
    )
    parser.add_argument("--cluster", metavar="ADDRESS", help="run the jobs on a cluster of dask.distributed")
    parser.add_argument(
        "--memory",
        type=positive,
        default=defaults.STRESS_MEMORY,
        metavar="MIB",
        help=f"replace a worker that uses more (default: {defaults.STRESS_MEMORY})",
    )
    parser.add_argument(
        "--job-seconds",
        type=positive,
        default=defaults.STRESS_JOB_SECONDS,
        metavar="S",
        help=f"replace a worker whose job takes longer (default: {defaults.STRESS_JOB_SECONDS})",
    )
    parser.add_argument(
        "--trio-share",
        type=share,
        default=0.0,
        metavar="P",
        help="run this share of the jobs under the Trio driver, too; the answers have to agree",
    )
    parser.add_argument("--events", metavar="FILE", help="append the events as JSON lines; - is standard output")
    add_json(parser)


def _try(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "patches", nargs="+", metavar="PATCH", help="a fix (slug or commit id) or a patch file; several: all together"
    )
    parser.add_argument("--kernel", help=f"kernel profile: {KERNELS} (default: {defaults.KERNEL})")
    parser.add_argument("--seed", type=seed, default=0, help="seed of all random choices, on both sides (default: 0)")
    add_machine(parser)
    parser.add_argument(
        "--scenario",
        dest="scenarios",
        action="append",
        default=[],
        metavar="S",
        help="only this stage: a name, or FILE.py:NAME (default: all built-in scenarios)",
    )
    parser.add_argument(
        "--allocator", choices=ALLOCATORS, help="the allocator of all stages (default: each stage's own)"
    )
    parser.add_argument(
        "--budget",
        type=positive,
        metavar="SCHEDULES",
        help=f"schedules of each stage, on each side (default: {defaults.TRY_BUDGET}, or no limit with --time)",
    )
    parser.add_argument("--time", type=positive, metavar="SECONDS", help="divide this time among the stages and sides")
    add_workers(parser)
    parser.add_argument("--no-log", action="store_true", help="do not log new causes")
    add_json(parser)


def _bisect(parser: argparse.ArgumentParser) -> None:
    add_finding(parser)
    parser.add_argument(
        "--budget",
        type=positive,
        default=defaults.BISECT_BUDGET,
        metavar="SCHEDULES",
        help=f"most schedules to search on each kernel (default: {defaults.BISECT_BUDGET})",
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of the searches (default: 0)")
    add_workers(parser)
    add_json(parser)


def _shrink(parser: argparse.ArgumentParser) -> None:
    add_finding(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to log the short run (default: LOG.short.log)")
    add_force(parser)
    parser.add_argument("--budget", type=positive, metavar="RUNS", help="at most this many runs")
    parser.add_argument("--seconds", type=positive, metavar="S", help="at most this many seconds")
    parser.epilog = (
        f"Without --budget and --seconds, it stops after {defaults.SHRINK_RUNS} runs or {defaults.SHRINK_SECONDS} "
        "seconds. If one of them is given, only that limit applies."
    )
    add_json(parser)


def _match(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trace", type=Path, metavar="TRACE", help="text of ftrace's function tracer (tracing/trace)")
    parser.add_argument("--kernel", required=True, help=f"kernel profile: {KERNELS}")
    parser.add_argument(
        "--scenario",
        action="append",
        default=[],
        metavar="S",
        help=f"scenario that was traced (default: {', '.join(defaults.TRACED)})",
    )
    add_set(parser, "set a knob of the scenario")
    add_patch(parser)
    add_without(parser)
    parser.add_argument("--filter", type=Path, metavar="FILE", help="set_ftrace_filter when the trace was taken")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="FUNCTION", help="do not compare this function"
    )
    parser.add_argument("--open-end", action="store_true", help="the tracer was stopped before quiescence")
    parser.add_argument(
        "--budget",
        type=positive,
        default=defaults.MATCH_BUDGET,
        metavar="N",
        help=f"most schedules to try (default: {defaults.MATCH_BUDGET})",
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="log the matching schedule, or its matching part")
    add_force(parser, "--log")
    add_json(parser)


def _growth(parser: argparse.ArgumentParser) -> None:
    workers = defaults.GROWTH_WORKERS
    parser.add_argument("--days", type=natural, default=7, metavar="N", help="days to simulate (7); 0: day 0 only")
    parser.add_argument("--hosts", type=positive, metavar="N", help=f"how many hosts ({defaults.HOSTS})")
    parser.add_argument("--kernel", default="5.3", help=f"to compare with original: one of {KERNELS}")
    parser.add_argument("--seed", type=seed, default=0, help="selects other hosts of the same kind (default: 0)")
    add_set(parser, "a knob of the services")
    parser.add_argument("--workers", type=positive, default=workers, metavar="N", help=f"processes ({workers})")
    parser.add_argument("--walk", action="store_true", help="SLAB: how much its reaper walks, and the waits for it")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures to this file: .svg or .png")
    parser.add_argument("--force", action="store_true", help="replace the files that --csv and --plot name")
    add_json(parser)


def _explain(parser: argparse.ArgumentParser) -> None:
    add_finding(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--format", choices=list(defaults.EXPLAIN_FORMATS), default="text", help="output format (default: text)"
    )
    form.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it to this file, not to standard output")
    add_force(parser)


def _keep(parser: argparse.ArgumentParser) -> None:
    kept = defaults.KEPT
    add_finding(parser, is_needed=False)
    parser.add_argument("--dir", type=Path, default=kept, metavar="DIR", help=f"destination (default: {kept})")
    parser.add_argument("--name", metavar="NAME", help="name of the file (default: made from the finding)")
    parser.add_argument("--force", action="store_true", help="replace the file, if it exists")
    parser.add_argument(
        "--expect",
        choices=[defaults.NOTHING, defaults.FINDING],
        default=defaults.NOTHING,
        help="expectation of the test: that nothing is found, or that the flaw is still there",
    )
    parser.add_argument("--check", type=Path, metavar="DIR", help="run all kept findings in DIR, not keep one")
    add_json(parser)


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", type=log_file, metavar="LOG")
    parser.add_argument("second", type=log_file, metavar="OTHER")
    add_code(parser)


def _selftest(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run schedules twice, which has to give the same records, and swap neighbouring steps that count as "
        "independent, which must not change anything after them."
    )
    add_scenario(parser)
    add_strategy(parser, list(SEARCHES), strategy=PORTFOLIO, driver="stepper")
    add_machine(parser)
    parser.add_argument(
        "--schedules",
        type=natural,
        default=defaults.TWICE,
        metavar="N",
        help=f"number of schedules to run twice (default: {defaults.TWICE}; 0: none)",
    )
    parser.add_argument(
        "--pairs",
        type=natural,
        default=defaults.PAIRS,
        metavar="N",
        help=f"number of pairs of steps to swap, in random walks (default: {defaults.PAIRS}; 0: none)",
    )
    add_json(parser)


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")
    parser.description = "Print a completion script; docs/commands.md says where to put it."


def add_store(parser: argparse.ArgumentParser) -> None:
    """The store of `stress`."""
    parser.add_argument("store", type=Path, metavar="STORE", help="the folder of a store of slabrace stress")


def _query(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument(
        "question",
        nargs="?",
        metavar="QUESTION",
        choices=list(defaults.QUESTIONS),
        default="summary",
        help=f"one of {', '.join(defaults.QUESTIONS)} (default: summary)",
    )
    add_json(parser, "print a JSON list of objects instead")


def _bugs(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("ids", type=positive, nargs="*", metavar="ID", help="only these bugs (default: all)")
    parser.add_argument("--note", metavar="TEXT", help="keep a note on them")
    state = parser.add_mutually_exclusive_group()
    for name, text in (
        ("open", "nobody has judged them: a campaign that shows them fails"),
        ("known", "they are real, and known"),
        ("fixed", "they are mended; a later campaign that shows one opens it again"),
        ("invalid", "they are no flaws of the kernel"),
    ):
        state.add_argument(f"--{name}", dest="state", action="store_const", const=name, help=text)
    state.add_argument("--dup", type=positive, metavar="OF", help="they are symptoms of bug OF")
    add_json(parser, "print a JSON list of objects instead")


def _report(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"write the HTML page there (default: {defaults.STRESS_REPORT})"
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit file; new causes are its failures")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a screen of Markdown, for a CI's summary")
    parser.add_argument("--force", action="store_true", help="replace these files, if they exist")
    parser.add_argument(
        "--seconds",
        type=natural,
        default=defaults.STRESS_REPORT_SECONDS,
        metavar="S",
        help="most seconds to shrink and explain the logs of causes "
        f"(default: {defaults.STRESS_REPORT_SECONDS}; 0: none)",
    )
    parser.add_argument("--shrink-all", action="store_true", help="shrink and explain known causes, too")
    add_trust(parser)


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "list": ("list scenarios, kernels, patches, strategies, oracles or operations", _list),
    "run": ("run a scenario once, and log it", _run),
    "replay": ("make the choices of a log again", _replay),
    "log": ("print the steps of a log", _log),
    "slabinfo": ("print a file of the simulated kernel at some step of a log", _slabinfo),
    "explore": ("search many schedules of a scenario for flaws", _explore),
    "stress": ("run a campaign of schedules over many scenarios and kernels, with a store", _stress),
    "try": ("try a patch: what it makes, cures and masks, on every stage that reaches it", _try),
    "bisect": ("look for the flaw of a log on all kernels: introduced by, cured by, masked by", _bisect),
    "shrink": ("make the schedule of a failing run as short as possible", _shrink),
    "match": ("search for the schedule that a kernel's function trace shows", _match),
    "growth": ("simulate hosts for days, and compare with figures of production hosts", _growth),
    "explain": ("explain why a run fails, as text or drawn", _explain),
    "keep": ("keep a finding as a regression file and a test, or check the kept findings", _keep),
    "compare": ("compare the remains of two runs of a scenario side by side", _compare),
    "selftest": ("test on a scenario that runs repeat, and that independent steps commute", _selftest),
    "query": ("answer questions about the store of a stress campaign", _query),
    "bugs": ("list the causes in a store, or mark them as known, fixed, duplicate or invalid", _bugs),
    "report": ("write a report of a stress campaign: a page, a JUnit file, a summary for a CI", _report),
    "completion": ("print a script for a shell that completes commands and options", _completion),
}
"""Each command with its line of help, and the function that adds its options."""
