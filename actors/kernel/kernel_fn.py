"""Kernel functions and the profile table.

`@kernel_fn("mm/slab_common.c")` makes a function replaceable: every call goes through the table of the machine
it runs on, so that a kernel version (`fn.variant("original")`) or a patch replaces exactly one function and
all its callers follow. The plain function is what 5.3 does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

import attrs

if TYPE_CHECKING:
    from actors.kernel.context import Context

P = ParamSpec("P")
R = TypeVar("R")

PROFILES: dict[str, str] = {
    "original": "Linux 5.2: a child cache lives as long as its memcg, and its pages pin the memcg",
    "5.3": "Linux 5.3.1: child caches are reparented on offline, and go with their last page",
}
"""The kernel profiles by name, each with what distinguishes it."""


class KernelFn(Generic[P, R]):
    """One kernel function: its C name, its file, its body and the variants of other profiles."""

    def __init__(self, body: Callable[Concatenate[Context, P], R], file: str) -> None:
        self.name = body.__name__
        self.file = file
        self.body = body
        self.variants: dict[str, Callable[Concatenate[Context, P], R]] = {}
        self.__doc__ = body.__doc__
        self.__module__ = body.__module__

    def __call__(self, ctx: Context, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = ctx.machine.functions[self](ctx, *args, **kwargs)
        return result

    def variant(
        self, *profiles: str
    ) -> Callable[[Callable[Concatenate[Context, P], R]], Callable[Concatenate[Context, P], R]]:
        """Declare what this function is in *profiles*; logs and reports show it under its C name."""

        def declare(
            body: Callable[Concatenate[Context, P], R],
        ) -> Callable[Concatenate[Context, P], R]:
            function: Any = body
            function.__code__ = function.__code__.replace(co_name=self.name)
            self.variants.update(dict.fromkeys(profiles, body))
            return body

        return declare


def kernel_fn(
    file: str,
) -> Callable[[Callable[Concatenate[Context, P], R]], KernelFn[P, R]]:
    """Declare a kernel function of C source *file*; its name is the C name."""

    def declare(body: Callable[Concatenate[Context, P], R]) -> KernelFn[P, R]:
        return KernelFn(body, file)

    return declare


@attrs.define(eq=False, init=False)
class FunctionTable(dict[KernelFn[Any, Any], Callable[..., Any]]):
    """What each kernel function is on one machine; looked up once, then kept."""

    profile: str

    def __init__(self, profile: str) -> None:
        super().__init__()
        self.profile = profile

    def __missing__(self, function: KernelFn[Any, Any]) -> Callable[..., Any]:
        body = self[function] = function.variants.get(self.profile, function.body)
        return body
