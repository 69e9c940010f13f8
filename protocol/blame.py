"""The origin of an exception, and its message for the user, if the code of a patch or a scenario raised it."""

from __future__ import annotations

import contextlib
import dis
import os
import re
import sys
import traceback
from collections import Counter
from collections.abc import Container, Iterable
from pathlib import Path
from types import TracebackType, WrapperDescriptorType
from typing import TypeAlias

from protocol.errors import BrokenRuleError, UsageError

Place: TypeAlias = tuple[str, int, str]
"""A file, a line and a function."""

_ROOT = str(Path(__file__).parents[1]) + os.sep

MACHINE = (f"{_ROOT}actors{os.sep}", f"{_ROOT}scenarios{os.sep}")
"""Path prefixes of the machine's code, for `str.startswith`."""

SLABRACE = (*MACHINE, *(f"{_ROOT}{package}{os.sep}" for package in ("explorer", "protocol", "slabrace")))
"""Path prefixes of all code of slabrace."""

TRUSTED = frozenset(
    {*sys.stdlib_module_names, "actors", "attrs", "explorer", "msgspec", "protocol", "scenarios", "slabrace", "trio"}
)
"""Top-level packages whose exceptions may put their message into words by themselves."""

FOREIGN_AWAIT = "it awaits something outside the machine; a flow awaits kernel functions, ctx.ask, ctx.sleep, ..."

EVENT_LOOPS = frozenset({"trio", "asyncio", "anyio", "sniffio"})
"""Python packages whose functions need an event loop of their own."""

_LIBRARY = str(Path(os.__file__).parent) + os.sep

_INSTALLED = re.compile(r"(.*/(?:site|dist)-packages)/([^/]+/)?")
"""A path of installed code: the folder, and the package in it; a module that stands there alone has none."""

_PLACED = re.compile(r"^--strategy |, line \d+(, in [^:]*)?: ")
"""The message of an error that is not due to the code that is on the stack, or that names its place by itself."""

RAN: dict[str, None] = {}
"""The user's files, and the installed things by their entry points, that this process has run; in their order."""

_RAISE = dis.opmap["RAISE_VARARGS"]


class UserCode(Container[str]):
    """The code of a run with some *files* of the user's: they, and all modules of the user's that they may import.

    That is neither code of slabrace nor of Python. Of installed packages it is only those that have one of *files*: an
    error in a library is named by the place that calls it.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._files = frozenset(files)
        self._homes = {_home(file) for file in self._files}

    def __contains__(self, file: object) -> bool:
        if not self._files or not isinstance(file, str):
            return False
        return file in self._files or (not file.startswith((*SLABRACE, "<")) and _home(file) in self._homes | {""})

    def place_in_words(self, error: BaseException) -> str:
        """The innermost place of *error* in this code, in words that begin a message; empty if it was never there."""
        place = place_in(self, error)
        if place is None:
            return ""
        file, line, function = place
        within = "" if function == "<module>" else f", in {function}"
        return f"{file if file in self._files else _from_here(file)}, line {line}{within}: "


def _home(file: str) -> str:
    """The folder of installed code to which *file* belongs, or Python's own; empty for all other code."""
    installed = _INSTALLED.match(file)
    if installed is not None:
        return installed[0]
    return _LIBRARY if file.startswith(_LIBRARY) else ""


def _from_here(file: str) -> str:
    """The path of *file* from the current folder, if it is below that."""
    with contextlib.suppress(OSError, ValueError):  # there may be no current folder
        return str(Path(file).relative_to(Path.cwd()))
    return file


def has_place(error: UsageError) -> bool:
    """Whether *error* is slabrace's, and its message says by itself in which file and line something is wrong."""
    return type(error).__module__.partition(".")[0] in TRUSTED and _PLACED.search(in_words(error)) is not None


def places_of(error: BaseException) -> list[Place]:
    """The places on the way of an exception and its causes; the origin last."""
    places: list[Place] = []
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        places += [
            (frame.filename, frame.lineno or 0, frame.name) for frame in traceback.extract_tb(cause.__traceback__)
        ]
        places += cause.where() if isinstance(cause, BrokenRuleError) else ()
        cause = cause.__cause__
    return places


def place_in(files: Container[str], error: BaseException) -> Place | None:
    """The innermost place in one of *files*; None if the error was never there.

    The depth at which a recursion is stopped depends on its caller, so its place is the outermost one that recurs.
    """
    places = [place for place in places_of(error) if place[0] in files]
    if isinstance(error, RecursionError):
        times = Counter(places)
        return next((place for place in places if times[place] > 1), places[-1] if places else None)
    return places[-1] if places else None


def in_words(error: BaseException) -> str:
    """The message of an exception for the user: its name and text; the text alone if it is in words for the user."""
    if isinstance(error.__cause__, StopIteration | StopAsyncIteration):  # Python makes a RuntimeError of these
        error = error.__cause__
    if _is_of_a_loop(error):
        return FOREIGN_AWAIT
    try:
        text = "it calls itself for ever" if isinstance(error, RecursionError) else _text_of(error)
    except BaseException:  # noqa: BLE001 -- its __str__ is user code and may fail, too
        text = ""
    if isinstance(error, BrokenRuleError | UsageError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text_of(error: BaseException) -> str:
    """The message of an exception. A `__str__` that is written in Python may be the user's, and never return."""
    kind = type(error)
    if isinstance(kind.__str__, WrapperDescriptorType) or kind.__module__.partition(".")[0] in TRUSTED:
        return str(error)
    return ", ".join(str(value) for value in error.args if type(value) in {str, int, float})


def _is_of_a_loop(error: BaseException) -> bool:
    """Whether another event loop reports that it does not run here; under the Trio driver its await fails later."""
    places = places_of(error)
    package = Path(places[-1][0]).parts if places else ()
    return isinstance(error, Exception) and not EVENT_LOOPS.isdisjoint(package)


def is_interrupt(error: BaseException) -> bool:
    """Whether a signal caused *error*: user code can raise KeyboardInterrupt, too, without a signal.

    A signal's KeyboardInterrupt is raised in slabrace, in Trio, or in C; in C the innermost frame is just the
    interrupted one.
    """
    if not isinstance(error, KeyboardInterrupt):
        return False
    tb = _innermost(error.__traceback__)
    if tb is None:
        return True
    code = tb.tb_frame.f_code
    is_raised = code.co_code[tb.tb_lasti] == _RAISE
    return not is_raised or code.co_filename.startswith(SLABRACE) or f"{os.sep}trio{os.sep}_core" in code.co_filename


def _innermost(tb: TracebackType | None) -> TracebackType | None:
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return tb
