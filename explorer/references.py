"""Resolve texts of the command line to scenarios, oracles and strategies.

`NAME` is a built-in thing, or one that an installed project declares as an entry point (the groups
`slabrace.scenarios`, `slabrace.oracles` and `slabrace.strategies`). `FILE[:MEMBER]` is a file of the user's; the member
is the declared name, or the name of the function. Patches use the same syntax (`actors.versions.patching.name_patch`).

Entry points are read only for a name that is not built in, and by `slabrace list`; other commands do not pay for it.
"""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import attrs
import msgspec

from actors.versions.await_rules import AWAIT_GUARDS, awaiting
from actors.versions.kernel_fn import PATCH_LOADER, functions
from actors.versions.user_code import parse_reference, read_code, refuse_functions, run_code
from explorer.blame import Blame
from explorer.entry_points import entry_points as read_entry_points
from explorer.watchdog import Watchdog
from protocol.blame import RAN, SLABRACE, UserCode, in_words, is_interrupt, places_of
from protocol.errors import UsageError
from protocol.names import no_such
from protocol.records import CodeRecord

if TYPE_CHECKING:
    from importlib import metadata


class Declared(Protocol):
    """The common attributes of all kinds."""

    @property
    def name(self) -> str:
        """The name that is declared."""


T = TypeVar("T", bound=Declared)


MOST_NAMES = 20
"""More known names than this do not fit into the line that says that a name is unknown."""


@attrs.frozen
class ReferenceKind(Generic[T]):
    """One kind of thing (scenario, oracle or strategy): its words, and where it is found.

    `option` stands before a name in messages, and ends in a space. `built_in` returns slabrace's own things by their
    names, and `body` the function or class that a thing was made from. `change` puts checks into a file's program, and
    `names` are the globals that these need.
    """

    word: str
    plural: str
    type: type[T]
    body: Callable[[T], object]
    built_in: Callable[[], Mapping[str, T]]
    option: str = ""
    change: Callable[[ast.Module], ast.Module] = awaiting
    names: Mapping[str, object] = AWAIT_GUARDS

    @property
    def group(self) -> str:
        """The name of the kind's group of entry points."""
        return f"slabrace.{self.plural}"


@attrs.frozen
class Resolved(Generic[T]):
    """The result of a reference: one thing, or all that a file declares. `code` is the file, `files` hold its code."""

    things: tuple[T, ...]
    code: CodeRecord | None = None
    files: tuple[str, ...] = ()


def find(kind: ReferenceKind[T], text: str, *, member: str = "", wants_all: bool = False) -> Resolved[T]:
    """The things that *text* names; UsageError in one line if there is no such thing, or if its file is wrong.

    *member* selects a thing of the file if the text does not. Without any member the file has to declare exactly one
    thing, unless all are wanted.
    """
    record = name_code(kind, text, member=member)
    return load(kind, record, wants_all=wants_all) if record.is_code else find_by_name(kind, record.name)


def name_code(kind: ReferenceKind[Any], text: str, *, member: str = "") -> CodeRecord:
    """The code record for *text*: a file, whose text is read, or a bare name. Nothing is run yet."""
    named = parse_reference(text, kind.built_in())
    if not named.file:
        return CodeRecord(named.name)
    return read_code(CodeRecord, Path(named.file), option=kind.option, member=named.member or member)


def find_by_name(kind: ReferenceKind[T], name: str) -> Resolved[T]:
    """A built-in or installed thing. No file is opened, so names from logs are safe here."""
    built_in = kind.built_in()
    if name in built_in:
        thing = built_in[name]
        return Resolved((thing,), files=own_files(kind.body(thing)))
    points = entry_points(kind, name)
    if not points:
        known = [*(thing.name for thing in _distinct(built_in.values())), *(point.name for point in entry_points(kind))]
        see = f"slabrace list {kind.plural}" if len(known) > MOST_NAMES else ""
        told = no_such(kind.word, name, known, see=see)
        hint = "; a file is named FILE.py:NAME" if set(name) & {"/", ":"} else ""
        msg = f"{kind.option}{name}: {told}{hint}"
        raise UsageError(msg)
    thing = load_installed(kind, points)
    return Resolved((thing,), files=own_files(kind.body(thing)))


# -- files ------------------------------------------------------------------------------------------------------------


def load(kind: ReferenceKind[T], record: CodeRecord, *, wants_all: bool = False) -> Resolved[T]:
    """Run the text of *record* and return the declared things; UsageError if it fails, or declares the wrong things.

    The code gets the name `FILE:NAME`, where NAME is the declared name.
    """
    where = f"{kind.option}{record.file}"
    with Blame((), (record.file,)):
        module = run_code(record, kind.word, option=kind.option, change=kind.change, names=kind.names)
        things = _chosen(kind, record, module, where)
    names = [thing.name for thing in things]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        msg = f"{where}: it declares two {kind.plural} named {twice}"
        raise UsageError(msg)
    if not wants_all and len(things) > 1:
        several = ", ".join(thing.name for thing in things)
        msg = f"{where}: it declares {len(things)} {kind.plural}; give {where}:NAME, where NAME is one of {several}"
        raise UsageError(msg)
    if len(things) == 1:
        record = msgspec.structs.replace(record, name=f"{Path(record.path or record.name).name}:{names[0]}")
    return Resolved(tuple(things), record, (record.file,))


def _chosen(kind: ReferenceKind[T], record: CodeRecord, module: ModuleType, where: str) -> list[T]:
    """The member that *record* names, or all things that the file itself declares."""
    there = {name: thing for name, thing in vars(module).items() if isinstance(thing, kind.type)}
    if not record.member:
        own = [thing for thing in _distinct(there.values()) if _is_made_in(module, kind.body(thing), thing)]
        if not own:
            msg = f"{where}: it declares no {kind.word}: it needs @{kind.word}(NAME, SUMMARY, ...) above a definition"
            raise UsageError(msg)
        return own
    called_so = [thing for thing in _distinct(there.values()) if thing.name == record.member]
    if called_so or record.member in there:
        return called_so or [there[record.member]]
    names = [thing.name for thing in _distinct(there.values())]
    msg = f"{where}: {no_such(f'{kind.word} in it', record.member, names)}"
    raise UsageError(msg)


def _distinct(things: Iterable[T]) -> list[T]:
    """The things, each once, though a thing may have several names."""
    return list({id(thing): thing for thing in things}.values())


def _is_made_in(module: ModuleType, body: object, thing: object) -> bool:
    """Whether *module* defines the thing, rather than imports it: its body is there, or it varies an imported body."""
    home = getattr(body, "__module__", "")
    origin = sys.modules.get(home) if home != module.__name__ else None
    return origin is None or all(thing is not other for other in vars(origin).values())


def own_files(body: object) -> tuple[str, ...]:
    """The file of a function or class outside slabrace, as in tracebacks; empty if it is slabrace's own."""
    code = getattr(body, "__code__", None)
    module = sys.modules.get(getattr(body, "__module__", None) or "")
    file = code.co_filename if code is not None else getattr(module, "__file__", None) or ""
    return (file,) if file and not file.startswith(SLABRACE) else ()


# -- installed projects -----------------------------------------------------------------------------------------------


def entry_points(kind: ReferenceKind[Any], name: str | None = None) -> list[metadata.EntryPoint]:
    """The entry points of this kind in installed projects: all of them, or the ones with this *name*."""
    return [point for point in read_entry_points(kind.group) if name in {None, point.name}]


class NotOurs(Container[str]):
    """The files of all code outside slabrace: which files an installed project has is unknown before its import."""

    def __contains__(self, file: object) -> bool:
        return not str(file).startswith((*SLABRACE, "<"))


def load_installed(kind: ReferenceKind[T], points: Sequence[metadata.EntryPoint]) -> T:
    """Load the thing of an entry point, with the entry point's name; UsageError if it fails, or there are several."""
    point = points[0]
    if len(points) > 1:
        projects = " and ".join(_project(each) for each in points)
        msg = f"{kind.option}{point.name}: {projects} both declare a {kind.word} of that name; uninstall one of them"
        raise UsageError(msg)
    where = f"{kind.option}{point.name}: the {kind.word} of {_project(point)}, {point.value},"
    functions()  # as in run_code()
    RAN[point.value] = None
    token = PATCH_LOADER.set(refuse_functions)
    watchdog = Watchdog(lambda: 0, NotOurs(), lambda error: f"{where} cannot be loaded: {in_words(error)}")
    try:
        watchdog.start()
        with contextlib.redirect_stdout(sys.stderr):
            thing = point.load()
        if isinstance(thing, kind.type):
            return attrs.evolve(thing, name=point.name)  # type: ignore[misc]  # all kinds are attrs classes
    except BaseException as error:  # any error during the import belongs to the project
        if is_interrupt(error):
            raise
        msg = f"{where} cannot be loaded: {_place(error)}{in_words(error)}"
        raise UsageError(msg) from None
    finally:
        watchdog.stop()
        PATCH_LOADER.reset(token)
    msg = f"{where} is a {type(thing).__name__}: declare it with @{kind.word}"
    raise UsageError(msg)


@attrs.frozen
class Installed(Generic[T]):
    """A thing that an installed project declares under a name, or the `error` that prevents its use."""

    name: str
    project: str
    thing: T | None = None
    error: str | None = None


def installed(kind: ReferenceKind[T]) -> Iterator[Installed[T]]:
    """All things of this kind that installed projects declare, by name."""
    built_in = kind.built_in()
    points = entry_points(kind)
    for name in sorted({point.name for point in points}):
        called_so = [point for point in points if point.name == name]
        try:
            if name in built_in:
                msg = f"{_project(called_so[0])} declares it, but the built-in {kind.word} of that name has precedence"
                raise UsageError(msg)  # noqa: TRY301 -- handled below like a loading error
            yield Installed(name, _project(called_so[0]), load_installed(kind, called_so))
        except UsageError as error:
            yield Installed(name, _project(called_so[0]), error=str(error).removeprefix(f"{kind.option}{name}: "))


def _project(point: metadata.EntryPoint) -> str:
    """The name and version of the project that declares an entry point."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "a project without a name"


def _place(error: BaseException) -> str:
    """The place of the error in the project's code, or empty; frames of the import machinery do not count."""
    files = [file for file, _, _ in places_of(error) if file in NotOurs() and "importlib" not in file]
    return UserCode(files[:1]).place_in_words(error)
