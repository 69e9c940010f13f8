"""Kernel functions and the profile table.

`@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="v4..v7")` declares what a C function is in some kernel
versions. Whoever calls it by its name here calls through the table of the machine that the caller runs on, so a version
or a patch replaces exactly one function, and all its callers follow. A function without a body in a profile does
not exist there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

import attrs

from protocol.errors import InternalError

if TYPE_CHECKING:
    from actors.kernel.context import Context

P = ParamSpec("P")
R = TypeVar("R")

PROFILES: dict[str, str] = {
    "original": "Linux 5.2: a child cache lives as long as its memcg, and its pages pin the memcg",
    "5.3": "Linux 5.3.1: child caches are reparented on offline, and go with their last page",
}
"""The kernel profiles by name, oldest first, each with what distinguishes it."""


def profile_range(text: str) -> tuple[str, ...]:
    """The profiles that *text* names: `a`, `a..b`, `a..`, `..b`, or several of these with commas."""
    known = list(PROFILES)
    found: list[str] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        begin = known.index(first) if first else 0
        end = known.index(last) if last else (len(known) - 1 if dots else begin)
        found += known[begin : end + 1]
    return tuple(found)


@attrs.frozen
class Body:
    """What a function is in some profiles: the code, and its summary for those who compare versions."""

    code: Callable[..., Any]
    profiles: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The first line of the docstring; empty if there is none."""
        return (self.code.__doc__ or "").strip().partition("\n")[0]


class KernelFn(Generic[P, R]):
    """One kernel function: its C name, its file, and its bodies by profile. Calling it runs the machine's body."""

    def __init__(self, name: str, file: str) -> None:
        self.name = name
        self.file = file
        self.bodies: dict[str, Body] = {}

    def __repr__(self) -> str:
        return f"<kernel function {self.name}, {self.file}>"

    def __call__(self, ctx: Context, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = ctx.machine.functions[self](ctx, *args, **kwargs)
        return result

    def declare(self, code: Callable[..., Any], profiles: Iterable[str]) -> None:
        """Let this function be *code* in *profiles*; logs and reports show it under its C name."""
        body = Body(code, tuple(profiles))
        for profile in body.profiles:
            if profile in self.bodies:
                msg = f"{self.name} is declared twice for profile {profile}"
                raise InternalError(msg)
            self.bodies[profile] = body
        named: Any = code
        named.__code__ = named.__code__.replace(co_name=self.name)


FUNCTIONS: dict[str, KernelFn[Any, Any]] = {}
"""Every kernel function by its C name, in the order of declaration."""


def kernel_fn(
    name: str, file: str, *, profiles: str = ".."
) -> Callable[[Callable[Concatenate[Context, P], R]], KernelFn[P, R]]:
    """Declare what the C function *name* of *file* is in *profiles* (see `profile_range`; all, if not said)."""

    def declare(code: Callable[Concatenate[Context, P], R]) -> KernelFn[P, R]:
        function = FUNCTIONS.setdefault(name, KernelFn(name, file))
        assert function.file == file, f"{name} is in {function.file} and in {file}"
        function.declare(code, profile_range(profiles))
        return function

    return declare


@attrs.define(eq=False, init=False)
class FunctionTable(dict[KernelFn[Any, Any], Callable[..., Any]]):
    """What each kernel function is on one machine; looked up once, then kept."""

    profile: str

    def __init__(self, profile: str) -> None:
        super().__init__()
        self.profile = profile

    def __missing__(self, function: KernelFn[Any, Any]) -> Callable[..., Any]:
        body = function.bodies.get(self.profile)
        if body is None:
            msg = f"{function.name}() does not exist in {self.profile}"
            raise InternalError(msg)
        self[function] = body.code
        return body.code
