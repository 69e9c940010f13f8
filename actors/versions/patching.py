"""Patches: changes of some kernel functions, laid over a profile. docs/patches.md is the guide.

A user's patch is a Python file that declares functions as the kernel modules do:

    from actors.versions.patching import kernel_fn, unpatched

    @kernel_fn("kmemcg_workfn", "mm/slab_common.c")
    async def kmemcg_workfn(ctx, work):
        await unpatched(ctx, kmemcg_workfn, work)      # the body below the patch
        ...

Named fixes are the upstream commits of `fixes`. A fix can be added to profiles that lack it, and removed from profiles
that have it.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import attrs

from actors.versions.kernel_fn import Body, KernelFn, functions, kernel_fn, make_body
from actors.versions.patch_rules import GUARDS, guarded
from actors.versions.profiles import declared_range, in_order
from actors.versions.user_code import parse_reference, read_code, run_code
from protocol.errors import BrokenRuleError, UsageError
from protocol.names import do_you_mean, no_such
from protocol.records import PatchRecord

if TYPE_CHECKING:
    from actors.machine.context import Context

__all__ = ("NamedFix", "Patch", "kernel_fn", "make_patch", "unpatched")

P = ParamSpec("P")

R = TypeVar("R")


def unpatched(ctx: Context, function: KernelFn[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call the body of *function* below the patch that makes this call: for patches that extend a function.

    The call may stand in a helper of the patched function; BrokenRuleError if that function is not running.
    """
    table = ctx.machine.functions
    bodies = {body.code.__code__: body.code for body in table.bodies(function)}
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code not in bodies:
        frame = frame.f_back
    if frame is None:
        msg = f"unpatched() works only inside a patch's {function.name}(), which is not running here"
        raise BrokenRuleError(msg)
    result: R = table.below(function, bodies[frame.f_code])(ctx, *args, **kwargs)
    return result


@attrs.frozen(eq=False)
class Patch:
    """Some functions to lay over a profile, and their entry in logs."""

    record: PatchRecord
    bodies: Mapping[str, Body]

    @property
    def path(self) -> str:
        """The file of the patch; empty for named fixes, which are part of slabrace."""
        return self.record.file


def copy_of(code: Callable[..., Any]) -> Callable[..., Any]:
    """The same function once more, with the same globals."""
    assert isinstance(code, types.FunctionType)
    return types.FunctionType(code.__code__, code.__globals__, code.__name__, code.__defaults__, code.__closure__)


@attrs.define(eq=False)
class NamedFix:
    """An upstream fix, or a known variation, by slug and (if it has one) commit id.

    `built_into` are the profiles that have it. It can be removed from those, and added to the other profiles for which
    it declares functions.
    """

    slug: str
    commit: str
    summary: str
    built_into: tuple[str, ...]
    _in: list[tuple[str, Body]] = attrs.field(factory=list, init=False)
    _out: list[tuple[str, Body]] = attrs.field(factory=list, init=False)

    def puts_in(
        self, name: str, file: str, *, profiles: str, known_as: str | None = None
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a function with the fix, for profiles that lack the fix.

        There its name is *known_as* (default: *name*); a body of another profile gets that name here only.
        """
        return self._declare(self._in, name, file, profiles, known_as or name)

    def takes_out(
        self, name: str, file: str, *, profiles: str, known_as: str | None = None
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a function without the fix, for profiles that have the fix; *known_as* is its name there."""
        return self._declare(self._out, name, file, profiles, known_as or name)

    @property
    def goes_into(self) -> list[str]:
        """The profiles to which it can be added."""
        return in_order(p for _, body in self._in for p in body.profiles)

    @property
    def comes_out_of(self) -> list[str]:
        """The profiles from which it can be removed."""
        return in_order(p for _, body in self._out for p in body.profiles)

    @property
    def functions_in(self) -> list[str]:
        """The functions that change when it is added."""
        return list(dict.fromkeys(name for name, _ in self._in))

    @property
    def functions_out(self) -> list[str]:
        """The functions that change when it is removed."""
        return list(dict.fromkeys(name for name, _ in self._out))

    @staticmethod
    def _declare(
        where: list[tuple[str, Body]], name: str, file: str, profiles: str, known_as: str
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def declare(code: Callable[..., Any]) -> Callable[..., Any]:
            own = code if known_as == name else copy_of(code)
            where.append((name, make_body(own, known_as, file, declared_range(profiles))))
            return code

        return declare

    def added_to(self, profile: str) -> Patch:
        """The patch that adds this fix to *profile*; UsageError if the profile has it, or if the fix does not apply."""
        if profile in self.built_into:
            msg = f"--patch {self.slug}: {profile} has that fix already; --without takes it out"
            raise UsageError(msg)
        return self._select(self._in, profile, f"--patch {self.slug}", self.slug)

    def removed_from(self, profile: str) -> Patch:
        """The patch that removes this fix from *profile*; UsageError if the profile does not have it."""
        if profile not in self.built_into:
            having = ", ".join(self.built_into) or "no profile"
            msg = f"--without {self.slug}: {profile} does not have that fix; {having} has it"
            raise UsageError(msg)
        return self._select(self._out, profile, f"--without {self.slug}", f"without {self.slug}")

    def _select(self, where: list[tuple[str, Body]], profile: str, option: str, name: str) -> Patch:
        bodies = {function: body for function, body in where if profile in body.profiles}
        if not bodies:
            known = in_order(p for _, body in where for p in body.profiles)
            msg = f"{option}: does not apply to {profile}; it applies to {', '.join(known) or 'no profile'}"
            raise UsageError(msg)
        return Patch(PatchRecord(name), bodies)


# -- a user's file ----------------------------------------------------------------------------------------------------


class NotForThisMachineError(UsageError):
    """A patch file that declares no function of this kind of machine; it may declare some for another kind."""


def make_patch(record: PatchRecord, profile: str, allocator: str) -> Patch:
    """Run the text of a patch for one kind of machine; UsageError with file and line if that fails."""
    checker = Checker(Path(record.file), profile, allocator)
    run_code(record, "patch", option="--patch ", take=checker.take, change=guarded, names=GUARDS)
    if not checker.bodies:
        msg = (
            f"--patch {record.file}: it declares no function for {profile}; use @kernel_fn(NAME, FILE[, profiles=...])"
        )
        raise NotForThisMachineError(msg)
    return Patch(record, checker.bodies)


@attrs.define
class Checker:
    """Accepts the functions of a patch file, and refuses those that do not fit the machine."""

    path: Path
    profile: str
    allocator: str
    bodies: dict[str, Body] = attrs.field(factory=dict)

    def take(self, name: str, body: Body) -> KernelFn[Any, Any]:
        """Check one declaration. A declaration for other profiles has no effect."""
        function = functions().get(name) or next((f for f in functions().values() if name in _names(f)), None)
        if function is None:
            self._fail(body, f"there is no kernel function {name!r}{do_you_mean(name, functions())}")
        if self.profile in body.profiles and body.is_built(self.allocator):
            self._check(function, body)
            self.bodies[function.name] = body
        return function

    def _check(self, function: KernelFn[Any, Any], body: Body) -> None:
        old = function.body(self.profile, self.allocator)
        if old is None:
            having = in_order(p for b in function.bodies for p in b.profiles)
            self._fail(body, f"{self.profile} has no {function.name}(); {', '.join(having)} have it")
        if old.file != body.file:
            self._fail(body, f"{function.name}() is in {old.file}, not in {body.file}")
        if inspect.isgeneratorfunction(body.code) or inspect.isasyncgenfunction(body.code):
            self._fail(body, f"{function.name}() must not yield; it waits with await")
        if inspect.iscoroutinefunction(old.code) != inspect.iscoroutinefunction(body.code):
            wanted = "async def" if inspect.iscoroutinefunction(old.code) else "def"
            self._fail(body, f"{function.name}() must be declared with {wanted!r}")
        if not body.name.isidentifier():
            self._fail(body, f"{function.name}() cannot be known as {body.name!r}, which is not a C name")
        if not _takes_every_call(body.code, old.code):
            self._fail(body, f"{function.name}() takes {_bare(old.code)}, not {_bare(body.code)}")

    def _fail(self, body: Body, text: str) -> NoReturn:
        msg = f"--patch {self.path}, line {body.code.__code__.co_firstlineno}: {text}"
        raise UsageError(msg)


def _bare(code: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function, without types and defaults."""
    signature = inspect.signature(code)
    bare = [each.replace(annotation=each.empty, default=each.empty) for each in signature.parameters.values()]
    return signature.replace(parameters=bare, return_annotation=signature.empty)


def _takes_every_call(new: Callable[..., Any], old: Callable[..., Any]) -> bool:
    """Whether *new* accepts every call that *old* accepts: as many arguments by position, and the same by name."""
    parameters, signature = inspect.signature(old).parameters.values(), inspect.signature(new)
    by_place = [each for each in parameters if each.kind is not each.KEYWORD_ONLY]
    by_name = {each.name: None for each in parameters if each.kind is each.KEYWORD_ONLY}
    needed = sum(each.default is each.empty for each in by_place)
    try:
        for count in range(needed, len(by_place) + 1):
            signature.bind(*[None] * count, **by_name)
    except TypeError:
        return False
    return True


def _names(function: KernelFn[Any, Any]) -> set[str]:
    """All C names that a function has had."""
    return {body.name for body in function.bodies}


def find_patches(
    wanted: Iterable[PatchRecord], without: Iterable[str], fixes: Mapping[str, NamedFix], profile: str, allocator: str
) -> Iterator[Patch]:
    """The patches of `--patch` and `--without` for that kind of machine; UsageError if one is given twice."""
    wanted, without = list(wanted), list(without)
    _check_none_twice("--without", [(name, fixes.get(name) or name) for name in without])
    _check_none_twice(
        "--patch", [(one.path or one.name, fixes.get(one.name) or one.sha256 or one.name) for one in wanted]
    )
    for name in without:
        if name not in fixes:
            msg = f"--without {name}: {no_such('fix', name, fixes, see='slabrace list patches')}"
            raise UsageError(msg)
        yield fixes[name].removed_from(profile)
    for record in wanted:
        is_fix = record.name in fixes
        if is_fix and record.is_code:
            msg = f"--patch {record.path}: {record.name} is the name of a built-in fix; rename the file"
            raise UsageError(msg)
        if not (is_fix or record.is_code):
            msg = f"--patch {record.name}: {no_such('fix', record.name, fixes, see='slabrace list patches')}"
            raise UsageError(msg)
        yield fixes[record.name].added_to(profile) if is_fix else make_patch(record, profile, allocator)


def name_patch(name: str, fixes: Iterable[str]) -> PatchRecord:
    """The patch that `--patch` names: a fix by slug or commit id, or a file, which is read.

    UsageError if it is neither.
    """
    named = parse_reference(name, fixes)
    if name in fixes:
        return PatchRecord(name)
    if named.file and not named.member:
        return read_code(PatchRecord, Path(named.file), option="--patch ")
    msg = f"--patch {name}: {no_such('fix or file', name, fixes, see='slabrace list patches')}"
    raise UsageError(msg)


def _check_none_twice(option: str, named: Sequence[tuple[str, object]]) -> None:
    """UsageError if one thing is given twice, by the same name or by two names."""
    things = [thing for _, thing in named]
    twice = next((name for at, (name, thing) in enumerate(named) if thing in things[:at]), None)
    if twice is not None:
        msg = f"{option} {twice}: it is given twice"
        raise UsageError(msg)
