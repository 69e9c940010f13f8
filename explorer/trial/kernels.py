"""The kernels on which `bisect` looks for a flaw: profiles, steps of the series, and both with and without fixes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import attrs

from actors.fixes import FIXES
from protocol.records import PatchRecord

if TYPE_CHECKING:
    from actors.versions.patching import NamedFix
    from protocol.records import Header

Matters = Callable[[list[str]], bool]
"""Whether a fix that changes these functions can make a difference."""


@attrs.frozen
class Kernel:
    """A profile, with patches laid over it and with fixes taken out of it."""

    profile: str
    patches: tuple[PatchRecord, ...] = ()
    without: tuple[str, ...] = ()

    @classmethod
    def of(cls, header: Header) -> Kernel:
        """The kernel of a log."""
        return cls(header.kernel, header.patches, header.without)

    def __str__(self) -> str:
        changes = (*(f"+{patch.name}" for patch in self.patches), *(f"-{name}" for name in self.without))
        return " ".join([self.profile, *changes])

    def parts(self) -> Iterator[Kernel]:
        """The kernels that lack one of the changes each."""
        for at in range(len(self.patches)):
            yield attrs.evolve(self, patches=self.patches[:at] + self.patches[at + 1 :])
        for at in range(len(self.without)):
            yield attrs.evolve(self, without=self.without[:at] + self.without[at + 1 :])

    def with_fixes(self, matters: Matters) -> Iterator[tuple[str, Kernel]]:
        """Each fix that can be added, with the kernel that has it."""
        have = {patch.name for patch in self.patches}
        for fix in _fixes():
            applies = self.profile in fix.goes_into and self.profile not in fix.built_into
            if applies and fix.slug not in have and matters(fix.functions_in):
                yield fix.slug, attrs.evolve(self, patches=(*self.patches, PatchRecord(fix.slug)))

    def without_fixes(self, matters: Matters) -> Iterator[tuple[str, Kernel]]:
        """Each fix that can be taken out, with the kernel that lacks it."""
        for fix in _fixes():
            can_go = self.profile in fix.built_into and self.profile in fix.comes_out_of
            if can_go and fix.slug not in self.without and matters(fix.functions_out):
                yield fix.slug, attrs.evolve(self, without=(*self.without, fix.slug))

    def has_built_in(self, slug: str) -> bool:
        """Whether the profile has that fix, and it is not taken out."""
        return self.profile in FIXES[slug].built_into and slug not in self.without


def fix_functions() -> frozenset[str]:
    """All functions that a named fix changes."""
    return frozenset(name for fix in _fixes() for name in (*fix.functions_in, *fix.functions_out))


def _fixes() -> Iterator[NamedFix]:
    """Every named fix once: the table has it by slug and by commit id."""
    return (fix for name, fix in FIXES.items() if name == fix.slug)
