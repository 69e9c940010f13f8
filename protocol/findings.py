"""Findings: flaws of the simulated kernel, as values."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

ORACLES: dict[str, str] = {
    "use-after-free": "a freed object was accessed; the report says where it was freed",
    "double-free": "an object was freed that was already free",
    "refcount": "a reference count went below zero, or rose from zero",
    "warn": "a WARN_ON of the kernel fired",
    "bug": "a BUG_ON of the kernel fired",
    "null-deref": "a NULL pointer was dereferenced",
    "atomic-sleep": "a function that may sleep was called with preemption, IRQs or softirqs off, or under RCU",
    "lockdep": "a lock order or context that can deadlock, a required lock that is not held, or a lock held too long",
    "deadlock": "flows wait for each other, or for an event that cannot happen, and nothing else can run",
    "livelock": "a call of a kernel function takes step after step and does not end, though nothing blocks it",
    "leak": "at quiescence an allocation is left that nothing can free any more",
    "accounting": "a page counter or a statistic is not what was charged, or went below zero",
    "invariant": "a statement about caches, memcgs, lists or inodes that has to hold does not",
    "property": "an always or eventually property of the scenario does not hold",
    "oracle": "an oracle of your own (--oracle) reports a violation",
}
"""The oracles by their stable names, each with the flaw that it reports."""

INVARIANTS: dict[str, str] = {
    "I1": "the reference count of a child cache covers its charged pages, running allocations and its own reference",
    "I3": "a cache in memcg_caches[] is alive, and so is its memcg",
    "I5": "the memcg of a cache changes under slab_mutex only, and only from a memcg to its parent",
    "I6": "a child cache is on the lists of its memcg and of its root cache, and on no other",
    "I7": "when a cache is freed nothing of it is left: no slab, allocation, callback, work or switch of its count",
    "I8": "callback and work of a cache, which share memory, are never both queued, and a queued work has a function",
    "I11": "at quiescence no lock is held",
    "I12": "every slab is in exactly one place, and its free and used objects add up",
    "I13": "a kmemcg_id belongs to one online memcg; a removed memcg has its parent's",
    "I14": "the root counts as many descendants, dying ones too, as there are cgroups",
    "I16": "a slab page of a child cache points to the memcg that it is charged to",
    "Q4": "slab_caches has every root cache and every child cache, and no other",
    "Q5": "a cache is on the list of the memcg that it belongs to",
    "Q6": "a node counts as many slab pages as it has",
    "Q8": "each LRU list counts the items that are on it, and every list with items belongs to an online memcg",
    "Q8-shrinker-bit": "reclaim finds each memcg whose LRU list has items: the shrinker's bit is set",
    "T2": "an obj_cgroup is charged to the memcg that it was made for until that is removed, then to the parent",
    "T3": "the reference count of an obj_cgroup covers its own reference and all that objects, tasks and stocks hold",
    "T6": "a place in a slab has an obj_cgroup only as long as an accounted object is in it",
    "T10": "from 6.12 on, a page is on the LRU list of its memcg and node, changed under that list's lock, and counted",
    "T9": "a slot of a stock has its own owner, not the root, and not too much; a stock that is marked is drained",
    "T17": "a free object is in its slab or in one sheaf; a slab counts those outside, and knows whether it is listed",
    "T18": "no object is in a sheaf of a cache that is freed",
    "T20": "once a task has been moved, it charges the memcg where it is, or knows that its obj_cgroup is an old one",
    "U4": "from 6.12 on, an LRU has lists for the ids of online memcgs only: removal frees the others",
    "U5": "from 6.12 on, an obj_cgroup that is not killed is the one of a memcg that is there",
    "Q10": "kmem accounting is switched on as often as there are memcgs that use it",
    "LRU list": "an item of an LRU list is on the list of its own memcg and node",
    "cgroup": "a cgroup that is not removed has the state of the memory controller",
    "dcache": "a dentry's locks, flags, lists and hash agree with each other",
    "disk": "an inode on the disk agrees with memory, unless it is dirty or being written",
    "ids": "each allocated id belongs to a live memcg or css",
    "populated": "a css counts whether its cgroup has tasks, and how many of its children have any below them",
    "rstat": "at rest, no list of changed statistics has a css that is freed",
    "inode": "at most one inode of a number is hashed, and at quiescence no inode is in a transient state",
    "list": "no live list holds freed memory",
    "node": "the lists and arrays of a node hold only memory of that node",
    "object in use": "an object that a user has allocated is not free",
    "page LRU": "a page of a file is on the LRU list of the memcg that it is charged to",
    "type-safe": "a slab of a type-safe cache is given back a grace period after its last object was freed, or later",
}
"""The invariants by their names in findings, each as a statement that has to be true.

The numbers are those of KERNEL.md 13 and, from T on, of KERNEL-today 20: I and T hold at each step, Q and U at
quiescence.
"""

_PAGES = "a memcg counts the pages that are charged in its subtree, and those in stocks of the subtree"
_BYTES = "the pages charged through an obj_cgroup are its objects, its bytes in stocks, and its rest"

BOOKS: dict[str, str] = {
    "leak:obj_cgroup reference": "each reference to an obj_cgroup is held by an object, page, task, stock or memcg",
    **{f"accounting:bytes of an obj_cgroup too {how}": _BYTES for how in ("low", "high")},
    **{f"accounting:memory usage{of} too {how}": _PAGES for of in ("", " of the root") for how in ("low", "high")},
}
"""The equations of obj_cgroups, by kind and name of the finding: KERNEL-today 20, T3, T7 and T8 at quiescence."""

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
        """The statement that has to be true, if the finding violates an invariant or an equation; else empty."""
        if self.kind == "invariant":
            return INVARIANTS.get(self.name, "")
        return BOOKS.get(f"{self.kind}:{self.name}", "")

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
