"""Ranges of kernel profiles, and the two allocators. KERNEL.md 0.2 and 7.7, KERNEL-v1-v3.md."""

from __future__ import annotations

from collections.abc import Iterable

from protocol.names import no_such
from protocol.vocabulary import KERNELS, PROFILES, STEPS, TODAY

ALLOCATORS: dict[str, str] = {"slub": "mm/slub.c", "slab": "mm/slab.c"}
"""The two allocators, and the C files that only one of them has."""

FIRST, LAST = "original", "v4"
"""The steps lead from the one profile to the other."""


def profile_range(text: str) -> tuple[str, ...]:
    """The kernels that *text* names: `a`, `a..b`, `a..`, `..b`, or several with commas; ValueError if none.

    A range with a step at an end is one of steps, which begin behind `original`; any other range has no steps.
    """
    unknown = next(
        (name for part in text.split(",") for name in part.split("..") if name and name not in KERNELS), None
    )
    if unknown is not None:
        msg = f"{unknown}: {no_such('profile', unknown, KERNELS)}"
        raise ValueError(msg)
    return tuple(name for part in text.split(",") for name in _one_range(part))


def _one_range(text: str) -> list[str]:
    first, dots, last = text.partition("..")
    known = [FIRST, *STEPS] if first in STEPS or last in STEPS else [*PROFILES, *TODAY]
    if not {first, last} <= {*known, ""}:
        msg = f"{text}: a range with a step lies between {FIRST} and {known[-1]}"
        raise ValueError(msg)
    begin = known.index(first) if first else 0
    end = known.index(last) if last else (len(known) - 1 if dots else begin)
    return known[begin : end + 1]


def declared_range(text: str) -> tuple[str, ...]:
    """The kernels of a declaration: `profile_range`, where a range over `original` and `v4` has the steps between them.

    No patch of the series has changed such a function.
    """
    named = profile_range(text)
    is_unchanged = {FIRST, LAST} <= {*named} and not {*named} & STEPS.keys()
    return (*named, *STEPS) if is_unchanged else named


def in_order(kernels: Iterable[str]) -> list[str]:
    """Each of these kernels once, the profiles first."""
    return sorted(set(kernels), key=list(KERNELS).index)


PAGES_PIN_MEMCG = profile_range("original..v4#4")
"""The kernels without references to caches: a page and a running allocation pin the memcg, which owns its caches."""

WITHOUT_REPARENTING = profile_range("original..v4#5")
"""The kernels in which the caches of a removed memcg stay with it."""

WITHOUT_CHILD_CACHES = tuple(TODAY)
"""The kernels with one set of caches: an obj_cgroup stands between an object and its memcg."""

WITH_CHILD_CACHES = tuple(name for name in KERNELS if name not in TODAY)
"""The kernels with child caches, and with a limit of kernel memory that a charge can hit."""

OBJCG_PER_NODE = profile_range("7.2..")
"""The kernels in which a memcg has an obj_cgroup for each node, and the root has them, too."""

WITH_SHEAVES = profile_range("7.2..")
"""The kernels whose SLUB has sheaves of free objects in place of CPU slabs."""

RSTAT_PER_CSS = profile_range("7.2..")
"""The kernels in which the trees of statistics are those of csses, and a css is killed after its last task."""

STOCKS_WITH_SLOTS = profile_range("7.2..")
"""The kernels in which a CPU has one stock of pages and one of bytes, each with slots for several owners."""

KEEPS_KMEMCG_ID = profile_range("7.2..")
"""The kernels in which a removed memcg keeps its kmemcg_id, instead of taking its parent's."""
