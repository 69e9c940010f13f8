"""Whose fault it is when Python code of a run goes wrong: never the kernel's, but the user's, or ours.

A patch or a scenario of the user's runs as a part of the machine, and may do anything that Python can do. What it may
not do ends the run with one line that names its file and its line, whatever it raises to say so: the end of the
process (SystemExit), a signal that nobody sent (KeyboardInterrupt), or what Trio and Python keep for themselves.
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
from protocol.blame import MACHINE, SLABRACE, in_words, is_interrupt, place_in, places_of
from protocol.errors import InternalError, UsageError
from protocol.findings import Oops


@attrs.define(eq=False)
class Blame:
    """A `with` block in which code of the user's may run, from *patches* and other *files*: UsageError if it is wrong.

    If the steps of *world* stand still for too long, the block ends, too.
    """

    patches: tuple[str, ...]
    files: tuple[str, ...] = ()
    world: World | None = None
    _watchdog: Watchdog = attrs.field(init=False)
    _stdout: TextIO = attrs.field(init=False)

    def __enter__(self) -> None:
        self._stdout = sys.stdout
        if self.patches or self.files:
            sys.stdout = sys.stderr  # a command's answer is not the user's code's
        self._watchdog = Watchdog(self._steps, (*self.patches, *self.files), self.of)
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
        """Whether it is meant as it is: a signal, a flaw of the kernel, or what is said of options; not by a patch."""
        if isinstance(error, UsageError):
            return places_of(error)[-1][0] not in self.patches
        return isinstance(error, Oops) or is_interrupt(error)

    def _steps(self) -> int:
        return self.world.steps if self.world is not None else 0

    def of(self, error: BaseException) -> Exception | None:
        """What to raise instead of *error*: the user's, or ours if it would not be taken for one; None if it would.

        What a patch did to the machine may come out anywhere: if there is one, and nothing of it is on the stack, it is
        named beside the place.
        """
        place = place_in(self.patches if isinstance(error, InternalError) else (*self.patches, *self.files), error)
        if place is not None:
            option = "--patch " if place[0] in self.patches else ""
            return UsageError(f"{option}{place[0]}, line {place[1]}, in {place[2]}: {in_words(error)}")
        if isinstance(error, KeyboardInterrupt):
            return None
        within = [place for place in places_of(error) if place[0].startswith(SLABRACE)]
        if self.patches and within and within[-1][0].startswith(MACHINE) and not isinstance(error, InternalError):
            file, line, function = within[-1]
            where = f"{Path(file).name}:{line}, in {function}"
            names = ", ".join(self.patches)
            return UsageError(f"--patch {names}: the machine breaks with it at {where}: {in_words(error)}; {RULE}")
        return None if isinstance(error, Exception) else InternalError(in_words(error))
