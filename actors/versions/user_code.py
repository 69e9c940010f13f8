"""The user's Python files: patches, scenarios, oracles and strategies. This module names, reads and runs them.

A file runs as a module of its own that no other code can import. It leaves nothing behind in `sys.modules` or among the
kernel functions; its folder stays the last of `sys.path`, for the modules that it imports. Every
error in it becomes one line with the file and the line number.
"""

from __future__ import annotations

import ast
import codecs
import functools
import inspect
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
from protocol.blame import RAN, UserCode, has_place, in_words, is_interrupt
from protocol.errors import UsageError
from protocol.formats.textfile import is_file, read_bounded
from protocol.records import CodeRecord, hash_of

LONGEST_TEXT = 200
"""The longest name or summary of a declaration, in characters."""

R = TypeVar("R", bound=CodeRecord)

Taker = Callable[[str, Body], KernelFn[Any, Any]]
"""The receiver of a kernel function that a file declares."""

UTF_8 = re.compile(rb"utf-?8(-.*)?|u8|(us-)?ascii")
"""The names of UTF-8 and of a part of it."""

_ENCODING = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
"""The declaration of an encoding, in one of the first two lines (PEP 263)."""

_FILE = re.compile(r"(.*?\.py)(?::(.*))?", re.DOTALL)


@attrs.frozen
class Reference:
    """The meaning of a text on the command line: the `member` of a `file` (or the whole file), or a thing by `name`."""

    text: str
    name: str = ""
    file: str = ""
    member: str = ""


def parse_reference(text: str, known: Iterable[str]) -> Reference:
    """The meaning of *text*: one of the *known* names, else `FILE[:MEMBER]`, else another name.

    A text is a file if a file of that name exists, or if the name ends in `.py`.
    """
    if text in known:
        return Reference(text, name=text)
    match = None if is_file(text) else _FILE.fullmatch(text)
    if match is not None:
        return Reference(text, file=match[1], member=match[2] or "")
    return Reference(text, file=text) if is_file(text) else Reference(text, name=text)


def read_code(kind: type[R], path: Path, *, option: str = "", member: str = "") -> R:
    """The text of a file, read but not run; UsageError if it cannot be read.

    *option* precedes its name in messages.
    """
    data = read_bounded(path, option=option, must_be_file=True)
    _check_encoding(data, f"{option}{path}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        msg = f"{option}{path}: cannot read it: it is not text in UTF-8"
        raise UsageError(msg) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    name = f"{path.name}:{member}" if member else path.name
    name, file = (each.encode(errors="backslashreplace").decode() for each in (name, str(path)))  # logs are UTF-8
    return kind(name, file, hash_of(text), text)


def _check_encoding(data: bytes, name: str) -> None:
    """Refuse a file that declares another encoding than UTF-8: its text would not mean the same in a log."""
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n", 2)[:2], 1):
        declared = _ENCODING.match(line)
        if declared is not None and not UTF_8.fullmatch(declared[1].lower().replace(b"_", b"-")):
            msg = f"{name}, line {number}: it is encoded in {declared[1].decode()}: save it as UTF-8"
            raise UsageError(msg)
        if line.strip() and not line.lstrip().startswith(b"#"):
            return


def is_line(text: object) -> bool:
    """Whether *text* can stand in a line of output and in a log: a printable text, not too long."""
    return isinstance(text, str) and text.isprintable() and len(text) <= LONGEST_TEXT


def check_declared(word: str, name: object, summary: object, code: Callable[..., Any], *arguments: object) -> None:
    """Refuse a declaration that cannot work: TypeError, which is shown with the line of the declaration.

    The name and the summary are printable texts. *code* can be called with the *arguments*, and is no coroutine.
    """
    for part, text in (("name", name), ("summary", summary)):
        if not is_line(text):
            msg = f"the {part} that declares the {word} is not one line of at most {LONGEST_TEXT} printable characters"
            raise TypeError(msg)
    if not name:
        msg = f"the name that declares the {word} is empty"
        raise TypeError(msg)
    if inspect.iscoroutinefunction(code) or inspect.isasyncgenfunction(code):
        msg = f"the {word} {name} is declared with 'async def'; it has to be 'def'"
        raise TypeError(msg)
    check_call(f"{word} {name}", code, *arguments)


def check_call(word: str, function: Callable[..., Any], *arguments: object) -> None:
    """TypeError unless *function*, as the *word* in messages, can be called with the *arguments*."""
    is_plain = type(function) is types.FunctionType and not (function.__dict__ or function.__kwdefaults__)
    if is_plain and _can_be_called(function.__code__, len(function.__defaults__ or ()), len(arguments)):
        return
    try:
        inspect.signature(function, follow_wrapped=False).bind(*arguments)
    except TypeError as error:
        msg = f"the {word} is called with {len(arguments) or 'no'} argument{'s' * (len(arguments) != 1)}: {error}"
        raise TypeError(msg) from None
    except ValueError:
        pass  # the signature of a function in C may not be known


@functools.lru_cache(maxsize=1024)
def _can_be_called(code: types.CodeType, defaults: int, arguments: int) -> bool:
    """Whether a function with this code and so many default values can be called with so many arguments.

    A scenario makes its functions anew for each run of a search, from the same code.
    """
    cells = tuple(types.CellType() for _ in code.co_freevars)
    function = types.FunctionType(code, {}, argdefs=(None,) * defaults, closure=cells)
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        return False
    return True


def refuse_functions(name: str, body: Body) -> NoReturn:
    """A `Taker` for files other than patches."""
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
    """Run the text of a file as a module; UsageError with file and line if that fails.

    *kind* is the kind of file in words; *take* receives the kernel functions that it declares; *change* may transform
    the program before it runs with *names* among its globals.
    """
    path = Path(record.file)
    code = _compile(path, record.text, option, change)
    _find_beside(path)
    linecache.cache[str(path)] = (len(record.text), None, record.text.splitlines(keepends=True), str(path))
    module = types.ModuleType(f"{kind}:{path.stem}")
    module.__file__ = str(path)
    RAN[str(path)] = None
    functions()  # before the loader is set: modules that a file imports declare functions that are not the file's
    token = PATCH_LOADER.set(take)
    sys.modules[module.__name__] = module  # attrs and dataclasses in a file look their module up
    try:
        module.__dict__.update(names)
        exec(code, module.__dict__)  # noqa: S102 -- the user's own code
    except BaseException as error:  # every error in the user's file is the user's, including SystemExit
        if is_interrupt(error) or (isinstance(error, UsageError) and has_place(error)):
            raise
        where = UserCode([str(path)]).place_in_words(error) or f"{path}: "
        msg = f"{option if where.startswith(str(path)) else ''}{where}{in_words(error)}"
        raise UsageError(msg) from None
    finally:
        PATCH_LOADER.reset(token)
        sys.modules.pop(module.__name__, None)
    return module


def _find_beside(path: Path) -> None:
    """Let the file import modules of its folder, now and when it runs, after all that can be imported without that."""
    folder = str(path.parent.absolute())
    if folder not in sys.path:
        sys.path.append(folder)


def _compile(path: Path, source: str, option: str, change: Callable[[ast.Module], ast.Module]) -> types.CodeType:
    """The code of a file; UsageError with file and line if it is not valid Python."""
    try:
        with warnings.catch_warnings(action="ignore"):  # Python's warnings about style
            code: types.CodeType = compile(change(ast.parse(source, str(path))), str(path), "exec")
    except SyntaxError as error:
        msg = f"{option}{path}, line {error.lineno or 1}: {error.msg}"
        raise UsageError(msg) from None
    except (RecursionError, MemoryError):
        msg = f"{option}{path}: an expression in it is nested too deeply for Python"
        raise UsageError(msg) from None
    return code
