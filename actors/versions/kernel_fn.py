"""Kernel functions and the profile table.

`@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="v6..v7")` declares what a C function is in some kernel
versions. Whoever calls it by its name here calls through the table of the machine that the caller runs on, so a version
or a patch replaces exactly one function, and all its callers follow. A function without a body in a profile does
not exist there.

Two allocators implement the same functions, in mm/slub.c and mm/slab.c; the machine has one of them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from contextvars import ContextVar
from importlib import import_module
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar

import attrs

from actors.versions.profiles import ALLOCATORS, profile_range
from protocol.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from actors.machine.context import Context

P = ParamSpec("P")

R = TypeVar("R")

_TAGS = re.compile(r"^(\[[\w.-]+\](,| to)? ?)+:? *|^[A-Z]?\d[\d.]*[a-z]?( to \w+)?( and [\d.]+)?[.:] *")


@attrs.frozen
class Body:
    """What a function is in some profiles: the code, its file, and the C name that it has there."""

    code: Callable[..., Any]
    name: str
    file: str
    profiles: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The first line of the docstring, without the versions and sections that it begins with; may be empty."""
        return _TAGS.sub("", (self.code.__doc__ or "").strip().partition("\n")[0])

    def is_built(self, allocator: str) -> bool:
        """Whether a machine with that allocator has this file."""
        return all(self.file != file or name == allocator for name, file in ALLOCATORS.items())


class KernelFn(Generic[P, R]):
    """One kernel function: its C name, and its bodies by profile and allocator. Calling it runs the machine's body.

    `noted` makes of that body one that tells the model's own books of each call, for functions at which these are kept.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.bodies: list[Body] = []
        self.noted: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None

    def __repr__(self) -> str:
        return f"<kernel function {self.name}>"

    def __call__(self, ctx: Context, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = ctx.machine.functions[self](ctx, *args, **kwargs)
        return result

    def body(self, profile: str, allocator: str) -> Body | None:
        """What the function is in *profile*; None if it does not exist there."""
        for body in self.bodies:
            if profile in body.profiles and body.is_built(allocator):
                return body
        return None


_FUNCTIONS: dict[str, KernelFn[Any, Any]] = {}

DECLARING = ("actors.linux", "actors.files")
"""The packages whose modules declare kernel functions."""


@functools.cache
def functions() -> Mapping[str, KernelFn[Any, Any]]:
    """Every kernel function by its C name (that of the youngest profile that has it), in the order of declaration.

    The first call imports every module that declares any, so a name means the same in a command, in a library call and
    in a worker process, whatever was imported before.
    """
    for name in DECLARING:
        for module in walk_packages(import_module(name).__path__, f"{name}."):
            import_module(module.name)
    return _FUNCTIONS


def extern(prototype: Callable[Concatenate[Context, P], R]) -> KernelFn[P, R]:
    """Declare a kernel function before it is defined, as a prototype in a header does.

    The prototype has the C name and the arguments of the function, and no body: the modules that define the function
    add the bodies. So two files may call each other, and a caller need not know which allocator is built.
    """
    return _FUNCTIONS.setdefault(prototype.__name__, KernelFn(prototype.__name__))


def noted(note: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[[KernelFn[P, R]], KernelFn[P, R]]:
    """Let *note* wrap whatever body the function has on a machine, patched or not: for the model's own books."""

    def declare(function: KernelFn[P, R]) -> KernelFn[P, R]:
        function.noted = note
        return function

    return declare


def make_body(code: Callable[..., Any], name: str, file: str, profiles: Iterable[str]) -> Body:
    """A body whose calls are shown under the C name in logs and reports."""
    named: Any = code
    named.__code__ = named.__code__.replace(co_name=name)
    return Body(code, name, file, tuple(profiles))


def differences(before: str | None, profile: str) -> list[dict[str, str]]:
    """The functions that are another in *profile* than in *before*, with what they are now; none if that is None."""
    found = []
    for name, function in functions().items() if before is not None else ():
        for allocator in ALLOCATORS:
            old, new = function.body(before or "", allocator), function.body(profile, allocator)
            if old is not new:
                summary = "is gone" if new is None else new.summary or "is another function"
                found.append({"function": name, "file": (new or old or _NO_BODY).file, "summary": summary})
                break
    return found


_NO_BODY = Body(print, "", "", ())

PATCH_LOADER: ContextVar[Callable[[str, Body], KernelFn[Any, Any]] | None] = ContextVar("PATCH_LOADER", default=None)
"""While a patch file is imported: who takes its functions, which then replace nothing but on the machines it is for."""


def kernel_fn(
    name: str, file: str, *, profiles: str = "..", known_as: str | None = None
) -> Callable[[Callable[Concatenate[Context, P], R]], KernelFn[P, R]]:
    """Declare what the C function *name* of *file* is in *profiles* (see `profile_range`; all, if not said).

    *known_as* is the name that it has in those profiles, if it is another one. In a patch file it is what the function
    is with the patch.
    """

    def declare(code: Callable[Concatenate[Context, P], R]) -> KernelFn[P, R]:
        body = make_body(code, known_as or name, file, profile_range(profiles))
        loader = PATCH_LOADER.get()
        if loader is not None:
            return loader(name, body)
        function = _FUNCTIONS.setdefault(name, KernelFn(name))
        function.bodies.append(body)
        return function

    return declare


class FunctionTable(dict[KernelFn[Any, Any], Callable[..., Any]]):
    """What each kernel function is on one machine; looked up once, then kept.

    *overlays* are the functions of patches by name, the first patch first: each replaces what lies below it.
    """

    def __init__(self, profile: str, allocator: str, overlays: Iterable[Mapping[str, Body]] = ()) -> None:
        super().__init__()
        self.profile = profile
        self.allocator = allocator
        self.overlays = tuple(overlays)

    def bodies(self, function: KernelFn[Any, Any]) -> list[Body]:
        """What the function is here, and what it would be without the last patch, and so on; may be empty."""
        found = [overlay[function.name] for overlay in reversed(self.overlays) if function.name in overlay]
        base = function.body(self.profile, self.allocator)
        return found if base is None else [*found, base]

    @functools.cached_property
    def code_ids(self) -> frozenset[int]:
        """The ids of the code objects of all functions that this machine has."""
        return frozenset(id(body.code.__code__) for function in functions().values() for body in self.bodies(function))

    def below(self, function: KernelFn[P, R], code: Callable[..., Any]) -> Callable[..., Any]:
        """What *function* would be without the patch that makes it *code*."""
        codes = [body.code for body in self.bodies(function)]
        under = codes[codes.index(code) + 1 :]
        if not under:
            self._fail(function)
        return under[0]

    def watched(self, watchers: Mapping[KernelFn[Any, Any], Callable[[Context], None]]) -> FunctionTable:
        """The same functions for one machine alone, whose watchers are called with the flow at each entry into theirs.

        What is not watched costs nothing.
        """
        table = FunctionTable(self.profile, self.allocator, self.overlays)
        table.update(self)
        for function, entered in watchers.items():
            table[function] = _watched(self[function], entered)
        return table

    def __missing__(self, function: KernelFn[Any, Any]) -> Callable[..., Any]:
        bodies = self.bodies(function)
        if not bodies:
            self._fail(function)
        code = bodies[0].code
        called = self[function] = code if function.noted is None else function.noted(code)
        return called

    def _fail(self, function: KernelFn[Any, Any]) -> NoReturn:
        msg = f"{function.name}() does not exist in {self.profile} with {self.allocator}"
        raise InternalError(msg)


def _watched(code: Callable[..., Any], entered: Callable[[Context], None]) -> Callable[..., Any]:
    """*code*, of whose calls somebody is told."""

    def call(ctx: Context, *args: Any, **kwargs: Any) -> Any:
        entered(ctx)
        return code(ctx, *args, **kwargs)

    return call
