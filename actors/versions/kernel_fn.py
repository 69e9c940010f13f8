"""Kernel functions and the profile table.

`@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="v6..v7")` declares the body of a C function in some kernel
versions. A call of its Python name goes through the function table of the caller's machine. So a version or a patch
replaces exactly one function, and the change reaches all its callers. A function without a body in a profile does not
exist there.

Two allocators implement the same functions, in mm/slub.c and mm/slab.c; a machine has one of them.
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

from actors.versions.profiles import ALLOCATORS, declared_range
from protocol.errors import InternalError
from protocol.vocabulary import GONE, KERNELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from actors.machine.context import Context

P = ParamSpec("P")

R = TypeVar("R")

_TAGS = re.compile(
    r"^(\[[\w.#-]+\](,| to)? ?)+:? *|^(KERNEL\.md )?[A-Z]?\d[\d.]*[a-z]?( to [\w.]*\w)?( and [\w.]*\w)?[.:] *"
)

_MARKS = (("[O]", "original"), ("[M]", "5.3"), ("[54]", "5.4-fixed"), *((f"[{name}]", name) for name in KERNELS))
_SECTIONS = re.compile(r" \([A-Z]?\d+(?:\.\d+)*\)")


@attrs.frozen
class Body:
    """One version of a function: its code, its file, its C name, and the profiles that have it."""

    code: Callable[..., Any]
    name: str
    file: str
    profiles: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The first line of the docstring, readable by itself: without sections, with versions by name.

        It may be empty.
        """
        text = _TAGS.sub("", (self.code.__doc__ or "").strip().partition("\n")[0])
        for mark, profile in _MARKS:
            text = text.replace(mark, profile)
        text = _SECTIONS.sub("", text)
        return text[:1].upper() + text[1:] if text[:1].islower() and "_" not in text.partition(" ")[0] else text

    def is_built(self, allocator: str) -> bool:
        """Whether a machine with that allocator contains this file."""
        return self.file not in ALLOCATORS.values() or self.file == ALLOCATORS[allocator]


class KernelFn(Generic[P, R]):
    """One kernel function: its C name, and its bodies by profile and allocator. A call runs the machine's body.

    `noted` (optional) wraps that body with code of the shadow accounting that records each call.
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
        """The body in *profile*; None if the function does not exist there."""
        for body in self.bodies:
            if profile in body.profiles and body.is_built(allocator):
                return body
        return None


_FUNCTIONS: dict[str, KernelFn[Any, Any]] = {}

DECLARING = ("actors.linux", "actors.files")
"""The packages with modules that declare kernel functions."""


@functools.cache
def functions() -> Mapping[str, KernelFn[Any, Any]]:
    """Every kernel function by its C name (the name in the youngest profile), in the order of declaration.

    The first call imports every declaring module. So a name means the same in a command, a library call and a worker
    process, whichever modules were imported before.
    """
    for name in DECLARING:
        for module in walk_packages(import_module(name).__path__, f"{name}."):
            import_module(module.name)
    return _FUNCTIONS


def extern(prototype: Callable[Concatenate[Context, P], R]) -> KernelFn[P, R]:
    """Declare a kernel function before it is defined, as a prototype in a header does.

    The prototype has the C name and the arguments of the function, and no body; the modules that define the function
    add the bodies. So two files may call each other, and a caller need not know which allocator is built.
    """
    _refuse_in_a_user_s_file("extern")
    return _FUNCTIONS.setdefault(prototype.__name__, KernelFn(prototype.__name__))


def noted(note: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[[KernelFn[P, R]], KernelFn[P, R]]:
    """Wrap the function's body on every machine, patched or not, with *note*: for the shadow accounting."""
    _refuse_in_a_user_s_file("noted")

    def declare(function: KernelFn[P, R]) -> KernelFn[P, R]:
        function.noted = note
        return function

    return declare


def _refuse_in_a_user_s_file(word: str) -> None:
    if PATCH_LOADER.get() is not None:
        msg = f"@{word} is for slabrace's own modules; a patch declares its functions with @kernel_fn"
        raise TypeError(msg)


def make_body(code: Callable[..., Any], name: str, file: str, profiles: Iterable[str]) -> Body:
    """A body whose code object carries the C name, so logs and reports show calls under that name."""
    named: Any = code
    named.__code__ = named.__code__.replace(co_name=name)
    return Body(code, name, file, tuple(profiles))


def differences(before: str | None, profile: str) -> list[dict[str, str]]:
    """The functions whose body in *profile* differs from the one in *before*, each with a summary.

    Without *before* there are none.
    """
    found = []
    for name, function in functions().items() if before is not None else ():
        for allocator in ALLOCATORS:
            old, new = function.body(before or "", allocator), function.body(profile, allocator)
            if old is not new:
                summary = GONE if new is None else new.summary or "has another body"
                found.append({"function": name, "file": (new or old or _NO_BODY).file, "summary": summary})
                break
    return found


_NO_BODY = Body(print, "", "", ())

PATCH_LOADER: ContextVar[Callable[[str, Body], KernelFn[Any, Any]] | None] = ContextVar("PATCH_LOADER", default=None)
"""During the import of a patch file: the receiver of its functions, which replace bodies on patched machines only."""


def kernel_fn(
    name: str, file: str, *, profiles: str = "..", known_as: str | None = None
) -> Callable[[Callable[Concatenate[Context, P], R]], KernelFn[P, R]]:
    """Declare the body of the C function *name* of *file* in *profiles* (default: all; see `declared_range`).

    *known_as* is its name in those profiles, if it differs. In a patch file, declare the body with the patch.
    """

    def declare(code: Callable[Concatenate[Context, P], R]) -> KernelFn[P, R]:
        body = make_body(code, known_as or name, file, declared_range(profiles))
        loader = PATCH_LOADER.get()
        if loader is not None:
            return loader(name, body)
        function = _FUNCTIONS.setdefault(name, KernelFn(name))
        function.bodies.append(body)
        return function

    return declare


class FunctionTable(dict[KernelFn[Any, Any], Callable[..., Any]]):
    """The body of each kernel function on one machine; looked up once, then kept.

    *overlays* are the functions of patches by name, the first patch first: each replaces the bodies below it.
    """

    def __init__(self, profile: str, allocator: str, overlays: Iterable[Mapping[str, Body]] = ()) -> None:
        super().__init__()
        self.profile = profile
        self.allocator = allocator
        self.overlays = tuple(overlays)

    def bodies(self, function: KernelFn[Any, Any]) -> list[Body]:
        """The body of the function here, then the body below the last patch, and so on; may be empty."""
        found = [overlay[function.name] for overlay in reversed(self.overlays) if function.name in overlay]
        base = function.body(self.profile, self.allocator)
        return found if base is None else [*found, base]

    @functools.cached_property
    def code_ids(self) -> frozenset[int]:
        """The ids of the code objects of all functions of this machine."""
        return frozenset(id(body.code.__code__) for function in functions().values() for body in self.bodies(function))

    def below(self, function: KernelFn[P, R], code: Callable[..., Any]) -> Callable[..., Any]:
        """The body of *function* without the patch that supplies *code*."""
        codes = [body.code for body in self.bodies(function)]
        under = codes[codes.index(code) + 1 :]
        if not under:
            self._fail(function)
        return under[0]

    def watched(self, watchers: Mapping[KernelFn[Any, Any], Callable[[Context], None]]) -> FunctionTable:
        """The same functions for one machine alone, with a watcher call at each entry into a watched function.

        A watcher receives the flow. Functions without a watcher run at full speed.
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
    """*code*, with a call of *entered* before each call."""

    def call(ctx: Context, *args: Any, **kwargs: Any) -> Any:
        entered(ctx)
        return code(ctx, *args, **kwargs)

    return call
