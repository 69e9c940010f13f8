"""Python files of the user's: patches, scenarios, oracles and strategies. How they are named, read and run.

A file is run as a module of its own that cannot be imported. It leaves nothing behind: not in `sys.modules`, and not
among the kernel functions. Whatever is wrong with it is one line that names the file and the line.
"""

from __future__ import annotations

import ast
import linecache
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import attrs

from actors.versions.kernel_fn import PATCH_LOADER, Body, KernelFn, functions
from protocol.blame import in_words, is_interrupt, place_in
from protocol.errors import UsageError
from protocol.formats.textfile import is_file, read_bounded
from protocol.records import CodeRecord, hash_of

R = TypeVar("R", bound=CodeRecord)

Taker = Callable[[str, Body], KernelFn[Any, Any]]
"""What becomes of a kernel function that a file declares."""

_FILE = re.compile(r"(.*?\.py)(?::(.*))?", re.DOTALL)


@attrs.frozen
class Reference:
    """What a text on the command line names: the `member` of a `file` (if empty, the file), or a thing by `name`."""

    text: str
    name: str = ""
    file: str = ""
    member: str = ""


def parse_reference(text: str, known: Iterable[str]) -> Reference:
    """What *text* means: one of the names that are *known*, else `FILE[:MEMBER]`, else another name.

    A file exists under the name that was given, or it is called `....py`.
    """
    if text in known:
        return Reference(text, name=text)
    match = None if is_file(text) else _FILE.fullmatch(text)
    if match is not None:
        return Reference(text, file=match[1], member=match[2] or "")
    return Reference(text, file=text) if is_file(text) else Reference(text, name=text)


def read_code(kind: type[R], path: Path, *, option: str = "", member: str = "") -> R:
    """The text of a file, which is not run; UsageError if it cannot be read.

    *option* stands before its name in messages.
    """
    try:
        text = read_bounded(path, option=option, must_be_file=True).decode()
    except UnicodeDecodeError:
        msg = f"{option}{path}: cannot read it: it is not text"
        raise UsageError(msg) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    name = f"{path.name}:{member}" if member else path.name
    name, file = (each.encode(errors="backslashreplace").decode() for each in (name, str(path)))  # logs are UTF-8
    return kind(name, file, hash_of(text), text)


def refuse_functions(name: str, body: Body) -> NoReturn:
    """A `Taker` for files that are no patches."""
    code = body.code.__code__
    msg = (
        f"{code.co_filename}, line {code.co_firstlineno}: it declares the kernel function {name}(), as only a patch "
        "does: put that into a file of its own, and give it with --patch"
    )
    raise UsageError(msg)


def run_code(
    record: CodeRecord,
    kind: str,
    *,
    option: str = "",
    take: Taker = refuse_functions,
    change: Callable[[ast.Module], ast.Module] = lambda tree: tree,
    names: Mapping[str, object] = MappingProxyType({}),
) -> types.ModuleType:
    """Run the text of a file as a module; UsageError with file and line if that cannot be done.

    *kind* is the word for it, *take* gets the kernel functions that it declares, *change* may change the program before
    it is run, with *names* among its globals.
    """
    path = Path(record.file)
    linecache.cache[str(path)] = (len(record.text), None, record.text.splitlines(keepends=True), str(path))
    module = types.ModuleType(f"{kind}:{path.stem}")
    module.__file__ = str(path)
    functions()  # before the loader is set: what a file imports declares functions, and they are no part of the file
    token = PATCH_LOADER.set(take)
    sys.modules[module.__name__] = module  # attrs and dataclasses in a file look their module up
    try:
        module.__dict__.update(names)
        exec(_compile(path, record.text, option, change), module.__dict__)  # noqa: S102 -- the user's own code
    except UsageError:
        raise
    except BaseException as error:  # whatever goes wrong in the user's file is the user's, an end of the process too
        if is_interrupt(error):
            raise
        _, line, _ = place_in([str(path)], error) or ("", "?", "")
        msg = f"{option}{path}, line {line}: {in_words(error)}"
        raise UsageError(msg) from None
    finally:
        PATCH_LOADER.reset(token)
        sys.modules.pop(module.__name__, None)
    return module


def _compile(path: Path, source: str, option: str, change: Callable[[ast.Module], ast.Module]) -> types.CodeType:
    """The program in a file; UsageError with file and line if it is none."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python, about style
            code: types.CodeType = compile(change(ast.parse(source, str(path))), str(path), "exec")
    except SyntaxError as error:
        msg = f"{option}{path}, line {error.lineno or 1}: {error.msg}"
        raise UsageError(msg) from None
    except (RecursionError, MemoryError):
        msg = f"{option}{path}: an expression in it is nested too deeply for Python"
        raise UsageError(msg) from None
    return code
