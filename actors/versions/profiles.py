"""The kernel versions that the model knows, and ranges of them. KERNEL.md 0.2, KERNEL-v1-v3.md."""

from __future__ import annotations

from protocol.names import no_such

PROFILES: dict[str, str] = {
    "original": "Linux 5.2.1: a child cache lives as long as its memcg, and its pages pin the memcg",
    "v1": "17 Apr 2019: caches have an atomic reference count and are reparented by their deferred work",
    "v2": "23 Apr 2019: percpu_ref, held during allocations; all caches are reparented at once, at offline",
    "v3": "8 May 2019: the cache is looked up and pinned under RCU, without a reference to the memcg",
    "v4": "14 May 2019: charges go to the first online ancestor; a spinlock round the dying flag",
    "v5": "21 May 2019: the unbalanced rcu_read_lock() of v3 and v4 is gone",
    "v6": "4 Jun 2019: the lock is irq-safe and covers every test of dying; shutdown is queued at once",
    "v7": "11 Jun 2019: creation no longer tests dying; the memcg pointer is read with READ_ONCE()",
    "5.3": "Linux 5.3.1: v7 as merged, with the fixes of the summer of 2019",
    "5.4-fixed": "Linux 5.4.286: with the fixes that came afterwards",
}
"""The kernel profiles by name, oldest first, each with what distinguishes it."""

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
