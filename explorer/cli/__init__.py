"""The command line.

Exit codes: 0 nothing found, 1 finding, 2 usage, 3 internal error, 4 diverged, 5 not exhausted (if that was required);
interrupted: 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import metadata

from explorer import signals
from explorer.blame import leave_abandoned_flows_alone
from explorer.cli.catalogue import add_list
from explorer.cli.completion import add_completion
from explorer.cli.explain import add_explain
from explorer.cli.failing import add_shrink
from explorer.cli.files import add_slabinfo
from explorer.cli.growth import add_growth
from explorer.cli.keep import add_keep
from explorer.cli.match import add_match
from explorer.cli.parser import Parser
from explorer.cli.runs import add_log, add_replay, add_run
from explorer.cli.search import add_explore
from explorer.determinism import NotTheSameError
from explorer.signals import EXIT_INTERRUPTED
from explorer.streams import complain, on_standard_streams, tell
from explorer.workers import WorkerLostError
from protocol.errors import UsageError

EXIT_USAGE, EXIT_INTERNAL, EXIT_DIVERGED = 2, 3, 4


@on_standard_streams
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    leave_abandoned_flows_alone()
    with signals.caught():
        try:
            code = _run(arguments)
        except KeyboardInterrupt:
            code = EXIT_INTERRUPTED
        return signals.exit_code(code)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = make_parser().parse_args(arguments)
        code: int = options.command(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        complain(str(error))
        return EXIT_USAGE
    except (NotTheSameError, WorkerLostError) as error:
        complain(str(error))
        return EXIT_DIVERGED if isinstance(error, NotTheSameError) else EXIT_INTERNAL
    except Exception as error:  # noqa: BLE001 -- whatever is left is our error, and is called so
        if comes_of_a_signal(error):
            return EXIT_INTERRUPTED
        for line in traceback.format_exc().splitlines():
            tell(line)
        complain("internal error: this is a bug of slabrace, please report it")
        return EXIT_INTERNAL
    return code


def comes_of_a_signal(error: BaseException | None) -> bool:
    """Whether this is no error of its own: somebody (Trio) made it of a second Ctrl-C."""
    while error is not None and not isinstance(error, signals.Interrupted):
        error = error.__cause__ or error.__context__
    return error is not None


def make_parser() -> Parser:
    """The commands and their options."""
    parser = Parser(prog="slabrace", description="A race laboratory for the Linux slab/memcg lifecycle.")
    parser.add_argument("--version", action="version", version=f"slabrace {metadata.version('slabrace')}")
    parser.set_defaults(command=lambda _: show_help(parser))
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=Parser)
    add_list(commands.add_parser("list", help="what there is to choose from"))
    add_run(commands.add_parser("run", help="run a scenario once, and log it"))
    add_replay(commands.add_parser("replay", help="make the choices of a log again"))
    add_log(commands.add_parser("log", help="print the steps of a log"))
    add_slabinfo(commands.add_parser("slabinfo", help="print a file of the simulated kernel at some step of a log"))
    add_explore(commands.add_parser("explore", help="search many schedules of a scenario for flaws"))
    add_shrink(commands.add_parser("shrink", help="make the schedule of a failing run as short as it can be"))
    add_match(commands.add_parser("match", help="search for the schedule that a kernel's function trace shows"))
    add_growth(commands.add_parser("growth", help="simulate hosts for days, beside what production hosts showed"))
    add_explain(commands.add_parser("explain", help="say why a run fails, and draw it"))
    add_keep(commands.add_parser("keep", help="keep a finding as a regression file and a test, or check those kept"))
    add_completion(commands.add_parser("completion", help="print a script that lets a shell complete all this"), parser)
    parser.commands = commands.choices
    return parser


def show_help(parser: Parser) -> int:
    """Without a command: the help, and an exit code by which no script reads that nothing was found."""
    parser.print_help(sys.stderr)
    return EXIT_USAGE
