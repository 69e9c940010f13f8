"""User oracles: functions that inspect the machine and report violations.

    @oracle("tidy-root", "the root cgroup has no more than ten children")
    def tidy_root(machine: Machine) -> Iterator[str]:
        if len(machine.root_cgroup.children) > 10:
            yield "there are more than ten"

An oracle observes from outside: it changes nothing and makes no request, so its check is no step of any flow. `Ledger`
is slabrace's own oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import FunctionType
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from actors.versions.user_code import check_declared
from protocol.errors import UsageError

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.system.flow import Flow

When: TypeAlias = Literal["rest", "step"]

MOST_DETAILS = 8
"""The number of detail lines that a finding shows."""


@attrs.frozen
class Oracle:
    """An oracle by its name; `find` yields a text for each violation.

    With `when` "rest" it checks at each quiescence that a scenario waits for, and at the end of the run; with "step",
    after each step of the run.
    """

    name: str
    summary: str
    find: FunctionType
    when: When = "rest"

    def __attrs_post_init__(self) -> None:
        """Refuse an oracle that cannot work: an error that is shown with the line of the declaration."""
        check_declared("oracle", self.name, self.summary, self.find, "machine")
        if self.when not in ("rest", "step"):
            msg = f"the oracle {self.name} looks when={self.when!r}: give 'rest' or 'step'"
            raise ValueError(msg)
        if not isinstance(self.find, FunctionType):
            msg = f"the oracle {self.name} is a {type(self.find).__name__}: @oracle(...) stands above a function"
            raise TypeError(msg)

    def watch(self, machine: Machine) -> None:
        """Check *machine* from now on, and report a finding of the kind `oracle` for each new violation."""
        world, watching = machine.world, Watching(self, machine)
        if self.when == "step":
            world.checks.append(watching.look)
        else:
            world.rests.append(watching.look)
            world.endings.append(watching.look)


@attrs.define(eq=False)
class Watching:
    """An oracle that checks one machine; a violation that lasts is reported once."""

    oracle: Oracle
    machine: Machine
    is_wrong: bool = False

    def look(self, flow: Flow | None = None) -> None:
        """Check once; *flow* has just stepped."""
        texts = self._texts()
        if texts and not self.is_wrong:
            message, *details = texts
            name = self.oracle.name
            self.machine.world.report("oracle", name, f"{name}: {message}", *details[:MOST_DETAILS], flow=flow)
        self.is_wrong = bool(texts)

    def _texts(self) -> list[str]:
        found: object = self.oracle.find(self.machine)
        texts = list(found) if isinstance(found, Iterable) and not isinstance(found, str | bytes) else None
        if texts is None or not all(isinstance(text, str) and text.isprintable() for text in texts):
            code = self.oracle.find.__code__
            msg = (
                f"{code.co_filename}, line {code.co_firstlineno}: the oracle {self.oracle.name} has to yield texts, "
                "one for each thing that is wrong"
            )
            raise UsageError(msg)
        return texts


def oracle(name: str, summary: str, *, when: When = "rest") -> Callable[[Callable[[Machine], Iterable[str]]], Oracle]:
    """Declare an oracle: its meaning in one line, and *when* it checks (see `Oracle`)."""

    def declare(find: Callable[[Machine], Iterable[str]]) -> Oracle:
        return Oracle(name, summary, find, when)  # type: ignore[arg-type]  # Oracle says so if it is none

    return declare
