"""The declaration of a scenario and of its parameters.

A scenario is a function that sets the stage: it boots a machine, adds tasks, and states properties that must hold. It
never fixes an order of steps; the strategy does. A `Knob` is a parameter that `--set name=value` changes.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs

from actors.versions.user_code import check_declared, is_line
from protocol.errors import UsageError
from protocol.formats.columns import MAX_DIGITS, U64, printable
from protocol.formats.slabinfo import parse_slabinfo
from protocol.formats.textfile import read_bounded
from protocol.names import no_such
from protocol.vocabulary import KERNELS, TODAY

if TYPE_CHECKING:
    from scenarios.stage import Stage

DEFAULT_CAPTURE = "slabinfo-linux-6.18-2cpu.txt"
CAPTURES = (DEFAULT_CAPTURE, "slabinfo-32cpu.txt")
"""The files of `scenarios/data`; only these can be defaults, because every machine has them."""


@attrs.frozen
class Knob:
    """One parameter of a scenario: a whole number within bounds, one of several words, or the caches of a machine.

    With `is_slabinfo` the user gives the path of a /proc/slabinfo capture. The value is the text of this file, so that
    a log is complete without the file.

    With `is_list` the value is any number of those words or numbers, as a text: each once, in their order, with commas
    in between. A list of numbers `leaves_out` the operations with these numbers (`Stage.operations`), and `shrink` adds
    to it. `shrink` lowers other numbers, but not one that `is_seed`: a lower seed makes nothing simpler.
    """

    name: str
    summary: str
    default: Any
    least: int = 0
    most: int = 1_000_000
    choices: tuple[str, ...] = ()
    is_slabinfo: bool = False
    is_list: bool = False
    is_seed: bool = False

    def __attrs_post_init__(self) -> None:
        """Refuse a declaration whose values no user could give, or no log hold: TypeError, shown with its line."""
        wrong = self._mistake()
        if wrong:
            msg = printable(f"Knob {self.name!s:.40}: {wrong}")
            raise TypeError(msg)

    def _mistake(self) -> str:
        """The first mistake of the declaration, in words; empty if there is none."""
        if not (is_line(self.name) and self.name.isidentifier() and is_line(self.summary)):
            return "its name is an identifier, and its summary one line of printable text"
        flags = (self.is_slabinfo, self.is_list, self.is_seed)
        if not (are_lines(self.choices) and all(type(flag) is bool for flag in flags)):
            return "its choices are a tuple of printable texts, and is_slabinfo, is_list and is_seed are True or False"
        if not all(type(bound) is int and -U64 // 2 <= bound < U64 for bound in (self.least, self.most)):
            return "its least and most are whole numbers that a log can hold, from -2**63 to 2**64 - 1"
        if self.is_slabinfo and self.default not in CAPTURES:
            return (
                f"its default {self.default!r:.40} is not one of {', '.join(CAPTURES)}; "
                f"a file of your own is given with --set {self.name}=FILE"
            )
        if not self.is_slabinfo and not self._is_valid(self.default):
            return f"its default {self.default!r:.40} is not {self.values_in_words}"
        is_ambiguous = self.is_list and not self._is_valid(",".join(self.choices))
        return "no choice of a list has a comma" if is_ambiguous else ""

    def lies_within(self, other: Knob) -> bool:
        """Whether every value of this parameter is one of *other*, too."""
        if self.is_slabinfo or other.is_slabinfo:
            return self.is_slabinfo and other.is_slabinfo
        if self.is_list or other.is_list:
            return False
        if self.choices or other.choices:
            return bool(self.choices) and set(self.choices) <= set(other.choices)
        return other.least <= self.least and self.most <= other.most

    def _is_valid(self, value: object) -> bool:
        if self.is_list:
            return isinstance(value, str) and self._is_list_value(value)
        if self.choices:
            return value in self.choices
        return type(value) is int and self.least <= value <= self.most

    def _is_list_value(self, value: str) -> bool:
        """Whether *value* is what `parse` makes of it."""
        try:
            return bool(self.parse(value) == value)
        except UsageError:
            return False

    @property
    def values_in_words(self) -> str:
        """The values that it may be set to, for help texts."""
        if self.is_slabinfo:
            return "a file"
        if self.is_list:
            return f"any of {','.join(self.choices) or f'{self.least} to {self.most}'}"
        return "|".join(self.choices) or f"{self.least} to {self.most}"

    def parse(self, text: str) -> Any:
        """The parameter's value for *text* as typed by the user; UsageError if *text* is not valid."""
        if self.is_slabinfo:
            return read_capture(Path(text))
        if self.is_list:
            return self.joined(self._parse_one(item) for item in _split(text))
        return self._parse_one(text)

    def _parse_one(self, text: str) -> Any:
        """One word or number."""
        if not self.choices:
            return self._parse_number(text)
        if text not in self.choices:
            msg = f"--set {self.name}={text}: {no_such('choice', text, self.choices)}"
            raise UsageError(msg)
        return text

    @property
    def leaves_out(self) -> bool:
        """Whether it lists operations of a generated workload that a run leaves out."""
        return self.is_list and not self.choices

    def joined(self, items: Iterable[Any]) -> str:
        """The value of a list with these words or numbers: each once, and in their order."""
        chosen = set(items)
        return ",".join(str(item) for item in (self.choices or sorted(chosen)) if item in chosen)

    def check(self, value: Any, source: str) -> None:
        """Raise a UsageError that names *source* if a recorded value is not valid."""
        if self.is_slabinfo:
            parse_slabinfo(value if isinstance(value, str) else "", source=source)
        elif not self._is_valid(value):
            msg = f"{source}: {self.name} cannot be {value!r:.60}"
            raise UsageError(msg)

    def _parse_number(self, text: str) -> int:
        digits = text.removeprefix("-")
        is_number = digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS
        if not (is_number and self.least <= int(text) <= self.most):
            msg = f"--set {self.name}={text}: give a whole number from {self.least} to {self.most}"
            raise UsageError(msg)
        return int(text)


@attrs.frozen
class Scenario:
    """A scenario with its stable name; `build` sets the stage.

    `also` are further names for it: the slugs of the flaws that it can show. `kernels` are those that have what it is
    about; empty: all.
    """

    name: str
    summary: str
    knobs: tuple[Knob, ...]
    build: Callable[[Stage], None]
    also: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        """Refuse a scenario that cannot work: TypeError, which is shown with the line of the declaration."""
        check_declared("scenario", self.name, self.summary, self.build, "stage")
        wrong = self._mistake()
        if wrong:
            msg = f"the scenario {self.name} {wrong}"
            raise TypeError(msg)

    def _mistake(self) -> str:
        """The first mistake of the declaration, apart from `check_declared`; empty if there is none."""
        knobs = self.knobs
        if inspect.isgeneratorfunction(self.build) or not _is_list(knobs, lambda knob: isinstance(knob, Knob)):
            return "is a function that does not yield, and takes parameters that are Knobs"
        if len({knob.name for knob in knobs}) < len(knobs):
            return "has two parameters of one name"
        if not are_lines(self.also):
            return "has further names (also) that are not a tuple of printable texts"
        if not (are_lines(self.kernels) and set(self.kernels) <= KERNELS.keys()):
            return f"has kernels that are not a tuple of names among {', '.join(KERNELS)}"
        return next(filter(None, map(_beyond_machine, knobs)), "")

    def check_kernel(self, kernel: str, values: Mapping[str, Any]) -> None:
        """Raise a UsageError if *kernel* lacks what the scenario is about, or the allocator of its *values*."""
        if self.kernels and kernel not in self.kernels:
            msg = f"--kernel {kernel}: {self.name} is not for this kernel; it is for {', '.join(self.kernels)}"
            raise UsageError(msg)
        check_allocator(kernel, values.get("allocator", "slub"))

    def renamed(self, name: str) -> Scenario:
        """A copy with the name that logs use, `FILE.py:NAME`, which may have any characters of a file's name."""
        other = copy.copy(self)
        object.__setattr__(other, "name", name)  # the scenario is checked already
        return other

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


def check_allocator(kernel: str, allocator: str) -> None:
    """Raise a UsageError if *kernel* cannot be built with *allocator*."""
    if kernel in TODAY and allocator != "slub":
        msg = f"allocator={allocator}: {kernel} has SLUB only; Linux 6.8 has removed SLAB"
        raise UsageError(msg)


def _split(value: str) -> list[str]:
    """The items of a list's value; an empty text has none."""
    return value.split(",") if value else []


def are_lines(texts: object) -> bool:
    """Whether *texts* is a tuple of such texts, or a list; a text is not taken for the list of its letters."""
    return _is_list(texts, is_line)


def _is_list(things: object, is_right: Callable[[object], bool]) -> bool:
    return isinstance(things, tuple | list) and all(map(is_right, things))


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


def _beyond_machine(knob: Knob) -> str:
    """What is wrong with a scenario's own parameter of a built-in name: a value that no machine has, or nothing."""
    for built_in in (*MACHINE, MEMORY, RCU):
        if knob.name == built_in.name and not knob.lies_within(built_in):
            return f"has a Knob {knob.name} of {knob.values_in_words}, and machines have {built_in.values_in_words}"
    return ""


def machine(**defaults: Any) -> tuple[Knob, ...]:
    """The parameters of MACHINE, with other *defaults* for some of them; TypeError if it has no such parameter."""
    known = [knob.name for knob in MACHINE]
    for name in defaults:
        if name not in known:
            msg = f"machine({name}=...): {no_such('parameter', name, known)}"
            raise TypeError(msg)
    return tuple(attrs.evolve(knob, default=defaults.get(knob.name, knob.default)) for knob in MACHINE)


def scenario(
    name: str, summary: str, *knobs: Knob, also: tuple[str, ...] = (), kernels: tuple[str, ...] = ()
) -> Callable[[Callable[[Stage], None]], Scenario]:
    """Declare a scenario; the function becomes its `build`."""

    def declare(build: Callable[[Stage], None]) -> Scenario:
        return Scenario(name, summary, knobs, build, also, kernels)

    return declare
