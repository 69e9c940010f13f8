"""The declaration of a scenario and of its parameters.

A scenario is a function that sets the stage: it boots a machine, adds tasks, and states properties that must hold. It
never fixes an order of steps; the strategy does. A `Knob` is a parameter that `--set name=value` changes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs

from actors.versions.user_code import check_declared
from protocol.errors import UsageError
from protocol.formats.columns import MAX_DIGITS
from protocol.formats.slabinfo import parse_slabinfo
from protocol.formats.textfile import read_bounded
from protocol.names import no_such

if TYPE_CHECKING:
    from scenarios.stage import Stage

DEFAULT_CAPTURE = "slabinfo-linux-6.18-2cpu.txt"


@attrs.frozen
class Knob:
    """One parameter of a scenario: a whole number within bounds, one of several words, or the caches of a machine.

    With `is_slabinfo` the user gives the path of a /proc/slabinfo capture. The value is the text of this file, so that
    a log is complete without the file.
    """

    name: str
    summary: str
    default: Any
    least: int = 0
    most: int = 1_000_000
    choices: tuple[str, ...] = ()
    is_slabinfo: bool = False

    def __attrs_post_init__(self) -> None:
        """Refuse a declaration whose default no user could give: TypeError, which is shown with its line."""
        is_word = isinstance(self.name, str) and self.name.isidentifier()
        if not (is_word and isinstance(self.summary, str) and all(isinstance(one, str) for one in self.choices)):
            msg = f"Knob {self.name!r:.40}: its name is an identifier, its summary and choices are texts"
            raise TypeError(msg)
        if not self.is_slabinfo and not self._is_valid(self.default):
            msg = f"Knob {self.name}: its default {self.default!r:.40} is not {self.values_in_words}"
            raise TypeError(msg)

    def _is_valid(self, value: object) -> bool:
        if self.choices:
            return value in self.choices
        return type(value) is int and self.least <= value <= self.most

    @property
    def values_in_words(self) -> str:
        """The values that it may be set to, for help texts."""
        if self.is_slabinfo:
            return "a file"
        return "|".join(self.choices) or f"{self.least} to {self.most}"

    def parse(self, text: str) -> Any:
        """The parameter's value for *text* as typed by the user; UsageError if *text* is not valid."""
        if self.is_slabinfo:
            return read_capture(Path(text))
        if not self.choices:
            return self._parse_number(text)
        if text not in self.choices:
            msg = f"--set {self.name}={text}: {no_such('choice', text, self.choices)}"
            raise UsageError(msg)
        return text

    def check(self, value: Any, source: str) -> None:
        """Raise a UsageError that names *source* if a recorded value is not valid."""
        if self.is_slabinfo:
            parse_slabinfo(value if isinstance(value, str) else "", source=source)
        elif not self._is_valid(value):
            msg = f"{source}: {self.name} cannot be {value!r:.60}"
            raise UsageError(msg)

    def _parse_number(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS and self.least <= int(text) <= self.most):
            msg = f"--set {self.name}={text}: give a whole number from {self.least} to {self.most}"
            raise UsageError(msg)
        return int(text)


@attrs.frozen
class Scenario:
    """A scenario with its stable name; `build` sets the stage.

    `also` are further names for it: the slugs of the flaws that it can show.
    """

    name: str
    summary: str
    knobs: tuple[Knob, ...]
    build: Callable[[Stage], None]
    also: tuple[str, ...] = ()

    def values(self, settings: Mapping[str, str], recorded: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """The values of all parameters: from *settings* (as typed), else as *recorded*, else the defaults.

        A typed value may be the path of a file, which is read here. A recorded value is used as it is: the caller has
        checked it.
        """
        known = {knob.name: knob for knob in self.knobs}
        for name in settings:
            if name not in known:
                msg = f"--set {name}: {no_such(f'knob of {self.name}', name, known)}"
                raise UsageError(msg)
        typed = {name: known[name].parse(text) for name, text in settings.items()}
        return {
            name: typed[name] if name in typed else recorded[name] if name in recorded else default_value(knob)
            for name, knob in known.items()
        }

    def check(self, recorded: Mapping[str, Any], source: str) -> None:
        """Raise a UsageError that names *source* if a recorded value is not valid for its parameter."""
        known = {knob.name: knob for knob in self.knobs}
        for name, value in recorded.items():
            if name not in known:
                msg = f"{source}: {self.name} has no knob {name!r}; it has {', '.join(known)}"
                raise UsageError(msg)
            known[name].check(value, source)


def default_value(knob: Knob) -> Any:
    """The value of a parameter that the user does not set."""
    if knob.is_slabinfo:
        return resources.files("scenarios").joinpath("data", knob.default).read_text(encoding="utf-8")
    return knob.default


def read_capture(path: Path) -> str:
    """The text of a /proc/slabinfo capture; UsageError with file and line if the file is not a valid capture."""
    try:
        text = read_bounded(path).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        msg = f"{path}, line {line}: this is not text, let alone /proc/slabinfo"
        raise UsageError(msg) from None
    parse_slabinfo(text, source=str(path))
    return text


SLABINFO = Knob(
    "slabinfo",
    "the machine's caches: the path of a /proc/slabinfo capture (format 2.1)",
    DEFAULT_CAPTURE,
    is_slabinfo=True,
)
CPUS = Knob("cpus", "CPUs of the machine", 2, least=1, most=64)
NODES = Knob("nodes", "NUMA nodes of the machine, over which the CPUs are spread", 1, least=1, most=8)
ALLOCATOR = Knob("allocator", "which slab allocator the kernel is built with", "slub", choices=("slub", "slab"))
CGROUP = Knob("cgroup", "which version of cgroups is mounted", "v2", choices=("v1", "v2"))
MEMORY = Knob(
    "memory", "short: an allocation of pages may have to reclaim and sleep", "plenty", choices=("plenty", "short")
)
RCU = Knob("rcu", "grace periods; eager: one for each callback", "batched", choices=("batched", "eager"))
MACHINE = (CPUS, NODES, ALLOCATOR, CGROUP, SLABINFO)
"""The parameters of the machine that every scenario has."""


def machine(**defaults: Any) -> tuple[Knob, ...]:
    """The parameters of MACHINE, with other *defaults* for some of them."""
    return tuple(attrs.evolve(knob, default=defaults.get(knob.name, knob.default)) for knob in MACHINE)


def scenario(
    name: str, summary: str, *knobs: Knob, also: tuple[str, ...] = ()
) -> Callable[[Callable[[Stage], None]], Scenario]:
    """Declare a scenario; the function becomes its `build`."""

    def declare(build: Callable[[Stage], None]) -> Scenario:
        check_declared("scenario", name, summary, build, "stage")
        names = [getattr(knob, "name", "") for knob in knobs]
        if len(set(names)) < len(names):
            msg = f"the scenario {name} has two parameters of one name"
            raise TypeError(msg)
        if inspect.isgeneratorfunction(build) or not all(isinstance(knob, Knob) for knob in knobs):
            msg = f"the scenario {name} is a function that does not yield, and takes parameters that are Knobs"
            raise TypeError(msg)
        return Scenario(name, summary, knobs, build, also)

    return declare
