"""`python -m benchmarks [NAME ...] [--json] [--full] [--write]`: run the benchmarks and print their results.

The studies (`bugs`, `findings`, `mutants`, ...) take long, have options of their own, and run only when named.

Exit codes: 0 every goal is met, 1 a goal is missed, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from benchmarks import performance
from benchmarks.registry import BENCHMARKS, STUDIES, summary
from benchmarks.report import Report, figure, machine_line, to_json
from benchmarks.speed import speed
from protocol.errors import UsageError

EXIT_MISSED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        """Raise the error message, which main() turns into exit code 2."""
        raise UsageError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that *arguments* name; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given and given[0] in STUDIES:
            return run_study(given[0], given[1:])
        options = make_parser().parse_args(given)
        names = find_benchmarks(options.names)
        check_options(options, names)
        reports = [_measure(name, options) for name in names]
        if options.write:
            performance.write(reports)
    except UsageError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if options.json:
        print(json.dumps(to_json(reports)))
    return 0 if all(report.is_met for report in reports) else EXIT_MISSED


def run_study(name: str, arguments: Sequence[str]) -> int:
    """Run a study with its own options; return the exit code."""
    study = STUDIES[name]
    parser = Parser(
        prog=f"python -m benchmarks {name}", description=(study.__doc__ or "").partition("\n")[0], allow_abbrev=False
    )
    study.add_options(parser)
    return study.run(parser.parse_args(arguments))


def make_parser() -> Parser:
    """The arguments, and the benchmarks in the epilog."""
    summaries = " ".join(f"{name}: {summary(name)}" for name in BENCHMARKS)
    summaries += f" Studies, each with options of its own: {', '.join(STUDIES)}."
    parser = Parser(
        prog="python -m benchmarks",
        description="How fast slabrace is, as ratios.",
        epilog=summaries,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of {', '.join(BENCHMARKS)}")
    parser.add_argument(
        "--full", action="store_true", help="speed: exact searches to their end, and a million schedules; hours"
    )
    parser.add_argument(
        "--write", action="store_true", help="search, speed: write the tables into docs/performance.md, too"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return parser


def find_benchmarks(names: Sequence[str]) -> list[str]:
    """The benchmarks to run, each once; UsageError lists the known ones."""
    for name in names:
        if name not in BENCHMARKS and name != "all":
            msg = f"{name}: there is no such benchmark; there are {', '.join(BENCHMARKS)}"
            raise UsageError(msg)
    return list(BENCHMARKS) if not names or "all" in names else list(dict.fromkeys(names))


def check_options(options: argparse.Namespace, names: Sequence[str]) -> None:
    """UsageError if an option is for none of the benchmarks."""
    for option, known in (("full", ("speed",)), ("write", performance.PLACES)):
        if getattr(options, option) and not set(names) & set(known):
            msg = f"--{option} is for {' and '.join(known)}"
            raise UsageError(msg)


def _measure(name: str, options: argparse.Namespace) -> Report:
    with _working_on(name):
        report = speed(is_full=True) if name == "speed" and options.full else BENCHMARKS[name]()
    if not options.json:
        show(report, Console(highlight=False, width=None if sys.stdout.isatty() else 120))
    return report


@contextmanager
def _working_on(name: str) -> Iterator[None]:
    """A static line on the terminal during the measurement, which an animation would disturb."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    console.print(f"{name}: measuring ...", end="\r")
    try:
        yield
    finally:
        console.print(" " * console.width, end="\r")


# -- tables -----------------------------------------------------------------------------------------------------------


def show(report: Report, console: Console) -> None:
    """The rates, the ratios with their goals, and the notes."""
    console.print(f"[bold]{report.name}[/]: {summary(report.name)}")
    console.print(_rates(report))
    console.print(_goals(report))
    for failure in report.failures:
        console.print(failure, style="red", markup=False, soft_wrap=True)
    for note in (*report.notes, machine_line(report.machine)):
        console.print(f"- {note}", soft_wrap=True)
    console.print()


def _rates(report: Report) -> Table:
    table = Table("measured")
    table.add_column("rate", justify="right")
    table.add_column("unit")
    for row in report.rows:
        table.add_row(row.label, figure(row.value), row.unit)
    return table


def _goals(report: Report) -> Table:
    table = Table("ratio")
    for column in ("value", "goal"):
        table.add_column(column, justify="right")
    table.add_column("met")
    for ratio in report.ratios:
        goal = "" if ratio.goal is None else f"{ratio.sense} {ratio.goal:g}"
        verdict = "" if ratio.goal is None else "[green]yes[/]" if ratio.is_met else "[red]no[/]"
        table.add_row(ratio.name, f"{ratio.value:.2f}", goal, verdict)
    return table


if __name__ == "__main__":
    sys.exit(main())
