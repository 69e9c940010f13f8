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
    "invariant": "an invariant of the lifecycle does not hold (I at each step, Q at quiescence)",
    "property": "an always or eventually property of the scenario does not hold",
    "oracle": "an oracle of your own (--oracle) says that something is wrong",
}
"""The oracles by their stable names, each with what makes it speak."""

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
