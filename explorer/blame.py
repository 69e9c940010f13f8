"""Attribute Python errors in a run to the user's code or to slabrace, never to the simulated kernel.

A patch or a scenario of the user's runs as a part of the machine, and can do anything that Python can do. A forbidden
action ends the run with one line that names the user's file and line, whatever exception it raises: SystemExit, a
KeyboardInterrupt without a signal, or an exception that Trio and Python reserve for themselves.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Literal, TextIO

import attrs

from actors.system.world import World
from actors.versions.patch_rules import RULE
from explorer.watchdog import Watchdog
from protocol.blame import MACHINE, SLABRACE, UserCode, has_place, in_words, is_interrupt, places_of
from protocol.errors import InternalError, UsageError
from protocol.findings import Oops


@attrs.define(eq=False)
class Blame:
    """A `with` block in which user code from *patches* and other *files* may run; its errors become UsageErrors.

    If the steps of *world* stand still for too long, the block ends, too. *reach* are the prefixes of the code whose
    errors the user's code may cause without being on the stack.
    """

    patches: tuple[str, ...]
    files: tuple[str, ...] = ()
    world: World | None = None
    reach: tuple[str, ...] = MACHINE
    _code: UserCode = attrs.field(init=False)
    _watchdog: Watchdog = attrs.field(init=False)
    _stdout: TextIO = attrs.field(init=False)

    def __enter__(self) -> None:
        self._stdout = sys.stdout
        if self.patches or self.files:
            sys.stdout = sys.stderr  # standard output is for the command's answer only
        self._code = UserCode((*self.patches, *self.files))
        self._watchdog = Watchdog(self._steps, self._code, self.of)
        self._watchdog.start()

    def __exit__(self, _kind: object, error: BaseException | None, _tb: TracebackType | None) -> Literal[False]:
        self._watchdog.stop()
        sys.stdout = self._stdout
        if self.world is not None and self.world.spoiled is not None:
            error = self.world.spoiled
        if error is not None and not self._speaks_for_itself(error):
            blamed = self.of(error)
            if blamed is not None:
                raise blamed from error
        return False

    def _speaks_for_itself(self, error: BaseException) -> bool:
        """Whether *error* is raised as it is: a signal, a flaw of the kernel, or a UsageError that says where it is."""
        return isinstance(error, Oops) or is_interrupt(error) or (isinstance(error, UsageError) and has_place(error))

    def _steps(self) -> int:
        return self.world.steps if self.world is not None else 0

    def of(self, error: BaseException) -> Exception | None:
        """The error to raise instead of *error*: UsageError for the user's code, or InternalError; None to keep it.

        The effect of user code on the machine may surface anywhere. So if files are given and none of their code is on
        the stack, the message names them beside the place.
        """
        where = self._code.place_in_words(error)
        if where:
            option = "--patch " if where.startswith(tuple(f"{patch}, line " for patch in self.patches)) else ""
            return UsageError(f"{option}{where}{in_words(error)}")
        if isinstance(error, KeyboardInterrupt | UsageError):
            return None
        within = [place for place in places_of(error) if place[0].startswith(SLABRACE)]
        guests = self.patches or self.files
        if guests and within and within[-1][0].startswith(self.reach) and not isinstance(error, InternalError):
            file, line, function = within[-1]
            where = f"{Path(file).name}:{line}, in {function}"
            names = ("--patch " if self.patches else "") + ", ".join(dict.fromkeys(guests))
            rule = f"; {RULE}" if self.patches else ""
            return UsageError(f"{names}: the machine breaks with it at {where}: {in_words(error)}{rule}")
        return None if isinstance(error, Exception) else InternalError(in_words(error))
