"""Ranges of kernel profiles, and the two allocators. KERNEL.md 0.2, KERNEL-v1-v3.md."""

from __future__ import annotations

from protocol.names import no_such
from protocol.vocabulary import PROFILES

ALLOCATORS: dict[str, str] = {"slub": "mm/slub.c", "slab": "mm/slab.c"}
"""The two allocators, and the C files that only one of them has."""


def profile_range(text: str) -> tuple[str, ...]:
    """The profiles that *text* names: `a`, `a..b`, `a..`, `..b`, or several with commas; ValueError if none."""
    known = list(PROFILES)
    unknown = next((name for part in text.split(",") for name in part.split("..") if name and name not in known), None)
    if unknown is not None:
        msg = f"{unknown}: {no_such('profile', unknown, known)}"
        raise ValueError(msg)
    found: list[str] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        begin = known.index(first) if first else 0
        end = known.index(last) if last else (len(known) - 1 if dots else begin)
        found += known[begin : end + 1]
    return tuple(found)
