"""Findings: flaws of the simulated kernel, as values."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

ORACLES: dict[str, str] = {
    "use-after-free": "a freed object was touched; says where it was freed",
    "double-free": "an object was freed that was free already",
    "refcount": "a reference count went below zero, or rose from zero",
    "warn": "a WARN_ON of the kernel fired",
    "bug": "a BUG_ON of the kernel fired",
    "null-deref": "a pointer was followed that was NULL at that moment",
    "atomic-sleep": "something that may sleep was called with preemption, IRQs or softirqs off, or under RCU",
    "lockdep": "locks were taken in an order or a context that may deadlock, or without need or right",
    "deadlock": "some flows wait for each other, and nothing else can run",
    "livelock": "a call of a kernel function goes on and on, though nothing keeps it from ending",
    "leak": "at quiescence something is allocated that nothing can free any more",
    "accounting": "a page counter or a statistic is not what was charged, or went below zero",
    "invariant": "a statement about caches, memcgs, lists or inodes that has to hold does not",
    "property": "an always or eventually property of the scenario does not hold",
    "oracle": "an oracle of your own (--oracle) says that something is wrong",
}
"""The oracles by their stable names, each with what makes it speak."""

INVARIANTS: dict[str, str] = {
    "I1": "the reference count of a child cache covers its charged pages, running allocations and its own reference",
    "I3": "a cache that memcg_caches[] leads to is alive, and so is its memcg",
    "I5": "the memcg of a cache changes under slab_mutex only, and only from a memcg to its parent",
    "I6": "a child cache is on the list of its memcg and on that of its root cache, and on no other",
    "I7": "when a cache is freed nothing of it is left: no slab, allocation, callback, work or switch of its count",
    "I8": "callback and work of a cache, which share memory, are never both queued, and a queued work has a function",
    "I11": "when nothing can run any more no lock is held",
    "I12": "every slab is in exactly one place, and its free and used objects add up",
    "I13": "a kmemcg_id belongs to one online memcg; a removed memcg has its parent's",
    "I14": "the root counts as many descendants, dying ones too, as there are cgroups",
    "I16": "a slab page of a child cache knows the memcg that it is charged to",
    "Q4": "slab_caches has every root cache and every child cache, and no other",
    "Q5": "a cache is on the list of the memcg that it belongs to",
    "Q6": "a node counts as many slab pages as it has",
    "Q8": "each LRU list counts the items that are on it, and every list with items belongs to an online memcg",
    "Q8-shrinker-bit": "reclaim knows of each memcg whose LRU list has items: the shrinker's bit is set",
    "Q10": "kmem accounting is switched on as often as there are memcgs that use it",
    "LRU list": "an item of an LRU list is on the list of its own memcg and node",
    "cgroup": "a cgroup that is not removed has the state of the memory controller",
    "dcache": "a dentry's locks, flags, lists and hash agree with each other",
    "disk": "the disk has each inode as memory has it, unless it is dirty or being written",
    "ids": "each number that was given out belongs to a live memcg or css",
    "inode": "one inode of a number is hashed at most, and no inode at rest is in the middle of something",
    "list": "no list that is alive holds memory that was freed",
    "node": "what is on the lists and in the arrays of a node is memory of that node",
    "object in use": "an object that somebody has allocated is not free",
    "page LRU": "a page of a file is on the LRU list of the memcg that it is charged to",
    "type-safe": "a slab of a type-safe cache is given back a grace period after its last object was freed, or later",
}
"""The invariants by the names that findings have, each with what has to be true.

A number is that of KERNEL.md 13: I holds at each step, Q when nothing can run any more.
"""

FATAL = frozenset({"use-after-free", "double-free", "bug", "null-deref", "deadlock", "livelock"})
"""Kinds after which the machine's state is meaningless: the run ends there."""

NOWHERE = frozenset({"deadlock", "property", "oracle"})
"""Kinds without a function: no single function is to blame for a cycle, a broken property, or a user's oracle."""


Natural = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
"""A number in logs: zero or more, within a signed 64-bit integer."""


class Finding(Struct, frozen=True, forbid_unknown_fields=True):
    """One flaw of the simulated kernel, as the run showed it.

    `name` identifies it (the WARN_ON's site, the invariant's number, the object's type, the cycle of a deadlock).
    `function` is the kernel function that was running, `stack` its callers (innermost first). `details` are the
    kernel-style lines below the headline, such as the free of the object or the holder of a reference.
    """

    kind: str
    name: str
    message: str
    step: Natural
    time: Natural
    function: str
    flow: str
    cpu: Natural | None = None
    stack: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    count: Annotated[int, Meta(ge=1)] = 1

    @property
    def signature(self) -> str:
        """Same flaw, same signature, whatever the schedule: kind, name, and the function to blame, if there is one."""
        return f"{self.kind}:{self.name}:{self.function}"

    @property
    def meaning(self) -> str:
        """What has to be true, if the finding is an invariant of ours that does not hold; empty otherwise."""
        return INVARIANTS.get(self.name, "") if self.kind == "invariant" else ""

    @property
    def is_fatal(self) -> bool:
        """Whether the run ends with it."""
        return self.kind in FATAL


class Oops(Exception):  # noqa: N818 -- the kernel's word; it ends the flow and becomes a Finding
    """Ends the flow that raises it, as BUG() does; carries kind, name and text of the finding."""

    def __init__(self, kind: str, name: str, message: str, *details: str) -> None:
        super().__init__(message)
        if kind not in ORACLES:
            msg = f"there is no oracle {kind!r}"
            raise ValueError(msg)
        self.kind = kind
        self.name = name
        self.message = message
        self.details = details
