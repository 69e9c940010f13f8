"""Commands on generated files, in this process, and the rules for their endings."""

from __future__ import annotations

import contextlib
import io
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from explorer.cli import main

FREE, MOST_MEMORY = frozenset({0, 1, 2, 4}), 100 << 20
"""The exit codes that a command may have for any input, and the memory that it may take (bytes)."""

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@attrs.frozen
class Ending:
    """The ending of one command. `escaped`: an exception that left `main()`; `made`: the files it left behind."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str
    escaped: BaseException | None
    made: frozenset[str]

    def __str__(self) -> str:
        how = f"exit {self.code}" if self.escaped is None else repr(self.escaped)
        return f"slabrace {' '.join(self.arguments)}: {how}\n{self.out[-500:]}\n{self.err[-3000:]}"


@attrs.frozen
class Bench:
    """A folder in which commands run. Files that a command makes are removed after it."""

    folder: Path

    def put(self, name: str, data: bytes) -> Path:
        """Make a file in the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def run(self, *arguments: str, main: Callable[[Sequence[str]], int] = main) -> Ending:
        """Run one command there, of slabrace or of another *main*."""
        before = self._files()
        out, err = _captured("strict"), _captured("backslashreplace")  # as Python opens the two
        code, escaped = -1, None
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(arguments)
            except BaseException as error:  # noqa: BLE001 -- the tests look for exceptions that leave main()
                escaped = error
        made = self._files() - before
        for name in made:
            (self.folder / name).unlink()
        return Ending(arguments, code, _text(out), _text(err), escaped, frozenset(made))

    def _files(self) -> set[str]:
        folders = os.walk(self.folder)
        return {os.path.relpath(os.path.join(top, name), self.folder) for top, _, names in folders for name in names}  # noqa: PTH118 -- thousands of times


def _captured(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, newline="\n", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode("utf-8", errors="replace")


# -- the rules for endings --------------------------------------------------------------------------------------------


def complaints(ending: Ending, may_make: Sequence[str] = ()) -> Iterator[str]:
    """The rules that an ending violates, for any input. *may_make*: prefixes of the names of permitted files."""
    if ending.escaped is not None or ending.code not in FREE:
        yield "it has to end with one of 0, 1, 2, 4"
    if "Traceback" in ending.err or "internal error" in ending.err:
        yield "that is no error of ours"
    if ending.code == 2 and not (ending.err.startswith("slabrace: ") and ending.err.count("\n") == 1):
        yield "an error is one line"
    if any(map(_controls, ending.err)) or any(map(_controls, ending.out.replace("\t", ""))):
        yield "control characters of a file reach the terminal"
    if strange := [name for name in ending.made if ending.code == 2 or not name.startswith(tuple(may_make))]:
        yield f"it has left {strange}"


def check_ending(ending: Ending, may_make: Sequence[str] = ()) -> None:
    """Raise AssertionError with all complaints."""
    found = list(complaints(ending, may_make))
    assert not found, f"{'; '.join(found)}: {ending}"


def _controls(character: str) -> bool:
    return character != "\n" and unicodedata.category(character) in {"Cc", "Cs"}


# -- memory -----------------------------------------------------------------------------------------------------------


class Memory:
    """The peak of this process's memory above its level at the start (bytes; 0 without /proc)."""

    def __init__(self) -> None:
        self._start = _status("VmRSS")
        if CLEAR_REFS.exists():
            CLEAR_REFS.write_text("5", encoding="ascii")  # the high water mark goes down to what is used now

    def check(self) -> None:
        """Raise AssertionError if the peak is more than MOST_MEMORY."""
        grown = _status("VmHWM") - self._start
        assert grown <= MOST_MEMORY, f"{grown >> 20} MB more than at the start"


def _status(name: str) -> int:
    if not STATUS.exists():
        return 0
    row = next(row for row in STATUS.read_text(encoding="ascii").splitlines() if row.startswith(f"{name}:"))
    return int(row.split()[1]) << 10
