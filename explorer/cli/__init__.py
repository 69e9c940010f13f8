"""The command line.

Exit codes: 0 nothing found, 1 finding, 2 usage, 3 internal error, 4 diverged, 5 not exhausted (with
`--require-exhausted`). If interrupted: 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence

from explorer import signals
from explorer.abandoned import drop_warnings, leave_abandoned_flows_alone, warnings_held
from explorer.cli.parser import Parser
from explorer.cli.usage import make_parser
from explorer.garbage import paused
from explorer.signals import EXIT_INTERRUPTED
from explorer.streams import complain, on_standard_streams, tell
from protocol.errors import InternalError, NoAnswerError, UsageError

MODULES = {"try": "try_"}
"""The modules of commands whose name is a keyword of Python."""


@on_standard_streams
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    leave_abandoned_flows_alone()
    with signals.caught(), warnings_held() as held:
        code = _run_to_the_end(arguments)
        if code == UsageError.exit_code:
            drop_warnings(held)
        return signals.exit_code(code)


def _run_to_the_end(arguments: Sequence[str] | None) -> int:
    """Run one command; whenever a signal comes, and however often, return an exit code."""
    try:
        try:
            return _run(arguments)
        finally:
            signals.ignore_further()  # a signal that is raised right before this has the handler around it
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    try:
        parser = make_parser()
        options = parser.parse_args(arguments)
        if options.command is None:
            return show_help(parser)
        with paused():
            command = importlib.import_module(f"explorer.cli.{MODULES.get(options.command, options.command)}")
        code: int = command.main(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (UsageError, NoAnswerError) as error:
        complain(str(error))
        return error.exit_code
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 -- slabrace's own error, and reported as such
        if comes_of_a_signal(error):
            return EXIT_INTERRUPTED
        for line in traceback.format_exc().splitlines():
            tell(line)
        complain(f"internal error: this is a bug of slabrace, please report it{_other_causes()}")
        return InternalError.exit_code
    return code


def _other_causes() -> str:
    """What is to be said in addition if code of the user's has run: it can break slabrace in ways that nothing sees."""
    from protocol.blame import RAN  # noqa: PLC0415 -- most commands never need it

    return f"; or it comes of code of yours that ran here ({', '.join(RAN)}): try without it" if RAN else ""


def comes_of_a_signal(error: BaseException | None) -> bool:
    """Whether *error* is a signal in another form: Trio, for one, turns it into its own error, or into a group."""
    if isinstance(error, BaseExceptionGroup):
        return any(comes_of_a_signal(one) for one in error.exceptions)
    if error is None or isinstance(error, signals.Interrupted):
        return error is not None
    return comes_of_a_signal(error.__cause__ or error.__context__)


def show_help(parser: Parser) -> int:
    """Print the help if no command is given; the exit code is not 0, which scripts read as nothing found."""
    parser.print_help(sys.stderr)
    return UsageError.exit_code
