"""A stricter argparse: one-line errors, no abbreviated, repeated, unknown or ignored options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from protocol.errors import UsageError
from protocol.names import no_such


class Parser(argparse.ArgumentParser):
    """A parser for a command's options, or for all commands; an error in the arguments is a UsageError.

    Options cannot be abbreviated: in a script, `--bud` could mean another option with the next version. An option with
    a single value can be given once only. The options that were given are in `given` of the namespace, for commands
    whose options exclude each other.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self.commands: Mapping[str, argparse.ArgumentParser] = {}

    def error(self, message: str) -> NoReturn:
        """Raise *message* as a UsageError; main() turns it into exit code 2."""
        msg = f"{message}; see {self.prog} --help"
        raise UsageError(msg)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, and refuse unknown arguments."""
        words = list(sys.argv[1:] if args is None else args)
        given = self._given(words)
        parsed, unknown = super().parse_known_args(words, namespace)
        if unknown:
            self.error(f"{unknown[0]}: unexpected argument")
        if not self.commands:
            parsed.given = given
        return parsed, unknown

    def _given(self, words: Sequence[str]) -> frozenset[str]:
        """The options among *words*, up to a command; UsageError if one is unknown or given twice."""
        known, given = self._option_string_actions, set[str]()
        for word in words:
            name = word.partition("=")[0]
            if word == "--" or (self.commands and not word.startswith("-")):
                break
            if not name.startswith("--") or " " in name:
                continue
            if name not in known:
                msg = f"{name}: {no_such('option', name, known, see=f'{self.prog} --help')}"
                raise UsageError(msg)
            action = known[name]
            if name in given and action.nargs != 0 and not isinstance(action.default, list):
                self.error(f"{name}: it is given twice")
            given.add(name)
        return frozenset(given)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Check as argparse does, but suggest a similar value."""
        if action.choices is not None and value not in action.choices:
            what = "command" if action.choices is self.commands else "choice"
            raise argparse.ArgumentError(action, f"{value}: {no_such(what, str(value), action.choices)}")


def refuse(options: argparse.Namespace, mode: str, ignored: Sequence[str]) -> None:
    """UsageError if an option is given that has no effect in *mode*."""
    for option in ignored:
        if option in options.given:
            msg = f"{mode}: leave out {option}, it would have no effect"
            raise UsageError(msg)


def needs(options: argparse.Namespace, option: str, *others: str) -> None:
    """UsageError if *option* is given without any of the *others* that it modifies."""
    if option in options.given and not options.given.intersection(others):
        msg = f"{option}: it is about {' and '.join(others)}, which {'is' if len(others) == 1 else 'are'} not given"
        raise UsageError(msg)
