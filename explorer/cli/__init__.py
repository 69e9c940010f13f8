"""The command line. Exit codes: 0 nothing found, 1 finding, 2 usage, 3 internal error, 4 diverged, 130 interrupted."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from explorer.blame import leave_abandoned_flows_alone
from explorer.cli.catalogue import add_list
from explorer.cli.explain import add_explain
from explorer.cli.failing import add_shrink
from explorer.cli.files import add_slabinfo
from explorer.cli.growth import add_growth
from explorer.cli.keep import add_keep
from explorer.cli.match import add_match
from explorer.cli.options import Parser
from explorer.cli.runs import add_log, add_replay, add_run
from explorer.cli.search import add_explore
from explorer.determinism import NotTheSameError
from protocol.errors import UsageError

EXIT_USAGE, EXIT_INTERNAL, EXIT_DIVERGED, EXIT_INTERRUPTED = 2, 3, 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    leave_abandoned_flows_alone()
    try:
        options = make_parser().parse_args(arguments)
        code: int = options.command(options)
    except UsageError as error:
        print("slabrace:", " ".join(str(error).split("\n")), file=sys.stderr)  # noqa: T201 -- the one line of a usage error
        return EXIT_USAGE
    except NotTheSameError as error:
        print(f"slabrace: {error}", file=sys.stderr)  # noqa: T201 -- as above
        return EXIT_DIVERGED
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
    return parser
