"""The command about real kernels: `match`."""

from __future__ import annotations

import argparse
from pathlib import Path

from actors.versions.profiles import PROFILES
from explorer.cli.options import add_force, add_json, add_patch, check_once, positive, settings
from explorer.cli.parser import needs
from explorer.match.command import BUDGET, SCENARIOS, match


def add_match(parser: argparse.ArgumentParser) -> None:
    """`match`."""
    parser.add_argument("trace", type=Path, metavar="TRACE", help="text of ftrace's function tracer (tracing/trace)")
    parser.add_argument("--kernel", required=True, help=f"kernel profile: {', '.join(PROFILES)}")
    parser.add_argument(
        "--scenario", action="append", default=[], metavar="S", help=f"what was run (default: {', '.join(SCENARIOS)})"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="set a knob of the scenario")
    add_patch(parser)
    parser.add_argument("--without", action="append", default=[], metavar="FIX", help="take a fix out of the kernel")
    parser.add_argument("--filter", type=Path, metavar="FILE", help="set_ftrace_filter when the trace was taken")
    parser.add_argument("--ignore", action="append", default=[], metavar="FUNCTION", help="do not compare that")
    parser.add_argument("--open-end", action="store_true", help="the tracer was stopped before the machine was at rest")
    parser.add_argument("--budget", type=positive, default=BUDGET, metavar="N", help=f"schedules to try ({BUDGET})")
    parser.add_argument("--log", type=Path, metavar="FILE", help="log the schedule, or how far it got")
    add_force(parser, "--log")
    add_json(parser)
    parser.set_defaults(command=_match)


def _match(options: argparse.Namespace) -> int:
    needs(options, "--force", "--log")
    for option, names in (("--scenario", options.scenario), ("--ignore", options.ignore)):
        check_once(option, names)
    return match(options, settings(options.set))
